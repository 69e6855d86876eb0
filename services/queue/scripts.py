"""The Lua scripts: one file each under `scripts/`, behind what they share under `scripts/lib/`.

What a script changed of records and counts is written by `flush`, once, after its body.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

FOLDER = Path(__file__).parent / "scripts"
LIBRARY = ("base", "line", "batch", "task")
WHOLE = "%s\nlocal function body()\n%s\nend\nlocal reply = body()\nflush()\nreturn reply\n"
# So many calls share a round trip; more of them go on several connections, so that Redis and we
# work at the same time.
TOGETHER = 16


@attrs.frozen(eq=False)
class _Call:
    """One call that waits for its reply."""

    name: str
    arguments: Sequence[bytes | str | float]
    reply: asyncio.Future[Any]


class Scripts:
    """Runs a script by its name, over the keys of one queue."""

    def __init__(self, redis: Redis, prefix: str, epoch_candidate: str, max_events: int) -> None:
        self._redis = redis
        self._common: tuple[str, str, int] = (prefix, epoch_candidate, max_events)
        shared = "\n".join(_read(f"lib/{name}") for name in LIBRARY)
        self._sources = {
            path.stem: WHOLE % (shared, _read(path.stem)) for path in FOLDER.glob("*.lua")
        }
        self._digests = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._sources.items()
        }
        self._calls: list[_Call] = []
        self._senders: set[asyncio.Task[None]] = set()

    async def run(self, name: str, *arguments: bytes | str | float) -> Any:
        """Run one script and return its reply. Calls of the same moment share a round trip."""
        loop = asyncio.get_running_loop()
        call = _Call(name, arguments, loop.create_future())
        self._calls.append(call)
        if len(self._calls) == 1:
            loop.call_soon(self._send)
        return await call.reply

    async def run_alone(self, name: str, *arguments: bytes | str | float) -> Any:
        """Run one script that is work enough for a round trip of its own."""
        call = _Call(name, arguments, asyncio.get_running_loop().create_future())
        await self._exchange([call])
        return await call.reply

    def _send(self) -> None:
        calls, self._calls = self._calls, []
        for start in range(0, len(calls), TOGETHER):
            sender = asyncio.create_task(self._exchange(calls[start : start + TOGETHER]))
            # Each ends with its calls, which are awaited; the set keeps it alive until then.
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)

    async def _exchange(self, calls: Sequence[_Call]) -> None:
        try:
            replies = await self._ask(calls)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                # Nothing was done by those, and the others are harmless when repeated.
                for name in {call.name for call in calls}:
                    await self._redis.script_load(self._sources[name])
                replies = await self._ask(calls)
        except asyncio.CancelledError:
            for call in calls:
                call.reply.cancel()
            raise
        except Exception as error:
            replies = [error] * len(calls)
        for call, reply in zip(calls, replies, strict=True):
            _settle(call.reply, reply)

    async def _ask(self, calls: Sequence[_Call]) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        for call in calls:
            pipe.evalsha(self._digests[call.name], 1, *self._common, *call.arguments)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies


def _settle(future: asyncio.Future[Any], reply: Any) -> None:
    if future.done():
        return
    if isinstance(reply, Exception):
        future.set_exception(reply)
    else:
        future.set_result(reply)


def _read(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text()
