"""The distributions of the Python client, in environments that have nothing else."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, SECRET, ServerProcess
from tests.waiting import wait_until
from tornado_rt import work
from tornado_rt_client import Client
from tornado_rt_client import work as client_work

PROJECT = ROOT / "clients" / "python"
PROGRAM = """
import asyncio, importlib.metadata, importlib.util, sys

import tornado_rt_client
from tornado_rt_client import AsyncClient, Client

url, secret = sys.argv[1:]
assert importlib.util.find_spec("tornado_rt") is None
assert importlib.util.find_spec("tornado") is None
assert importlib.metadata.version("tornado-rt-client") == tornado_rt_client.__version__

with Client(url, secret=secret, user="wheel") as client:
    print(client.submit("client.echo", {"value": "sync"}).result(timeout=60))


async def main():
    async with AsyncClient(url, secret=secret, user="wheel") as client:
        task = await client.submit("client.echo", {"value": "async"})
        print(await task.result(timeout=60))


asyncio.run(main())
"""


COPY = "tornado_rt_client/_work"
KINDS = """
import attrs

from tornado_rt.work import Kind, Step
from tornado_rt_client.work import Kind as SameKind

assert Kind is SameKind


@attrs.frozen
class Greet:
    name: str


greet = Kind("wheel.greet", Greet, label="greet {name}", steps=[Step("think"), Step("speak")])


@greet.handler
def run(params, run):
    import importlib.util

    with run.step("think"):
        words = run.once("think", lambda: "hello " + params.name)
    # The server's package is not there, or it is the server's.
    return [words, importlib.util.find_spec("tornado_rt.app") is not None]
"""


def files_of(folder: Path) -> list[Path]:
    """Return the files of a package."""
    return [one for one in folder.rglob("*") if one.is_file() and one.suffix != ".pyc"]


def make_environment(folder: Path, *distributions: object) -> Path:
    """Return the Python of an environment that has these and what they need."""
    # Without pip of its own nothing else is there.
    run("python3", "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    options = ("--quiet", "--no-compile", "--disable-pip-version-check")
    install = (sys.executable, "-m", "pip", "--python", python, "install", *options)
    run(*install, *distributions, cwd=folder.parent)
    return python


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(one) for one in command], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it is built from a clone."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-cache-dir", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", folder, PROJECT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


def test_wheel_has_all_of_the_package_and_no_more(wheel: Path) -> None:
    """Types are part of it, tests are not."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in name}
    sources = PROJECT / "src"
    own = {str(one.relative_to(sources)) for one in files_of(sources / "tornado_rt_client")}
    shared = ROOT / "tornado_rt" / "work"
    copied = {f"{COPY}/{one.relative_to(shared)}" for one in files_of(shared)}
    assert names == own | copied
    assert "tornado_rt_client/py.typed" in names


def test_wheel_works_where_nothing_else_is(
    wheel: Path, tmp_path: Path, client_server: ServerProcess
) -> None:
    """Both forms submit a task and get its result; nothing of the server is there."""
    python = make_environment(tmp_path / "venv", wheel)
    (tmp_path / "program.py").write_text(PROGRAM)
    printed = run(python, "-W", "error", "program.py", client_server.url, SECRET, cwd=tmp_path)
    assert printed.split() == ["sync", "async"]
    # A worker takes more libraries, and says so.
    told = subprocess.run(
        [python, "-c", "from tornado_rt_client import Worker"], capture_output=True, text=True
    )
    assert "pip install 'tornado-rt-client[worker]'" in told.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution as it is built from a clone."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=PROJECT)
    [built] = folder.glob("*.tar.gz")
    return built


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_worker_of_the_source_distribution_runs_the_kinds_of_a_server(
    worker_environment: Path, tmp_path: Path, client_server: ServerProcess, processes: bool
) -> None:
    """From a module that names `tornado_rt.work`, where there is no server."""
    (tmp_path / "wheel_kinds.py").write_text(KINDS)
    options = ("--kinds", "wheel_kinds.py", *(["--processes"] if processes else []))
    command = [worker_environment, "-W", "error", "-m", "tornado_rt_client", "worker", *options]
    env = {"RT_URL": client_server.url, "RT_JWT_SECRET": SECRET, "PATH": os.environ["PATH"]}
    with (
        subprocess.Popen(
            command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
        ) as worker,
        Client(client_server.url, secret=SECRET, user="wheel") as client,
    ):
        try:
            wait_until(lambda: worker.poll() or knows(client, "wheel.greet"), what="it works")
            assert worker.poll() is None, worker.stderr and worker.stderr.read()
            task = client.submit("wheel.greet", {"name": "you"})
            assert task.result(timeout=60) == ["hello you", False]
            worker.terminate()
            assert worker.wait(30) == 0
        finally:
            worker.kill()


@pytest.fixture(scope="module")
def worker_environment(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the client with what a worker takes, of the source distribution."""
    folder = tmp_path_factory.mktemp("worker") / "venv"
    return make_environment(folder, f"{sdist}[worker]")


def knows(client: Client, kind: str) -> bool:
    return kind in {one.kind for one in client.kinds()}


def test_kinds_are_one_class_where_the_server_is_installed_too() -> None:
    """As in this environment."""
    assert {getattr(client_work, name) is getattr(work, name) for name in work.__all__} == {True}
