"""The command line: its help, and settings that cannot be, each told in one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from services.console import ACTIONS
from settings import WrittenSettings
from tests.conftest import ROOT, SECRET, ServerProcess
from tests.forks import run
from tornado_rt.command.main import COMMANDS

pytestmark = pytest.mark.long


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_help_shows_every_setting_with_its_default() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    text = " ".join(shown.stdout.split())
    for field in attrs.fields(WrittenSettings):
        assert f"--{field.name.replace('_', '-')}" in text
        assert f"(RT_{field.name.upper()})" in text
    assert "open sockets and streams a user (RT_MAX_CONNECTIONS_PER_USER) [default: 50]" in text
    assert "[default: ]" not in text
    assert "[default: []]" not in text


def test_help_has_the_commands_on_top_and_the_settings_in_the_groups_of_their_page() -> None:
    shown = run("--help").stdout
    top, *groups = shown.split("\nsettings: ")
    _, listed, options = re.split(r"\n(?:commands|options):\n", top)
    assert re.findall(r"^  (\w+) +[A-Z]", listed, re.MULTILINE) == list(COMMANDS)
    assert "--version" in options
    page = (ROOT / "docs/settings.md").read_text().split("\n## ")[1:]
    for group, section in zip(groups, page, strict=True):
        assert group.partition(":\n")[0] == section.partition("\n")[0]
        names = re.findall(r"^\| `(RT_\w+)`", section, re.MULTILINE)
        assert sorted(re.findall(r"\((RT_\w+)\)", group)) == sorted(names)


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"serve"}))
def test_help_of_a_command_has_its_own_options_first_and_few_settings(command: str) -> None:
    """Help comes whatever else is missing or wrong."""
    shown = run(command, "--help", RT_PORT="x")
    assert (shown.returncode, shown.stderr) == (0, "")
    own, *groups = shown.stdout.split("\nsettings: ")
    assert own.startswith(f"usage: run.py {command} ")
    assert "--help" in own
    assert 1 <= len(re.findall(r"^  --", "".join(groups), re.MULTILINE)) < 20
    assert "run.py --help lists all settings" in " ".join(shown.stdout.split())


def test_help_shows_no_secret() -> None:
    shown = run("token", "--help", RT_JWT_SECRET="s" * 20 + SECRET).stdout
    assert SECRET not in shown
    assert "[now: ***]" in shown


def test_command_that_there_is_not_is_one_line_with_the_likeliest() -> None:
    failed = run("wroker")
    assert (failed.returncode, failed.stderr) == (
        2,
        "run.py: there is no command wroker: did you mean worker?\n",
    )
    assert "there are serve, worker, " in run("bake").stderr


def test_script_does_as_its_forks() -> None:
    """Other tests run its commands without the interpreter's start."""
    for arguments in (["--help"], ["token"]):
        alone = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *arguments],
            env={k: v for k, v in os.environ.items() if not k.startswith("RT_")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        forked = run(*arguments)
        assert (forked.stdout, forked.stderr) == (alone.stdout, alone.stderr)
        assert forked.returncode == alone.returncode


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (["--port", "x"], {}, "port"),
        (["--port", "70000"], {}, "port"),
        ([], {"RT_PORT": "x"}, "port"),
        ([], {"RT_PORT": "70000"}, "port"),
        ([], {"RT_QUEUE_ORDER": "random"}, "queue_order"),
        ([], {"RT_LOG_LEVEL": "LOUD"}, "log_level"),
        ([], {"RT_QUEUE_NAME": "a b"}, "queue_name"),
        ([], {"RT_WS_HEARTBEAT_SECONDS": "-1"}, "ws_heartbeat_seconds"),
        ([], {"RT_JWT_SECRET": "short"}, "jwt_secret"),
        ([], {"RT_JWT_SECRET": " " * 40}, "jwt_secret"),
        ([], {"RT_JWT_ALGORITHMS": "none"}, "jwt_algorithms: none is none of"),
        ([], {"RT_JWT_ALGORITHMS": " , "}, "jwt_algorithms"),
        (["--jwt-algorithms", "RS256"], {}, "jwt_algorithms: RS256 does not fit a secret"),
        ([], {"RT_JWT_PUBLIC_KEY": "/nothing.pem"}, "jwt_public_key: /nothing.pem"),
        ([], {"RT_JWT_PUBLIC_KEY": "/bin/sh"}, "jwt_public_key: /bin/sh"),
        ([], {"RT_JWT_PUBLIC_KEY": "/"}, "jwt_public_key: /"),
        ([], {"RT_JWT_JWKS_URL": "ftp://a/"}, "jwt_jwks_url: must be an http"),
        ([], {"RT_TRUSTED_ORIGINS": "https://a.example, *"}, "trusted_origins: *: "),
        (["--trusted-origins", "app.example"], {}, "trusted_origins: app.example: "),
        ([], {"RT_TLS_CERTIFICATE": "/nothing.pem"}, "tls_certificate: /nothing.pem"),
        ([], {"RT_TLS_CERTIFICATE": "/"}, "tls_certificate: /"),
        ([], {"RT_TLS_CERTIFICATE": str(ROOT / "run.py")}, "tls_certificate: "),
        ([], {"RT_TLS_KEY": "/some.pem"}, "tls_key: needs tls_certificate"),
        ([], {"RT_WORKER_HANDLER": "nothing:here"}, "worker_handler"),
        ([], {"RT_CONFIG": "/nothing.toml"}, "RT_CONFIG: /nothing.toml"),
        ([], {"RT_MONGODB_DATABASE": "a b"}, "run.py: mongodb_database: must have 1 to 63"),
        ([], {"RT_TRUSTED_ORIGINS": "x"}, "run.py: trusted_origins: x: write it with its scheme"),
        ([], {"RT_CONFIG": "/"}, "RT_CONFIG: /"),
        ([], {"RT_CONFIG": "/bin/sh"}, "RT_CONFIG: /bin/sh"),
        ([], {"RT_CONFIG": str(ROOT / "run.py")}, "RT_CONFIG: "),
        (["token", "--user", ""], {}, "user must have 1 to 255 characters"),
        (["token", "--user", "a\nb"], {}, "user must not hold control characters"),
        (["token", "--user", "a", "--scope", ""], {}, "scope"),
        ([], {"RT_DATA_DIR": ""}, "run.py: data_dir: name a folder"),
        (["--data-dir", ""], {}, "run.py: data_dir: name a folder"),
        ([], {"RT_PORT": ""}, "run.py: port: must be a whole number"),
        ([], {"RT_PORT": "1.5"}, "run.py: port: must be a whole number"),
        ([], {"RT_DRAIN_SECONDS": "2s"}, "run.py: drain_seconds: must be a number"),
        ([], {"RT_DEMO_LOGIN": "sure"}, "run.py: demo_login: must be true or false"),
        ([], {"RT_QUEUE_ORDER": "lifo"}, "run.py: queue_order: must be one of fifo, fair"),
        (["--surprise"], {}, "--surprise"),
        (["token"], {}, "--user"),
        (["token", "--user", "a", "--ttl", "0"], {}, "--ttl"),
        (["worker", "--concurrency", "0"], {}, "--concurrency"),
        (["worker", "--handler", ""], {}, "run.py: kinds: there is nothing to run"),
        (["worker", "--handler", "nothing:here"], {}, "worker_handler"),
        ([], {"RT_KINDS": "no.such.module"}, "no.such.module"),
        ([], {"RT_TASK_LABEL_LENGTH": "-1"}, "task_label_length"),
        ([], {"RT_WS_HEARTBEAT_SECONDS": "100000"}, "ws_heartbeat_seconds"),
        ([], {"RT_SSE_HEARTBEAT_SECONDS": "100000"}, "sse_heartbeat_seconds"),
        ([], {"RT_MAX_CONNECTIONS_PER_USER": "1000001"}, "max_connections_per_user"),
        ([], {"RT_KINDS": "/nothing.py"}, "run.py: kinds: there is no Python file /nothing.py"),
        ([], {"RT_HOST": ""}, "run.py: host: name an address"),
        (["worker"], {"RT_HOST": " "}, "run.py: host: name an address"),
        ([], {"RT_HOST": "nothing.invalid"}, "run.py: host: cannot listen at 'nothing.invalid'"),
        ([], {"RT_HOST": "192.0.2.1"}, "run.py: host: cannot listen at '192.0.2.1'"),
        ([], {"RT_DATA_DIR": "/dev/null"}, "run.py: data_dir: /dev/null is not a folder"),
        ([], {"RT_DATA_DIR": "/proc/nothing"}, "run.py: data_dir: /proc/nothing: no such file"),
        (["worker"], {"RT_DATA_DIR": "/dev/null"}, "run.py: data_dir: /dev/null is not a folder"),
        ([], {"RT_REDIS_URL": "http://a/"}, "run.py: redis_url: "),
        ([], {"RT_MONGODB_URL": "http://a/"}, "run.py: mongodb_url: "),
        ([], {"RT_PUBLIC_URL": "app.example"}, "run.py: public_url: "),
        ([], {"RT_SMTP_URL": "mail.example"}, "run.py: smtp_url: "),
        ([], {"RT_VAPID_SUBJECT": "app.example"}, "run.py: vapid_subject: "),
        ([], {"RT_VAPID_PRIVATE_KEY_FILE": "/nothing.pem"}, "vapid_private_key_file: /nothing.pem"),
        ([], {"RT_NOTIFICATION_TYPES": "/nothing.toml"}, "notification_types: /nothing.toml"),
        ([], {"RT_NOTIFICATION_TEMPLATES": "/nothing"}, "notification_templates: /nothing"),
        ([], {"RT_EMAIL_SECRET": "short"}, "email_secret"),
        ([], {"RT_JWT_PREVIOUS_SECRET": "short"}, "jwt_previous_secret"),
        (
            ["watch", "a", "--token", "x"],
            {"RT_URL": "app.example"},
            "run.py: url: app.example is no",
        ),
    ],
)
def test_bad_setting_is_one_line_and_exit_2(
    folder: Path, arguments: list[str], environment: dict[str, str], named: str
) -> None:
    failed = run(*arguments, **{"RT_DATA_DIR": str(folder)} | environment)
    assert failed.returncode == 2, failed.stderr
    lines = [line for line in failed.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert named in lines[0]
    # Before a store is started.
    assert not (folder / "lock").exists()


def test_settings_come_from_file_then_environment_then_command_line(tmp_path: Path) -> None:
    config = tmp_path / "rt.toml"
    config.write_text('[tornado_rt]\nport = 1\nqueue_name = "file"\nlog_level = "ERROR"\n')
    shown = run("--help", RT_CONFIG=str(config), RT_QUEUE_NAME="env").stdout
    text = " ".join(shown.split())
    assert "takes a free one (RT_PORT) [default: 8888] [now: 1]" in text
    assert "prefix of queue keys (RT_QUEUE_NAME) [default: rtq] [now: env]" in text


def test_data_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[tornado_rt]\ndata_dir = "a\\u0000b"\n')
    failed = run(RT_CONFIG=str(tmp_path / "config.toml"), RT_PORT="0")
    assert (failed.returncode, failed.stderr.count("\n")) == (2, 1), failed.stderr
    assert "data_dir: " in failed.stderr
    assert "has a NUL in its name" in failed.stderr


def test_port_in_use_is_said(server_process: ServerProcess, tmp_path: Path) -> None:
    port = server_process.url.rpartition(":")[2]
    second = run(RT_DATA_DIR=str(tmp_path / "other"), RT_PORT=port)
    told = f"run.py: port: {port} at 127.0.0.1: address already in use\n"
    assert (second.returncode, second.stderr) == (2, told)
    # Before a store was started.
    assert not (tmp_path / "other").exists()
    worker = run("worker", RT_DATA_DIR=str(server_process.data_dir), RT_WORKER_PORT=port)
    assert (worker.returncode, worker.stderr) == (2, told.replace("port", "worker_port"))


def test_help_of_the_queue_names_its_actions_and_what_each_takes() -> None:
    """The settings come last, and only those of the queue."""
    listed = run("queue", "--help").stdout
    actions, _, settings = listed.partition("settings: ")
    assert re.findall(r"^  (\w+) +\w", actions, re.MULTILINE) == list(ACTIONS)
    assert "--queue-name" in settings
    for name, action in ACTIONS.items():
        shown = run("queue", name, "--help").stdout
        own, _, settings = shown.partition("settings: ")
        assert own.startswith(f"usage: run.py queue {name} {action.names}".rstrip())
        options = re.findall(r"^  --(\w+)", own, re.MULTILINE)
        assert options == ["help", *action.options]
        assert "--queue-name" in settings
        assert "--host" not in settings
