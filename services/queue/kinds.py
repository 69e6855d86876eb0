"""Kinds and limits, as all processes know them: they live in Redis, and change while tasks run."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgpack
import orjson

from services.queue.access import QueueAccess, QueueLimits
from services.queue.models import KindEntry, KindLimits, KindState, LimitsRefused
from settings import QueueOrder
from tornado_rt.work import Plan, Rate
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import cut

# A silent worker still counts for this long [s].
SILENT_SECONDS = 30.0
MOST_LIMIT = 10**6
RATES = ("rate", "key_rate")
# The name of the limits over all kinds.
ALL_KINDS = ""


class KindBoard(QueueAccess):
    """The kinds that all processes share: entries, limits, pauses and workers."""

    # The entries that this process registered: it registers them again in an emptied Redis.
    _known: tuple[Sequence[KindEntry], Sequence[Plan]] = ((), ())

    async def register_kinds(
        self,
        entries: Sequence[KindEntry] = (),
        plans: Sequence[Plan] = (),
        *,
        overwrite: bool = True,
    ) -> None:
        """Make kinds, their plans and our limits known.

        What a later version of a kind has said stays; else the last process that starts says which
        limits hold, where no admin has changed them. Without `overwrite` limits over all kinds stay
        where there are some.
        """
        self._known = (entries, plans)
        await self.scripts.run(
            "register",
            limits=attrs.asdict(self.limits),
            overwrite=overwrite,
            kinds=[_registered(entry) for entry in entries],
            plans={plan.digest: plan.text for plan in plans},
        )

    async def add_kinds(self, entries: Sequence[KindEntry]) -> None:
        """Make kinds of others known, beside those that are, and again in an emptied Redis."""
        own, plans = self._known
        added = {entry.kind for entry in entries}
        self._known = ([one for one in own if one.kind not in added] + list(entries), plans)
        await self.scripts.run(
            "register",
            limits=attrs.asdict(self.limits),
            overwrite=False,
            kinds=[_registered(entry) for entry in entries],
            plans={},
        )

    def registered_kinds(self) -> set[str]:
        """Return the kinds that this process has registered."""
        return {entry.kind for entry in self._known[0]}

    async def register_again(self) -> None:
        """Make known what this process knows, in a Redis that is new, or was emptied."""
        entries, plans = self._known
        self.sent_plans.forget()
        await self.register_kinds(entries, plans, overwrite=False)

    async def set_limits(self, kind: str, changes: Mapping[str, Any] | None) -> None:
        """Change limits of a kind, or those over all ("") as an admin; None drops the changes.

        They win over what code and settings say. Raise LimitsRefused.
        """
        checked = None if changes is None else _packed_limits(check_limits(kind, changes))
        await self.scripts.run("set_limits", name=kind, changes=checked)

    async def pause(self, kind: str = ALL_KINDS) -> int:
        """Have no task of a kind start, or of any; return how many run."""
        running: int
        running, _ = await self.scripts.run("pause", kind=kind, paused=True)
        return running

    async def resume(self, kind: str = ALL_KINDS) -> bool:
        """Have tasks start again; return whether none does, for all kinds are still paused."""
        _, all_paused = await self.scripts.run("pause", kind=kind, paused=False)
        return bool(all_paused)

    async def announce_worker(
        self, worker_id: str, kinds: Sequence[str], info: Any = None, session: str | None = None
    ) -> None:
        """Say that a worker lives and what it runs; to be repeated within 30 s.

        `session` names its connection, when it may have another one: all processes are told that a
        new one takes the place of the one before.
        """
        told = {"kinds": list(kinds), "info": info}
        if session is not None:
            told["session"] = session
        if not await self._announce(worker_id, orjson.dumps(told), session):
            await self.register_again()

    async def withdraw_worker(self, worker_id: str) -> None:
        """Say that a worker is gone."""
        await self._announce(worker_id, None)

    async def _announce(
        self, worker_id: str, told: bytes | None, session: str | None = None
    ) -> bool:
        """Say what a worker runs, None: it is gone. Return False when our kinds are not known."""
        known = await self.scripts.run(
            "announce_worker",
            worker=worker_id,
            info=told,
            session=session,
            silent=SILENT_SECONDS,
            registered=list(self.registered_kinds()),
        )
        return bool(known)

    async def drain_worker(self, worker_id: str, *, draining: bool) -> bool:
        """Have a worker claim nothing more, or claim again; return False when there is none such.

        It holds until it is said otherwise, or the worker is gone.
        """
        return bool(await self.scripts.run("drain_worker", worker=worker_id, draining=draining))

    async def is_drained(self, worker_id: str) -> bool:
        """Say whether a worker is to claim nothing more."""
        async with self._reading() as pipe:
            pipe.sismember(f"{self.prefix}draining", worker_id)
            [found] = await pipe.execute()
        return bool(found)

    async def read_drained(self) -> set[str]:
        """Return the workers that are to claim nothing more."""
        async with self._reading() as pipe:
            pipe.smembers(f"{self.prefix}draining")
            [found] = await pipe.execute()
        return {one.decode() for one in found}

    async def read_workers(self) -> list[dict[str, Any]]:
        """Return the workers that live: `worker_id`, `kinds`, and what else they tell."""
        async with self._reading() as pipe:
            pipe.time()
            pipe.hgetall(f"{self.prefix}workers")
            (seconds, _), told = await pipe.execute()
        found = []
        for worker_id, one in sorted(told.items()):
            if kinds := _serves(one, float(seconds)):
                info = orjson.loads(one.partition(b" ")[2]).get("info")
                more = info if isinstance(info, dict) else {}
                silent = max(float(seconds) - float(one.partition(b" ")[0]), 0.0)
                told = {"worker_id": worker_id.decode(), "kinds": list(kinds)}
                found.append({**more, **told, "seen_seconds": round(silent, 3)})
        return found

    async def read_kinds(self) -> list[KindState]:
        """Read how all kinds stand; under the name "" what holds over all of them."""
        now, kinds, workers = await self.scripts.run("read_kinds")
        if not self.registered_kinds() <= {
            name.decode(errors="replace") for name, entry, *_ in kinds if entry
        }:
            await self.register_again()
            now, kinds, workers = await self.scripts.run("read_kinds")
        serving = [_serves(told, float(now)) for told in workers]
        return [_read_state(one, float(now), serving) for one in kinds]


def _registered(entry: KindEntry) -> dict[str, Any]:
    """Return an entry as the script takes it."""
    return {
        "kind": entry.kind,
        "version": entry.version,
        "entry": _pack_entry(entry),
        "limits": _packed_limits(attrs.asdict(entry.limits)),
    }


def _pack_entry(entry: KindEntry) -> bytes:
    told = {"title": entry.title, "version": entry.version, "description": entry.description}
    return orjson.dumps(told)


def _packed_limits(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return limits as the scripts read them: a rate is {count, seconds}, none is left out."""
    packed = dict(limits)
    for name in RATES:
        if name in packed:
            rate = Rate.parse(packed[name]) if packed[name] else None
            packed[name] = [rate.count, rate.seconds] if rate else False
    return packed


def unpack_limits(blob: bytes | None) -> dict[str, Any]:
    """Return limits as they are kept, a rate as text; of what cannot be read none."""
    try:
        fields: dict[str, Any] = dict(msgpack.unpackb(blob)) if blob else {}
        return fields | {name: _rate_text(fields[name]) for name in RATES if name in fields}
    except (ValueError, TypeError):
        return {}


def _rate_text(rate: Any) -> str:
    if not rate:
        return ""
    count, seconds = rate
    units = {1: "s", 60: "m", 3600: "h", 86400: "d"}
    return f"{int(count)}/{units.get(seconds) or f'{int(seconds)}s'}"


def check_limits(kind: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return limits of a kind, or of all ("") as they are. Raise LimitsRefused."""
    known = attrs.fields_dict(KindLimits if kind else QueueLimits)
    for name, value in changes.items():
        if name not in known:
            raise LimitsRefused(
                phrase(
                    "there is no limit {name}: there are {known}",
                    name=cut(name, 60),
                    known=list(known),
                )
            )
        if name in RATES:
            _check_rate(name, value)
        elif name == "order":
            if value not in list(QueueOrder):
                raise LimitsRefused(
                    phrase(
                        "{name} must be one of {choices}", name="order", choices=list(QueueOrder)
                    )
                )
        elif type(value) is not int or not 0 <= value <= MOST_LIMIT:
            raise LimitsRefused(
                phrase(
                    "{name} must be an integer from 0 to {most}",
                    name=name,
                    most=MOST_LIMIT,
                )
            )
    return dict(changes)


def _check_rate(name: str, value: Any) -> None:
    if value == "":
        return
    try:
        Rate.parse(value)
    except ValueError as error:
        raise LimitsRefused(phrase("{name}: {error}", name=name, error=error)) from None


def _serves(told: bytes, now: float) -> Sequence[str]:
    """Return the kinds that a worker runs; none when it has been silent for long."""
    seen, _, info = told.partition(b" ")
    try:
        if float(seen) + SILENT_SECONDS < now:
            return ()
        kinds: Any = orjson.loads(info)["kinds"]
        return [kind for kind in kinds if isinstance(kind, str)]
    except (ValueError, KeyError, TypeError):
        return ()


def _read_state(reply: Sequence[Any], now: float, serving: Sequence[Sequence[str]]) -> KindState:
    name, entry, limits, changed, paused, queued, running, oldest = reply
    kind = name.decode(errors="replace")
    own = attrs.asdict(KindLimits()) if kind else attrs.asdict(QueueLimits())
    effective = {k: v for k, v in (own | unpack_limits(limits)).items() if k in own}
    return KindState(
        entry=_read_entry(kind, entry),
        limits=effective,
        changed=unpack_limits(changed),
        paused=bool(paused),
        queued=int(queued),
        running=int(running),
        workers=sum(kind in kinds for kinds in serving),
        oldest_seconds=max(now - float(oldest), 0.0) if oldest else None,
    )


def _read_entry(kind: str, content: bytes) -> KindEntry:
    try:
        fields: Any = orjson.loads(content) if content else {}
        return KindEntry(
            kind=kind,
            title=str(fields.get("title", "")),
            version=int(fields.get("version", 0)),
            description=dict(fields.get("description", {})),
        )
    except (ValueError, TypeError, AttributeError):
        return KindEntry(kind=kind)
