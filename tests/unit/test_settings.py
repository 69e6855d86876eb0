"""Settings that are written in more than one way, and what is refused."""

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from settings import (
    AUTOMATIC,
    LogLevel,
    Settings,
    WrittenSettings,
    groups,
    load_settings,
    names_of,
    unknown_variables,
)
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://app.example", "https://app.example"),
        ("  https://app.example  ", "https://app.example"),
        ("https://app.example/", "https://app.example"),
        ("HTTPS://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80/", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://localhost:03000", "http://localhost:3000"),
        ("http://[0:0::1]:8080", "http://[::1]:8080"),
        ("https://münchen.example", "https://xn--mnchen-3ya.example"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
    ],
)
def test_origin_is_read_as_browsers_write_it(written: str, read: str) -> None:
    assert Settings(trusted_origins=[written]).server.trusted_origins == [read]
    # It stays what it is when it is read again.
    assert Settings(trusted_origins=[read]).server.trusted_origins == [read]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("*", "wildcards"),
        ("https://*.app.example", "wildcards"),
        ("app.example", "with its scheme"),
        ("app.example:443", "with its scheme"),
        ("//app.example", "with its scheme"),
        ("null", "with its scheme"),
        ("https:app.example", "with its scheme"),
        ("https://app.example/path", "nothing more"),
        ("https://app.example?a", "nothing more"),
        ("https://app.example#a", "nothing more"),
        ("https://user@app.example", "nothing more"),
        ("wss://app.example", "http:// or https://"),
        ("file:///index.html", "http:// or https://"),
        ("https://", "not a name"),
        ("https://a..b", "not a name"),
        ("https://a b", "not a name"),
        ("https://a\x00b", "not a name"),
        ("https://a:99999", "range"),
        ("https://a:b", "b"),
        ("https://[::1", "IPv6"),
        ("https://[x::y]", "IPv6|IPv4"),
        ("https://straße.example", "ASCII form"),
    ],
)
def test_what_is_no_origin_is_refused_with_the_reason(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)trusted_origins: .*{reason}"):
        Settings(trusted_origins=["https://good.example", written])


@pytest.mark.parametrize(
    "written",
    [" https://a.example , https://b.example,,", ["https://a.example", " https://b.example/"]],
)
def test_list_may_have_spaces_and_empty_items(written: Any) -> None:
    origins = Settings(trusted_origins=written).server.trusted_origins
    assert origins == ["https://a.example", "https://b.example"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (" rs256 , ES256", ["RS256", "ES256"]),
        (["eddsa", "EdDSA"], ["EdDSA"]),
        ("AUTO", [AUTOMATIC]),
        (Settings().auth.jwt_algorithms, [AUTOMATIC]),
    ],
)
def test_names_of_algorithms_are_normalised(written: Any, read: list[str]) -> None:
    assert Settings(jwt_algorithms=written).auth.jwt_algorithms == read


@pytest.mark.parametrize(
    "written", ["", " , ", [], "none", "None", "HS256,none", "RS257", "auto,HS256", "HS256;RS256"]
)
def test_algorithms_that_there_are_not_are_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="jwt_algorithms: "):
        Settings(jwt_algorithms=written)


@pytest.mark.parametrize(
    "url",
    ["keys.json", "file:///keys", "ftp://a/", "https://", "https://a:x/", "https://a b/", "a://b"],
)
def test_address_of_keys_is_one_of_the_web(url: str) -> None:
    with pytest.raises(ValueError, match="jwt_jwks_url: must be"):
        Settings(jwt_jwks_url=url)
    assert Settings(jwt_jwks_url="https://a/keys").auth.jwt_jwks_url == "https://a/keys"


def test_variable_that_no_setting_has_is_found_with_what_was_meant() -> None:
    environment = {
        "RT_PROT": "1",
        "RT_JWT_SECRETS": "x",
        "RT_ENTIRELY_DIFFERENT_THING": "",
        "RT_PORT": "1",
        "RT_CONFIG": "x",
        "RT_REQUIRE_PROGRAMS": "1",
        "RT_FAULT_SEED": "1",
        "RT_MAIN": ".",
        "RT_PYTHON": "x",
        "RT_HOSTILE": "x",
        "HOME": "/",
        "ART_WORK": "x",
    }
    assert unknown_variables(environment) == {
        "RT_ENTIRELY_DIFFERENT_THING": "",
        "RT_JWT_SECRETS": "RT_JWT_SECRET",
        "RT_PROT": "RT_PORT",
    }


@pytest.mark.parametrize("written", [5, [5], {"a": 1}, [["a"]], None, True])
def test_list_of_something_else_is_refused(written: Any) -> None:
    for name in ("trusted_origins", "jwt_algorithms"):
        with pytest.raises(ValueError, match="must be a list of texts"):
            Settings(**{name: written})


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("drain_seconds", 36500 * 86400),
        ("peer_timeout_seconds", 36500 * 86400),
        ("ticket_ttl_seconds", 36500 * 86400),
        ("notification_ttl_days", 36500),
        ("queue_max_attempts", 10**15 - 1),
        ("task_max_attempts", 10**15 - 1),
        ("requests_per_second", 2**53),
        ("max_body_bytes", 2**53),
    ],
)
@pytest.mark.parametrize("beyond", [1, float("inf"), float("nan")])
def test_number_that_no_clock_or_store_can_hold_is_refused(
    name: str, most: int, beyond: float
) -> None:
    values: dict[str, Any] = {name: most}
    assert Settings(**values).value(name) == most
    with pytest.raises(ValueError, match=name):
        Settings(**{name: most + beyond})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("port = 1.5", "must be a whole number"),
        ("port = true", "must be a whole number"),
        ("port = [1]", "must be a whole number"),
        ('port = "1e3"', "must be a whole number"),
        ("drain_seconds = false", "must be a number"),
        ('drain_seconds = ""', "must be a number"),
        ("demo_login = 2", "must be true or false"),
        ("demo_login = []", "must be true or false"),
        ("log_level = 1", "must be one of DEBUG, INFO, WARNING, ERROR"),
        ('data_dir = ""', "data_dir: name a folder"),
    ],
)
def test_value_of_another_kind_is_refused_in_words(
    line: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not taken for the nearest that would fit."""
    file = tmp_path / "rt.toml"
    monkeypatch.setenv("RT_CONFIG", str(file))
    file.write_text(
        '[tornado_rt]\nport = "1"\ndrain_seconds = 1\ndemo_login = "Yes"\nlog_level = "info"\n'
    )
    read = load_settings()
    assert (read.server.port, read.server.drain_seconds, read.auth.demo_login) == (1, 1.0, True)
    assert read.server.log_level is LogLevel.INFO
    file.write_text(f"[tornado_rt]\n{line}\n")
    with pytest.raises(ExceptionGroup) as refused:
        load_settings()
    assert reason in str(refused.value.exceptions[0])


@pytest.mark.parametrize(
    ("written", "read"),
    [("", []), ("mywork", ["mywork"]), (" mywork, other.module ,", ["mywork", "other.module"])],
)
def test_kinds_are_a_list_of_modules(
    written: str, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RT_KINDS", written)
    assert load_settings().workers.kinds == read


def test_no_handler_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is no analysis."""
    assert load_settings().workers.worker_handler == "examples.stock_analysis:analyse"
    monkeypatch.setenv("RT_WORKER_HANDLER", "")
    assert load_settings().workers.worker_handler == ""


def test_page_of_settings_names_each_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults of docs/settings.md, read as variables, are the default settings."""
    page = (ROOT / "docs/settings.md").read_text()
    rows = re.findall(r"^\| `(RT_\w+)` \|(.*?)\| \S", page, re.MULTILINE)
    names = [f"RT_{field.name.upper()}" for field in attrs.fields(WrittenSettings)]
    assert sorted(name for name, _ in rows) == sorted(names)
    for name, default in rows:
        monkeypatch.setenv(name, default.strip())
    monkeypatch.delenv("RT_CONFIG", raising=False)
    assert attrs.asdict(load_settings()) == attrs.asdict(Settings())


def test_settings_are_taken_by_their_names_and_read_by_their_groups() -> None:
    first = Settings(port=1, queue_user_limit=7, kinds=["jobs"])
    assert (first.server.port, first.queue.queue_user_limit, first.workers.kinds) == (
        1,
        7,
        ["jobs"],
    )
    second = first.changed(port=2, smtp_url="smtp://mail.example", smtp_from="a@b.example")
    assert (second.server.port, second.queue) == (2, first.queue)
    assert second.email.smtp_from == "a@b.example"
    assert first.server.port == 1
    assert attrs.evolve(second, server=first.server).server.port == 1
    assert [second.value(name) for name in ("port", "kinds")] == [2, ["jobs"]]


@pytest.mark.parametrize("name", ["prot", "server_port", "queue.queue_name"])
def test_name_that_no_setting_has_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        Settings(**{name: 1})
    with pytest.raises(TypeError, match=name):
        Settings().changed(**{name: 1})
    with pytest.raises(KeyError):
        Settings().value(name)


def test_each_setting_is_in_one_group() -> None:
    names = [name for group in groups().values() for name in names_of(group)]
    assert sorted(names) == sorted(names_of(WrittenSettings))
    titles = [group.title for group in groups().values()]
    assert len(set(titles)) == len(titles) == 13
