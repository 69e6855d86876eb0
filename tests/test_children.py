"""Child processes end by themselves when they are stopped, and their logs are bounded."""

import asyncio
import sys
from pathlib import Path

import pytest

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


@pytest.mark.gen_test(timeout=60)
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
