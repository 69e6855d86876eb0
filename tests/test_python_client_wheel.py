"""The wheel of the Python client, in an environment that has nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, SECRET, ServerProcess

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
    assert names == {
        str(path.relative_to(sources))
        for path in (sources / "tornado_rt_client").iterdir()
        if path.is_file()
    }
    assert "tornado_rt_client/py.typed" in names


def test_wheel_works_where_nothing_else_is(
    wheel: Path, tmp_path: Path, client_server: ServerProcess
) -> None:
    """Both forms submit a task and get its result; nothing of the server is there."""
    # Without pip of its own nothing at all is there.
    run("python3", "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    options = ("--quiet", "--no-compile", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)
    printed = run(python, "-W", "error", "program.py", client_server.url, SECRET, cwd=tmp_path)
    assert printed.split() == ["sync", "async"]
