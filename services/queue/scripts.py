"""The Lua scripts: one file each under `scripts/`, behind what it uses of `scripts/lib/`.

A chunk makes its functions anew at each call, so a script is given no more of the library than what
the line `-- Uses:` at its head, and at theirs, asks for. To make a function, Lua 5.1 walks over all
shared variables of the function around it, and has those further out at hand (lfunc.c,
luaF_findupval): so the library stands in two functions, one in the other. Changes of records,
counts and the line is written once, by the finishers of the library, after its body.
"""

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgpack
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from tornado_rt.batcher import Batcher
from tornado_rt.redis import KEY_TYPES

FOLDER = Path(__file__).parent / "scripts"
USES = "-- Uses: "
# These parts of the library stand around the rest.
GROUND = ("base", "records", "events", "counts", "paces")
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
# Round trips under way at once: each has a connection of its own meanwhile.
AT_ONCE = 64


# A call: the script's name, and its arguments.
Call = tuple[str, bytes]


@attrs.frozen(eq=False)
class _Request:
    """One request in a call of many: its own item, the part that it shares, its plans."""

    name: str
    shared: Mapping[str, Any]
    item: Mapping[str, Any]
    plans: Mapping[str, bytes]

    def goes_with(self, other: "_Request") -> bool:
        """Say whether both can be in one call."""
        return (self.name, self.shared) == (other.name, other.shared)


class Scripts:
    """Runs a script by its name, over the keys of one queue."""

    def __init__(self, redis: Redis, prefix: str, epoch_candidate: str, max_events: int) -> None:
        self._redis = redis
        self._common: tuple[str, str, int] = (prefix, epoch_candidate, max_events)
        self._sources = _read_all()
        self._digests = _digests()
        # When a call fails it fails for all: one that Redis refuses has an error as its reply.
        self._calls: Batcher[Call, Any] = Batcher(
            self._exchange, "queue-calls", together=TOGETHER, common=(Exception,), at_once=AT_ONCE
        )
        self._requests: Batcher[_Request, Any] = Batcher(
            self._group, "queue-requests", together=GROUPED, common=(Exception,), at_once=AT_ONCE
        )

    async def run(self, name: str, /, **arguments: Any) -> Any:
        """Run one script and return its reply. Calls of the same moment share a round trip."""
        return await self._calls.ask((name, _pack(arguments)))

    async def run_alone(self, name: str, /, **arguments: Any) -> Any:
        """Run one script that is work enough for a round trip of its own."""
        [reply] = await self._exchange([(name, _pack(arguments))])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def run_grouped(
        self,
        name: str,
        shared: Mapping[str, Any],
        item: Mapping[str, Any],
        plans: Mapping[str, bytes],
    ) -> Any:
        """Run a script that takes the `tasks` of many, and their `plans`, beside what they share.

        It replies with a list, an element for each; this returns ours. Requests of the same moment
        are one call, and when it fails, it fails for all.
        """
        return await self._requests.ask(_Request(name, shared, item, plans))

    async def close(self) -> None:
        """End what is under way."""
        await self._requests.close()
        await self._calls.close()

    async def _group(self, requests: list[_Request]) -> list[Any]:
        groups: list[list[_Request]] = []
        for request in requests:
            if groups and request.goes_with(groups[-1][0]):
                groups[-1].append(request)
            else:
                groups.append([request])
        return [reply for group in groups for reply in await self._ask_group(group)]

    async def _ask_group(self, group: list[_Request]) -> Sequence[Any]:
        first = group[0]
        plans = {digest: plan for one in group for digest, plan in one.plans.items()}
        items = [one.item for one in group]
        try:
            replies: list[Any] = await self.run_alone(
                first.name, **first.shared, tasks=items, plans=plans
            )
        except Exception as error:
            return [error] * len(group)
        return replies

    async def _exchange(self, calls: Sequence[Call]) -> list[Any]:
        """Return the reply to each call; an error when Redis refused it."""
        replies = await self._ask(calls)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # Nothing was done by those, and the others are harmless when repeated.
            for name in {name for name, _ in calls}:
                await self._redis.script_load(self._sources[name])
            replies = await self._ask(calls)
        return replies

    async def _ask(self, calls: Sequence[Call]) -> list[Any]:
        if len(calls) == 1:
            return [await self._ask_one(*calls[0])]
        pipe = self._redis.pipeline(transaction=False)
        for name, arguments in calls:
            pipe.evalsha(self._digests[name], 1, *self._common, arguments)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies

    async def _ask_one(self, name: str, arguments: bytes) -> Any:
        """Ask without a pipeline, which would cost half as much again."""
        try:
            return await self._redis.evalsha(self._digests[name], 1, *self._common, arguments)
        except ResponseError as error:
            return error


def _pack(arguments: Mapping[str, Any]) -> bytes:
    # Redis 6.2 reads raw bytes, and not the binary type that came later.
    packed: bytes = msgpack.packb(arguments, use_bin_type=False)
    return packed


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
