"""The Lua scripts: one file each under `scripts/`, behind what it uses of `scripts/lib/`.

A chunk makes its functions anew at each call, so a script is given no more of the library than what
the line `-- Uses:` at its head, and at theirs, asks for. To make a function, Lua 5.1 walks over all
shared variables of the function around it, and has those further out at hand (lfunc.c,
luaF_findupval): so the library stands in two functions, one in the other. What a script changed of
records, counts and the line is written once, by the finishers of the library, after its body.
"""

import asyncio
import contextvars
import functools
import hashlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgpack
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from tornado_rt.redis import KEY_TYPES

FOLDER = Path(__file__).parent / "scripts"
USES = "-- Uses: "
# These parts of the library stand around the rest.
GROUND = ("base", "records", "events", "counts")
WHOLE = """%s
local function run()
%s
local function body()
%s
end
local reply = body()
for _, finish in ipairs(finishers) do finish() end
return reply
end
return run()
"""
# At most this many calls share a round trip; more of them go on several connections, so that Redis
# and we work at the same time.
TOGETHER = 16
# At most this many requests of the same moment share one call.
GROUPED = 25


@attrs.frozen(eq=False)
class _Call:
    """One call that waits for its reply."""

    name: str
    arguments: bytes
    reply: asyncio.Future[Any]


@attrs.frozen(eq=False)
class _Group:
    """What is asked in one call, each with its own item and its part of the reply."""

    name: str
    shared: Mapping[str, Any]
    items: list[Mapping[str, Any]] = attrs.field(factory=list)
    plans: dict[str, bytes] = attrs.field(factory=dict)
    replies: list[asyncio.Future[Any]] = attrs.field(factory=list)


class Scripts:
    """Runs a script by its name, over the keys of one queue."""

    def __init__(self, redis: Redis, prefix: str, epoch_candidate: str, max_events: int) -> None:
        self._redis = redis
        self._common: tuple[str, str, int] = (prefix, epoch_candidate, max_events)
        self._sources = _read_all()
        self._digests = _digests()
        self._calls: list[_Call] = []
        self._groups: list[_Group] = []
        self._senders: set[asyncio.Task[None]] = set()

    async def run(self, name: str, /, **arguments: Any) -> Any:
        """Run one script and return its reply. Calls of the same moment share a round trip."""
        loop = asyncio.get_running_loop()
        call = _Call(name, _pack(arguments), loop.create_future())
        self._calls.append(call)
        if len(self._calls) == 1:
            _call_soon(self._send)
        return await call.reply

    async def run_alone(self, name: str, /, **arguments: Any) -> Any:
        """Run one script that is work enough for a round trip of its own."""
        call = _Call(name, _pack(arguments), asyncio.get_running_loop().create_future())
        await self._exchange([call])
        return await call.reply

    async def run_grouped(
        self,
        name: str,
        shared: Mapping[str, Any],
        item: Mapping[str, Any],
        plans: Mapping[str, bytes],
    ) -> Any:
        """Run a script that takes the `tasks` of many, and their `plans`, beside what they share.

        It replies with a list, an element for each; this returns ours. What is asked in the same
        moment is one call, and when it fails, it fails for all.
        """
        if not self._groups:
            _call_soon(self._send_groups)
        group = self._groups[-1] if self._groups else None
        if (
            group is None
            or (group.name, group.shared) != (name, shared)
            or len(group.replies) == GROUPED
        ):
            group = _Group(name, shared)
            self._groups.append(group)
        reply = asyncio.get_running_loop().create_future()
        group.items.append(item)
        group.plans.update(plans)
        group.replies.append(reply)
        return await reply

    def _send(self) -> None:
        calls, self._calls = self._calls, []
        for start in range(0, len(calls), TOGETHER):
            self._own(self._exchange(calls[start : start + TOGETHER]))

    def _send_groups(self) -> None:
        groups, self._groups = self._groups, []
        for group in groups:
            self._own(self._exchange_group(group))

    def _own(self, exchange: Coroutine[Any, Any, None]) -> None:
        sender = asyncio.create_task(exchange)
        # Each ends with its calls, which are awaited; the set keeps it alive until then.
        self._senders.add(sender)
        sender.add_done_callback(self._senders.discard)

    async def _exchange_group(self, group: _Group) -> None:
        try:
            replies = await self.run_alone(
                group.name, **group.shared, tasks=group.items, plans=group.plans
            )
        except asyncio.CancelledError:
            for waiting in group.replies:
                waiting.cancel()
            raise
        except Exception as error:
            replies = [error] * len(group.replies)
        for waiting, reply in zip(group.replies, replies, strict=True):
            _settle(waiting, reply)

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
        if len(calls) == 1:
            return [await self._ask_one(calls[0])]
        pipe = self._redis.pipeline(transaction=False)
        for call in calls:
            pipe.evalsha(self._digests[call.name], 1, *self._common, call.arguments)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies

    async def _ask_one(self, call: _Call) -> Any:
        """Ask without a pipeline, which would cost half as much again."""
        try:
            return await self._redis.evalsha(
                self._digests[call.name], 1, *self._common, call.arguments
            )
        except ResponseError as error:
            return error


def _pack(arguments: Mapping[str, Any]) -> bytes:
    # Redis 6.2 reads raw bytes, and not the binary type that came later.
    packed: bytes = msgpack.packb(arguments, use_bin_type=False)
    return packed


def _call_soon(send: Callable[[], None]) -> None:
    """Call it for all who ask, not in the name of the first: a handler may cancel its own tasks."""
    asyncio.get_running_loop().call_soon(send, context=contextvars.Context())


def _settle(future: asyncio.Future[Any], reply: Any) -> None:
    if future.done():
        return
    if isinstance(reply, Exception):
        future.set_exception(reply)
    else:
        future.set_result(reply)


@functools.cache
def _read_all() -> Mapping[str, str]:
    """Return the scripts by name. They are read once: a process may have many queues."""
    return {
        path.stem: KEY_TYPES + WHOLE % (*_library_of(path), path.read_text())
        for path in FOLDER.glob("*.lua")
    }


@functools.cache
def _digests() -> Mapping[str, str]:
    return {
        name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        for name, source in _read_all().items()
    }


def _library_of(script: Path) -> tuple[str, str]:
    """Return what a script uses, and what that uses, each once and behind what it uses itself.

    The first part stands around the other.
    """
    found: dict[Path, str] = {}

    def add(path: Path) -> None:
        for used in _used(path.read_text()):
            if used not in found:
                add(used)
                found[used] = used.read_text()

    add(script)
    ground = [text for path, text in found.items() if path.stem in GROUND]
    rest = [text for path, text in found.items() if path.stem not in GROUND]
    return "\n".join(ground), "\n".join(rest)


def _used(source: str) -> Iterable[Path]:
    first = source.partition("\n")[0]
    names = first.removeprefix(USES).split(", ") if first.startswith(USES) else ()
    return (FOLDER / "lib" / f"{name}.lua" for name in names)
