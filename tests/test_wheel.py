"""The wheel, in an environment of its own outside the repository.

An application whose modules have the names of ours (`settings`, `handlers`, `services`, `examples`)
is served and worked for by it.
"""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path, PurePosixPath

import attrs
import pytest

from hatch_build import MOVED, with_moved_imports
from tests.conftest import ROOT
from tests.made_once import made_once
from tests.ports import free_port
from tests.waiting import wait_until
from tornado_rt import __version__

pytestmark = pytest.mark.long

# Installing on a busy machine takes its time.
INSTALL_SECONDS = 600
SECONDS = 120
JOBS = """
import asyncio

import attrs

import examples
import handlers
import services
from settings import GREETING
from tornado_rt.work import Kind, Step


@attrs.frozen
class Greet:
    name: str


greet = Kind("{kind}", Greet, label="greet {{name}}", steps=[Step("think", 1), Step("speak", 1)])


@greet.handler
async def run(params, run):
    import settings as again

    with run.step("think"):
        await asyncio.sleep(0)
    with run.step("speak"):
        text = services.shout(GREETING) + handlers.MARK + examples.MARK
    return {{"text": text, "name": params.name, "same": again.GREETING == GREETING}}


def analyse(task, progress):
    return {{"text": services.shout(GREETING)}}
"""
APPLICATION = {
    "settings.py": 'GREETING = "good day"\n',
    "services/__init__.py": "from services.voice import shout\n",
    "services/voice.py": "def shout(text):\n    return text.upper()\n",
    "handlers/__init__.py": 'MARK = "!"\n',
    "examples/__init__.py": 'MARK = "?"\n',
    # Named as a library of ours is: the folder must not come before it.
    "redis.py": "raise SystemExit('this is not Redis')\n",
    "jobs.py": JOBS.format(kind="app.greet"),
    "more_jobs.py": JOBS.format(kind="app.greet_more"),
}


Process = subprocess.Popen[str]


@attrs.frozen
class Installed:
    """The wheel, and the environment that has it and what it requires."""

    wheel: Path
    environment: Path

    @property
    def command(self) -> str:
        return str(self.environment / "bin" / "tornado-rt")


@attrs.frozen
class Application:
    """The folder of an application; its server answers at the port."""

    command: str
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def variables(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
        own.pop("PYTHONPATH", None)
        return own | {"RT_PORT": str(self.port), "RT_STEP_SECONDS": "0", "RT_DRAIN_SECONDS": "0"}

    def start(self, *arguments: str, cwd: Path | None = None, **more: str) -> Process:
        return subprocess.Popen(
            [self.command, *arguments],
            cwd=cwd or self.folder,
            env=self.variables() | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command; return its status and what it has said."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=SECONDS)
        return process.returncode, said

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=SECONDS) as answer:
            body: bytes = answer.read()
        return body


def output_of(*command: str, cwd: Path) -> None:
    ended = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel and install it; the processes of pytest-xdist share what one of them made."""
    folder = made_once(tmp_path_factory, "wheel", make)
    [wheel] = folder.glob("*.whl")
    return Installed(wheel, folder / "environment")


def make(folder: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    # Our environment has what builds it.
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    output_of(*pip, "wheel", *options, str(ROOT), cwd=folder)
    [wheel] = folder.glob("*.whl")
    environment = folder / "environment"
    output_of(sys.executable, "-m", "venv", "--without-pip", str(environment), cwd=folder)
    python = str(environment / "bin" / "python")
    # A module that is never imported needs no compiling.
    options = ("--no-compile", "--no-warn-script-location")
    output_of(*pip, "--python", python, "install", *options, str(wheel), cwd=folder)


@pytest.fixture(scope="module")
def application(
    installed: Installed, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    """A server of two processes that runs the kinds of an application in its folder."""
    folder = tmp_path_factory.mktemp("application")
    for name, source in APPLICATION.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(source)
    one = Application(installed.command, folder, free_port())
    process = one.start("serve", "--kinds", "jobs.py", "--processes", "2")
    try:
        wait_until(lambda: process.poll() is not None or is_ready(one), SECONDS, "it is ready")
        assert process.poll() is None, process.communicate()
        yield one
    finally:
        said = stop(process)
    assert process.returncode == 0, said


def is_ready(one: Application) -> bool:
    try:
        return json.loads(one.get("/readyz")) == {"status": "ready"}
    except OSError:
        return False


def stop(process: Process) -> str:
    process.send_signal(signal.SIGTERM)
    try:
        return process.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def result_of(said: str) -> dict[str, object]:
    status, _, result = said.splitlines()[-1].partition(": ")
    assert status == "completed", said
    found: dict[str, object] = json.loads(result)
    return found


def test_wheel_has_one_package_with_all_its_files(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        sources = {one: archive.read(one).decode() for one in names if one.endswith(".py")}
    assert {PurePosixPath(name).parts[0] for name in names} == {"tornado_rt"}
    assert not [name for name in names if name.endswith(".pyc")]
    listed = ("git", "ls-files", "tornado_rt", "handlers", "services", "static", "settings.py")
    ours = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    expected = {f"tornado_rt/{name.removeprefix('tornado_rt/')}" for name in ours.stdout.split()}
    assert expected <= names
    assert sum(name.endswith(".lua") for name in names) > 60
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            imported = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not [one for one in imported if str(one).split(".")[0] in MOVED], name


def test_version_and_requirements_stand_in_one_place(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    assert (metadata["Name"], metadata["Version"]) == ("tornado-rt", __version__)
    files = [ROOT / name for name in ("requirements.txt", "requirements-embedded.txt")]
    lines = [line for path in files for line in path.read_text().splitlines()]
    required = {line.lower() for line in lines if line and not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        f"{one}; extra == '{extra}'"
        for extra, listed in project["optional-dependencies"].items()
        for one in listed
    }
    assert {one.lower() for one in metadata.get_all("Requires-Dist", [])} == required | extras
    # The tests are run with what the extras install.
    assert {one.partition(";")[0] for one in extras} <= set(
        (ROOT / "requirements-dev.txt").read_text().splitlines()
    )
    assert not {"version", "dependencies"} & set(project)
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(__version__)}\]", changes, re.MULTILINE)


def test_command_tells_its_version_and_its_name(installed: Installed, tmp_path: Path) -> None:
    one = Application(installed.command, tmp_path, free_port())
    assert one.run("--version") == (0, f"tornado-rt {__version__}\n")
    status, said = one.run("--help")
    assert status == 0
    assert "tornado-rt COMMAND --help" in said
    assert "run.py" not in said
    assert one.run("watch") == (2, "tornado-rt: the following arguments are required: ID\n")


def test_page_and_its_files_are_served(application: Application) -> None:
    page = application.get("/").decode()
    assert "<title>" in page
    files = re.findall(r'(?:src|href)="(static/[^"]+)"', page)
    assert any(name.endswith(".js") for name in files)
    for name in files:
        assert application.get(f"/{name}") == (ROOT / name).read_bytes()
    assert application.get("/sw.js")


def test_task_of_the_example_is_watched_to_its_end(application: Application) -> None:
    status, said = application.run("submit", "analysis", '{"symbol": "AAPL"}', "--watch")
    assert (status, result_of(said)["symbol"]) == (0, "AAPL")
    sent, notification = application.run("notify", "bob", "Hello")
    assert (sent, len(notification.split())) == (0, 1)


def test_application_keeps_its_modules_in_a_server(application: Application) -> None:
    status, said = application.run("submit", "app.greet", '{"name": "Ann"}', "--watch")
    assert status == 0
    assert result_of(said) == {"text": "GOOD DAY!?", "name": "Ann", "same": True}


@pytest.mark.parametrize("options", [[], ["--processes"]], ids=["one process", "one a task"])
def test_application_keeps_its_modules_in_a_worker(
    application: Application, token: str, tmp_path: Path, options: list[str]
) -> None:
    """Its folder is another than the server's; the kind is known by the worker alone."""
    for name in APPLICATION:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(application.folder / name, tmp_path / name)
    arguments = ["worker", "--kinds", "more_jobs", "--handler", "jobs:analyse", *options]
    data = str(application.folder / "data")
    worker = application.start(*arguments, cwd=tmp_path, RT_DATA_DIR=data)
    try:
        wait_until(
            lambda: worker.poll() is not None or "app.greet_more" in kinds_of(application, token),
            SECONDS,
            "the kind is known",
        )
        submitted = ("submit", "app.greet_more", '{"name": "Ann"}', "--watch")
        status, said = application.run(*submitted)
    finally:
        logged = stop(worker)
    assert status == 0, logged
    assert result_of(said) == {"text": "GOOD DAY!?", "name": "Ann", "same": True}
    assert worker.returncode == 0


@pytest.fixture(scope="module")
def token(application: Application) -> str:
    status, said = application.run("token", "--user", "alice")
    assert status == 0, said
    return said.strip()


def kinds_of(application: Application, token: str) -> str:
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{application.url}/api/kinds", headers=headers)
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        found: str = answer.read().decode()
    return found


def test_check_and_queue_work_in_the_folder(application: Application) -> None:
    assert application.run("check", "jobs") == (0, "jobs: 1 kind, nothing wrong\n")
    status, said = application.run("queue", "check")
    assert status == 0, said


def test_nothing_is_written_beside_the_package(
    application: Application, installed: Installed
) -> None:
    """The data are in the folder where the server was started."""
    assert (application.folder / "data" / "jwt_secret").exists()
    [packages] = (installed.environment / "lib").glob("python*/site-packages")
    assert not [name for name in MOVED if list(packages.glob(f"{name}*"))]
    assert not (packages / "static").exists()
    assert not list(packages.rglob("jwt_secret"))


HOST = """
import asyncio, pathlib, sys

import settings
from tornado_rt.embedding import Identity, Server, Settings


async def main():
    given = Settings(prefix="/rt", data_dir=pathlib.Path("inside"), kinds=["jobs"], port=1)
    async with Server(given, authenticate=lambda request: Identity("ann")) as rt:
        made = await rt.submit("ann", "app.greet", {"name": "Ann"})
        print(len(made), settings.GREETING)


asyncio.run(main())
"""


def test_application_has_the_server_inside(
    application: Application, installed: Installed, tmp_path: Path
) -> None:
    """Beside modules of its own that have the names of ours."""
    python = str(installed.environment / "bin" / "python")
    for name, source in APPLICATION.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    # Python looks in the folder of a script before all others.
    (tmp_path / "redis.py").unlink()
    (tmp_path / "host.py").write_text(HOST)
    ended = subprocess.run(
        [python, "host.py"],
        cwd=tmp_path,
        env=application.variables(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.stdout.split() == ["16", "good", "day"], ended.stderr


def test_imports_of_moved_modules_follow_them() -> None:
    source = (
        "from settings import Settings\n"
        "from services.queue import (\n    Queue,\n)\n"
        "from . import settings\n"
        "from settings_of_others import x\n"
        "import servicesque\n"
        "NAME = f'{BESIDE}examples.stock_analysis:analyse'\n"
        "TEXT = 'ü'; from handlers import routes\n"
        "def late():\n    from examples.a import b\n"
        "PROSE = 'see services.queue for more'\n"
    )
    moved = with_moved_imports(source, Path("m.py"))
    changes = {
        "from settings import": "from tornado_rt.settings import",
        "from services.queue": "from tornado_rt.services.queue",
        "from handlers": "from tornado_rt.handlers",
        "from examples": "from tornado_rt.examples",
    }
    for old, new in changes.items():
        source = source.replace(old, new)
    assert moved == source


@pytest.mark.parametrize(
    "source",
    [
        "import settings",
        "import os, services.queue as q",
        "x = import_module('services.queue')",
        "HANDLER = 'examples.stock_analysis:analyse'",
    ],
)
def test_name_that_cannot_follow_is_refused(source: str) -> None:
    """Else the wheel would be built, and fail where it is installed."""
    with pytest.raises(ValueError, match=r"^m\.py, line 2: "):
        with_moved_imports(f"\n{source}\n", Path("m.py"))
