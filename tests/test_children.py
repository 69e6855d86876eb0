"""Child processes end by themselves when they are stopped, and their logs are bounded."""

import asyncio
import contextlib
import re
import sys
from pathlib import Path

import pytest
from pymongo.errors import PyMongoError

from tests.waiting import until
from tornado_rt import children
from tornado_rt.children import ChildProcess
from tornado_rt.mongo import open_database
from tornado_rt.stores import embedded_stores

# A server that ends only when its thread returns from accept(2). It misses the first signals.
BLOCKS_IN_ACCEPT = """
import pathlib, signal, socket, sys
missed, stopping = int(sys.argv[1]), False
def stop(*_):
    global missed, stopping
    stopping, missed = missed == 0, missed - 1
signal.signal(signal.SIGTERM, stop)
server = socket.create_server(("127.0.0.1", 0))
pathlib.Path("port").write_text(str(server.getsockname()[1]))
while not stopping:
    server.accept()[0].close()
server.close()
pathlib.Path("ended").touch()
"""


@pytest.mark.gen_test
@pytest.mark.parametrize("missed", [0, 1])
async def test_child_that_blocks_in_accept_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missed: int
) -> None:
    """It is connected to until it notices the signal, which is repeated when it was lost."""
    monkeypatch.chdir(tmp_path)
    port = tmp_path / "port"

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(port.read_text() or 0))
        except OSError:
            return False
        writer.close()
        return True

    command = [sys.executable, "-c", BLOCKS_IN_ACCEPT, str(missed)]
    child = ChildProcess("blocked", command, listens, wake=listens)
    await child.start()
    await child.stop()
    assert (tmp_path / "ended").exists()


@pytest.mark.gen_test
async def test_embedded_mongodb_does_not_wait_for_its_accepting_thread(tmp_path: Path) -> None:
    """Left alone it waits 2 s for it in each stop; what was written is there all the same."""
    time, stops = asyncio.get_running_loop().time, []
    for round_ in range(3):
        async with embedded_stores(tmp_path, redis=False) as stores:
            async with open_database(stores.mongodb_url, "t") as database:
                assert await database.things.count_documents({}) == round_
                await database.things.insert_one({"_id": round_})
            stops.append(-time())
        stops[-1] += time()
    assert min(stops) < 2.0, stops


@pytest.mark.gen_test
async def test_log_of_a_running_child_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beginning is put aside; the child goes on writing to the same file."""
    monkeypatch.setattr(children, "MOST_LOG_BYTES", 1000)
    monkeypatch.setattr(children, "LOG_SECONDS", 0.01)
    log, old = tmp_path / "log", tmp_path / "log.old"

    async def ready() -> bool:
        return True

    script = "import sys; print('x' * 1000, flush=True); sys.stdin.read(); import time\n"
    script += "while True: print('later', flush=True); time.sleep(0.1)"
    child = ChildProcess("talker", [sys.executable, "-c", script], ready, log_file=log)
    await child.start()
    await until(lambda: old.exists() and log.read_text().startswith("later"))
    await child.stop()
    assert old.read_text().startswith("x" * 1000)
    assert old.stat().st_mode & 0o077 == 0


@pytest.mark.gen_test
async def test_child_that_says_that_it_is_broken_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each time that it says so; what an earlier one has said is not read again."""
    monkeypatch.setattr(children, "LOG_SECONDS", 0.01)
    monkeypatch.setattr(children, "FIRST_PAUSE_SECONDS", 0.01)
    runs = tmp_path / "runs"
    script = f"""
import pathlib, time
runs = pathlib.Path({str(runs)!r})
number = len(runs.read_text()) if runs.exists() else 0
runs.write_text("x" * (number + 1))
print("all is well", flush=True)
if number < 2:
    print("restart", end="", flush=True)
    time.sleep(0.05)
    print(" me", flush=True)
time.sleep(60)
"""

    async def ready() -> bool:
        return True

    child = ChildProcess(
        "breaks",
        [sys.executable, "-c", script],
        ready,
        log_file=tmp_path / "log",
        broken=re.compile(rb"^restart me$", re.M),
    )
    await child.start()
    log = tmp_path / "log"
    await until(lambda: log.read_text().count("all is well"), equal=3)
    await until(lambda: child._read, equal=log.stat().st_size)
    await child.stop()
    assert runs.read_text() == "xxx"


@pytest.mark.gen_test
async def test_mongodb_that_an_error_of_a_file_stopped_is_started_again(tmp_path: Path) -> None:
    """It refuses everything from then on, and does not end by itself."""
    folder, away = tmp_path / "data", tmp_path / "away"
    async with (
        embedded_stores(folder, redis=False) as stores,
        open_database(stores.mongodb_url, "t") as database,
    ):

        async def write_more(size: float) -> None:
            # It needs another file of its journal.
            for _ in range(int(size / 100_000)):
                await database.things.insert_one({"text": "x" * 100_000})

        await database.things.insert_one({"_id": "before"})
        folder.rename(away)
        with pytest.raises(PyMongoError):
            await write_more(100e6)
        away.rename(folder)

        async def is_written() -> bool:
            with contextlib.suppress(PyMongoError):
                await database.things.insert_one({})
                return True
            return False

        await until(is_written)
        assert await database.things.find_one({"_id": "before"})
