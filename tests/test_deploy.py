"""The container, the compose file and the units of deploy/, as far as they can be tried here.

There is no container runtime in the tests: the steps of the build are run in a folder in its place.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sysconfig
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from settings import Settings, WrittenSettings, stop_seconds
from tests.conftest import ROOT, ServerProcess, program
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.long

DEPLOY = ROOT / "deploy"
UNITS = DEPLOY / "systemd"
INSTALL_SECONDS = 600
VARIABLES = {f"RT_{field.name.upper()}" for field in attrs.fields(WrittenSettings)}


@attrs.frozen
class Step:
    """An instruction of a Dockerfile."""

    name: str
    text: str


def stages() -> list[list[Step]]:
    """Return the instructions of each stage of the Dockerfile."""
    found: list[list[Step]] = []
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, text = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append(Step(name, text))
    return found


def texts(stage: list[Step], name: str) -> list[str]:
    return [step.text for step in stage if step.name == name]


def sent(path: str) -> bool:
    """Say whether a file is sent to the build, by the list of what is left out."""
    rules = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    is_in = True
    for rule in filter(None, rules):
        if rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!").removeprefix("**/")
        parents = [path, *(str(one) for one in Path(path).parents)]
        if any(fnmatch(one, pattern) for one in parents):
            is_in = rule.startswith("!")
    return is_in


def unit_settings(name: str) -> dict[str, str]:
    """Return the entries of a unit; of one that is repeated the last."""
    lines = (UNITS / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))


def test_steps_of_the_build_make_a_command_that_serves(tmp_path: Path) -> None:
    """In a folder that has only what is sent to the build.

    The requirements are found to be there already: those of the tests. To get them anew takes long.
    """
    context, source, venv = tmp_path / "context", tmp_path / "src", tmp_path / "venv"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(sent, listed.stdout.splitlines()):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, context / name)
    assert not (context / "tests").exists()
    source.mkdir()
    build, image = stages()
    for step in build:
        if step.name == "COPY":
            *names, _ = step.text.split()
            for name in names:
                copy(context / name, source)
        if step.name == "RUN":
            told = step.text.replace("/opt/venv", str(venv))
            done = subprocess.run(
                shlex.split(told), cwd=source, capture_output=True, text=True, check=False,
                timeout=INSTALL_SECONDS,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        if "-m venv" in step.text:
            [packages] = venv.glob("lib/python*/site-packages")
            (packages / "tests.pth").write_text(sysconfig.get_path("purelib"))
    [entry], [command] = texts(image, "ENTRYPOINT"), texts(image, "CMD")
    assert yaml.safe_load(command) == ["serve"]
    [name] = yaml.safe_load(entry)
    said = subprocess.run(
        [venv / "bin" / name, "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("tornado-rt ")


def copy(source: Path, folder: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, folder, dirs_exist_ok=True)
    else:
        shutil.copy2(source, folder)


def test_image_runs_as_nobody_special_and_says_whether_it_is_well(
    server_process: ServerProcess,
) -> None:
    _, image = stages()
    [user] = texts(image, "USER")
    made = " ".join(texts(image, "RUN"))
    assert f"useradd --uid 10001 --user-group --create-home --home-dir /app {user} " in made
    assert "python:3.11-slim" in texts(image, "FROM")[0]
    [environment] = texts(image, "ENV")
    named = set(re.findall(r"\b(RT_\w+)=", environment))
    assert named == {"RT_HOST", "RT_DATA_DIR"}
    [check] = texts(image, "HEALTHCHECK")
    command = yaml.safe_load(check.partition("CMD ")[2])
    port = server_process.url.rpartition(":")[2]
    for asked, status in ((port, 0), (str(free_port()), 1)):
        done = run_check(command, RT_PORT=asked)
        assert done.returncode == status


def run_check(command: list[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("RT_")}
    return subprocess.run(
        command, env=inherited | environment, capture_output=True, timeout=60, check=False
    )


def composed() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return services


def test_compose_file_names_settings_and_stores_that_there_are() -> None:
    services = composed()
    for name in ("server", "worker"):
        one = services[name]
        assert set(one["environment"]) <= VARIABLES
        assert one["environment"]["RT_REDIS_URL"] == "redis://redis:6379/0"
        assert one["environment"]["RT_MONGODB_URL"] == "mongodb://mongodb:27017/"
        assert set(one["depends_on"]) == {"redis", "mongodb"}
        assert float(one["stop_grace_period"].rstrip("s")) > stop_seconds(Settings())
        assert (ROOT / "deploy" / one["build"]["context"] / one["build"]["dockerfile"]).exists()
    for store in ("redis", "mongodb"):
        assert services[store]["healthcheck"]["test"][0] == "CMD"
        assert services[store]["volumes"]
    assert "noeviction" in services["redis"]["command"]
    port = services["worker"]["environment"]["RT_WORKER_PORT"]
    assert f":{port}/healthz" in services["worker"]["healthcheck"]["test"][-1]
    # The file names each variable that a person must set.
    assert services["server"]["environment"]["RT_JWT_SECRET"].startswith("${RT_JWT_SECRET:?")


@pytest.mark.parametrize("name", ["tornado_rt@8881.service", "tornado_rt-worker@9001.service"])
def test_unit_is_one_that_systemd_takes(tmp_path: Path, name: str) -> None:
    template = re.sub(r"@\d+", "@", name)
    text = (UNITS / template).read_text()
    (tmp_path / name).write_text(text.replace("/opt/tornado_rt", str(ROOT)))
    checked = subprocess.run(
        [program("systemd-analyze"), "verify", str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", ["tornado_rt@.service", "tornado_rt-worker@.service"])
def test_unit_gives_a_stop_its_time_and_names_settings_that_there_are(name: str) -> None:
    unit = unit_settings(name)
    assert float(unit["TimeoutStopSec"]) > stop_seconds(Settings()) + 5
    assert set(re.findall(r"\b(RT_\w+)=", unit["Environment"])) <= VARIABLES
    assert unit["User"] == "tornado_rt"
    environment = (UNITS / "tornado_rt.env").read_text()
    assert set(re.findall(r"^(RT_\w+)=", environment, re.MULTILINE)) <= VARIABLES


@pytest.mark.parametrize("name", ["tornado_rt@.service", "tornado_rt-worker@.service"])
def test_command_of_a_unit_runs_until_sigterm(
    tmp_path: Path, name: str, server_process: ServerProcess
) -> None:
    """With what the unit sets, but in our folder, and a worker on the stores of a server."""
    unit, port = unit_settings(name), str(free_port())
    environment = {one: text for one, text in os.environ.items() if not one.startswith("RT_")}
    for pair in unit["Environment"].replace("%i", port).split():
        variable, _, text = pair.partition("=")
        environment[variable] = text
    environment["RT_DATA_DIR"] = str(tmp_path / "data")
    if "worker" in name:
        environment["RT_DATA_DIR"] = str(server_process.data_dir)
    command = unit["ExecStart"].replace("/opt/tornado_rt", str(ROOT)).split()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        asked = yaml.safe_load(texts(stages()[1], "HEALTHCHECK")[0].partition("CMD ")[2])
        wait_until(lambda: run_check(asked, RT_PORT=port).returncode == 0, 60)
        began = time.monotonic()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert time.monotonic() - began < float(unit["TimeoutStopSec"])
