"""The secret that tokens are signed with, and the file that the server keeps its own in."""

import concurrent.futures
import os
import stat
import threading
from pathlib import Path

import pytest

from settings import Settings
from tornado_rt.secret import SecretError, load_secret

GOOD = "a secret of the tests, 32 bytes or more"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def own(folder: Path) -> tuple[str, bool]:
    return load_secret(Settings(data_dir=folder))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    secret, generated = own(folder)
    assert generated
    assert len(secret) >= 32
    assert own(folder) == (secret, True)
    assert mode_of(folder / "jwt_secret") == 0o600
    assert os.listdir(folder) == ["jwt_secret"]


def test_those_that_start_at_once_agree(folder: Path) -> None:
    """Each makes one; all use that which was there first, and it is whole."""
    together = threading.Barrier(4)

    def start(round_: int) -> tuple[int, str]:
        together.wait(20)
        return round_, own(folder / str(round_))[0]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for round_ in range(20):
            assert len(set(pool.map(start, [round_] * 4))) == 1
            assert os.listdir(folder / str(round_)) == ["jwt_secret"]


def test_file_system_without_links_is_good_enough(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    secret, _ = own(folder)
    assert own(folder) == (secret, True)
    assert os.listdir(folder) == ["jwt_secret"]


BAD = {
    "empty": (b"", "32 bytes or more"),
    "a line break": (b"\n", "32 bytes or more"),
    "short": (b"abc", "32 bytes or more"),
    "31 bytes and a line break": (b"abcdefghijklmnopqrstuvwxyz01234\n", "32 bytes or more"),
    "blank": (b" \t" * 40, "blank"),
    "one byte repeated": (b"a" * 64, "repeated"),
    "zeros": (b"\0" * 64, "repeated"),
    "not UTF-8": (b"\xff\xfe" * 40, "not UTF-8"),
    "huge": (b"ab" * 40_000, "larger than"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_file_is_refused_with_its_name_and_what_to_do(folder: Path, kind: str) -> None:
    content, reason = BAD[kind]
    (folder / "jwt_secret").write_bytes(content)
    with pytest.raises(SecretError, match=reason) as refused:
        own(folder)
    assert str(folder / "jwt_secret") in str(refused.value)
    assert "delete it" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    """Without waiting for somebody to write to a pipe."""
    path = folder / "jwt_secret"
    path.mkdir()
    with pytest.raises(SecretError, match="is not a regular file"):
        own(folder)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(SecretError, match="is not a regular file"):
        own(folder)
    path.unlink()
    path.symlink_to(folder / "nowhere")
    with pytest.raises(SecretError, match="no such file"):
        own(folder)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_line_break_at_the_end_is_no_part_of_it(folder: Path, end: str) -> None:
    (folder / "jwt_secret").write_bytes((GOOD + end).encode())
    assert own(folder) == (GOOD, True)


def test_file_that_others_may_read_is_tightened_and_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "jwt_secret"
    path.write_text(GOOD)
    path.chmod(0o644)
    assert own(folder) == (GOOD, True)
    assert mode_of(path) == 0o600
    told = "".join(capsys.readouterr())
    assert "secret_was_open" in told
    assert GOOD not in told
    own(folder)
    assert "secret_was_open" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("secret", ["short", " " * 40, "x" * 40, "\udcff" * 40, "abc" + "\n" * 1])
def test_setting_is_checked_in_the_same_way(secret: str) -> None:
    with pytest.raises(SecretError, match="jwt_secret"):
        load_secret(Settings(jwt_secret=secret))
    assert load_secret(Settings(jwt_secret=GOOD)) == (GOOD, False)
