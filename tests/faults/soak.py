"""`make soak SECONDS=600`: all faults at random, one after another; `--seed N` repeats a run.

The fleet is mixed: workers on Redis, and elsewhere, over WebSocket and over HTTP; the JavaScript
client in Node and in Chromium, the Python client in both forms. Each round some users are written
to while one to three faults happen; then each client must have everything, once. Servers are ended
only in the first half, so that the second shows whether their memory grows. In the end stands the
table of counts. The exit status is 1 when anything was missed or doubled, went wrong, or grew.
"""

import argparse
import asyncio
import contextlib
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path

import attrs
from attrs import astuple

from tests.faults import faults
from tests.faults.counts import Row, table
from tests.faults.crowd import Crowd
from tests.faults.dropping import WAVE, at_rest, drop_streams
from tests.faults.faults import Fault, name_of
from tests.faults.fleet import Fleet
from tests.faults.system import Footprint, System
from tests.js_forms import install, pack
from tests.waiting import until

MEGABYTE = 1024 * 1024
SETTLE_SECONDS = 90.0
# Memory that a server may have gained at the end since half time: the allocator's share.
GROWTH = 0.1
GROWTH_BYTES = 8 * MEGABYTE
SPARE_DESCRIPTORS = 10


async def drop_many_streams(system: System, rng: random.Random) -> None:
    """Open and drop event streams in every way."""
    await drop_streams(system, rng, WAVE)


@attrs.define
class Soak:
    """The events so far. Memory is by server, in bytes."""

    system: System
    rng: random.Random
    rows: dict[str, Row] = attrs.field(factory=dict)
    failures: list[str] = attrs.field(factory=list)
    memory: dict[str, int] = attrs.field(factory=dict)
    at_first: tuple[Footprint, int] | None = None
    rounds: int = 0

    async def run(self, seconds: float) -> None:
        """Go on for about this long."""
        half, end = time.monotonic() + seconds / 2, time.monotonic() + seconds
        await self._rounds(half, [*faults.ALL, drop_many_streams])
        self.at_first = await at_rest(self.system)
        self.memory = self._measure()
        lasting = [fault for fault in faults.ALL if fault not in faults.ENDING]
        await self._rounds(end, [*lasting, drop_many_streams])

    async def finish(self) -> None:
        """Compare what the servers hold at the end with what they held at half time."""
        assert self.at_first is not None
        before, descriptors = self.at_first
        after, left = await at_rest(self.system, before)
        # A smaller number was under way then.
        if any(now > then for now, then in zip(astuple(after), astuple(before), strict=True)):
            self.failures.append(f"left behind: {after}, at half time {before}")
        if left > descriptors + SPARE_DESCRIPTORS * len(self.system.servers):
            self.failures.append(f"{left} descriptors, at half time {descriptors}")
        print("\n" + table(self.rows.values()))
        for name, size in self._measure().items():
            begun = self.memory[name]
            print(
                f"{name}: {begun / MEGABYTE:.1f} MB at half time, {size / MEGABYTE:.1f} MB at last"
            )
            if size > begun * (1 + GROWTH) + GROWTH_BYTES:
                self.failures.append(f"{name} grew")

    def fail(self, what: str) -> None:
        """Say and note what went wrong."""
        print(what, flush=True)
        self.failures.append(f"round {self.rounds}: {what}")

    async def _rounds(self, end: float, choices: list[Fault]) -> None:
        while time.monotonic() < end:
            self.rounds += 1
            chosen = self.rng.sample(choices, self.rng.randint(1, 3))
            print(f"round {self.rounds}: {', '.join(map(name_of, chosen))}", flush=True)
            try:
                await self._round(chosen)
            except (AssertionError, TimeoutError) as error:
                self.fail(repr(error))
            await self.system.repair()

    async def _round(self, chosen: list[Fault]) -> None:
        losing = any(fault in faults.LOSING for fault in chosen)
        async with Crowd(self.system, self.rng, self.rng.randint(1, 5)) as crowd:
            crowd.flow(tasks=not losing)
            await until(lambda: crowd.news_to_all(0), what="there is something for everybody")
            for fault in chosen:
                await fault(self.system, self.rng)
            try:
                await crowd.settle(SETTLE_SECONDS)
                await crowd.stored_once()
            finally:
                for row in crowd.rows():
                    self.rows.setdefault(row.what, Row(row.what)).merge(row)

    def _measure(self) -> dict[str, int]:
        return {server.name: server.rss() for server in self.system.servers}


async def soak(seconds: float, seed: str) -> int:
    """Soak; return the exit status."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rt-soak-")))
        package = await asyncio.to_thread(lambda: install(pack(folder), folder / "installed"))
        system = System(servers=3, workers=2, elsewhere=("websocket", "http"))
        await stack.enter_async_context(system)
        await stack.enter_async_context(Fleet(system, package))
        run = Soak(system, random.Random(seed))
        try:
            await run.run(seconds)
            await run.finish()
        except AssertionError as error:
            # It did not come back: what follows would say nothing.
            run.fail("\n".join([repr(error), *getattr(error, "__notes__", [])]))
        run.failures += system.complaints()
    print(f"{run.rounds} rounds of seed {seed}, {len(run.failures)} failures")
    print("\n".join(run.failures))
    return int(bool(run.failures))


def main() -> int:
    """Read the arguments and soak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    return asyncio.run(soak(options.seconds, options.seed))


if __name__ == "__main__":
    sys.exit(main())
