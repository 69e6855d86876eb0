"""Claiming tasks, and what a worker says of those that it has: reports, results, ends."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgpack
import orjson
import structlog

from services.queue.kinds import KindBoard
from services.queue.models import Ack, Asked, Claim, Claimed, Kept, Outcome
from services.queue.replies import read_claim
from services.queue.terms import word_terms
from tornado_rt.work import Plan, Question

log = structlog.get_logger(__name__)


class Claiming(KindBoard):
    """The verbs of workers."""

    async def dequeue_task(self, worker_id: str, kinds: Sequence[str]) -> Claim | None:
        """Claim the next task of some kinds; None when there is none that may run."""
        claims = (await self.claim(worker_id, 1, kinds=kinds)).claims
        return claims[0] if claims else None

    async def claim(
        self,
        worker_id: str,
        count: int,
        acks: Sequence[Ack] = (),
        request: str | None = None,
        *,
        kinds: Sequence[str],
    ) -> Claimed:
        """End some tasks and claim at most `count` others of some kinds, in one round trip.

        Repeated under the same id of the `request` within a minute it returns the same tasks.
        """
        request = request or new_request()
        own = self.registered_kinds()
        # Those that we registered come first.
        asked = sorted(dict.fromkeys(kinds), key=lambda kind: kind not in own)
        while True:
            reply = await self.scripts.run_alone(
                "claim",
                request=request,
                worker=worker_id,
                most=count,
                kinds=asked,
                known=sum(kind in own for kind in asked),
                visibility=self.visibility_seconds,
                kept=self.kept_per_user,
                sorts=self.history_sorts,
                acks=[_ack_fields(ack) for ack in acks],
            )
            if reply != b"unregistered":
                break
            await self.register_again()
        became, claimed, again_in = msgpack.unpackb(reply, raw=True)
        claims = await self._readable(claimed)
        seconds = float(again_in) if again_in else None
        return Claimed(claims, seconds, [one.decode() if one else "" for one in became])

    async def ack_task(
        self,
        task_id: str,
        success: bool = True,
        *,
        token: str,
        result: Any = None,
        error: str | None = None,
        fragment: bytes | None = None,
    ) -> bool:
        """End a claimed task. Return False when the token is stale: then nothing changed."""
        outcome = Outcome.COMPLETED if success else Outcome.FAILED
        return await self.end_attempt(Ack(task_id, token, outcome, result, error, fragment))

    async def end_attempt(self, ack: Ack) -> bool:
        """End an attempt, in any way. Return False when the token is stale."""
        return (await self.claim("", 0, [ack], kinds=())).owned[0]

    async def expire_claims(self, worker_ids: Sequence[str]) -> int:
        """End the leases of workers that are gone, for upkeep to hand back; return how many."""
        expired: int = await self.scripts.run("expire", workers=list(worker_ids))
        return expired

    async def release_task(self, task_id: str, token: str) -> bool:
        """Hand a claimed task back to the head of its line, its attempt not counted."""
        return bool(await self.scripts.run("release", id=task_id, token=token))

    async def report_progress(
        self,
        task_id: str,
        token: str,
        fragment: bytes,
        percent: float,
        *,
        state: bytes | None = None,
        plan: Plan | None = None,
    ) -> bool:
        """Keep and publish the progress of an attempt. Return False when the token is stale.

        `state` is what the handler wants kept for later attempts (JSON), `plan` one that the task
        takes on.
        """
        return bool(
            await self.scripts.run(
                "report",
                id=task_id,
                token=token,
                fragment=fragment,
                percent=str(percent),
                state=state,
                plan=None if plan is None else plan.digest,
                text=None if plan is None else plan.text,
            )
        )

    async def keep_result(self, task_id: str, token: str, name: str, value: bytes) -> bool:
        """Keep what a step resulted in (JSON). Return False when the token is stale."""
        return bool(
            await self.scripts.run(
                "keep_result", id=task_id, token=token, name=name.encode(), value=value
            )
        )

    async def read_kept(self, task_id: str) -> Kept:
        """Read what earlier attempts left."""
        async with self._reading() as pipe:
            pipe.hgetall(f"{self.prefix}kept:{task_id}")
            pipe.hget(f"{self.prefix}task:{task_id}", "state")
            results, state = await pipe.execute()
        return Kept({name.decode(): value for name, value in results.items()}, state or b"")

    async def add_note(
        self, task_id: str, token: str, fields: Mapping[str, Any], note_id: str | None = None
    ) -> bool:
        """Have a notification made for the user. Return False when the token is stale.

        Repeated at once under the same `note_id` it makes one.
        """
        note = note_id or secrets.token_hex(8)
        return bool(
            await self.scripts.run(
                "add_note", id=task_id, token=token, note=note, fields=orjson.dumps(fields)
            )
        )

    async def ask(self, task_id: str, token: str, question: Question, note_id: str) -> Asked | None:
        """Have the user asked, unless they are already. Return None when the token is stale.

        `note_id` is new for each caller; one that calls again brings the same.
        """
        reply = await self.scripts.run(
            "ask",
            id=task_id,
            token=token,
            name=question.name,
            note=note_id,
            options=list(question.options),
            fields=orjson.dumps(attrs.asdict(question) | {"note": note_id}),
        )
        return Asked(reply[0] or None, float(reply[1])) if reply else None

    async def withdraw(self, task_id: str, token: str, name: str) -> Asked | None:
        """Ask no longer. Return None when the token is stale."""
        reply = await self.scripts.run("withdraw", id=task_id, token=token, name=name)
        return Asked(reply[0] or None) if reply else None

    async def answer(
        self, task_id: str, user_id: str, name: str, note_id: str, option: str
    ) -> bool:
        """Keep a user's answer, and tell the handler. Return False when the task does not ask."""
        return bool(
            await self.scripts.run(
                "answer",
                id=task_id,
                user=user_id,
                name=name,
                note=note_id,
                option=option,
                value=orjson.dumps(option),
            )
        )

    async def read_plans(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Return the texts of plans, of those that there are."""
        if not digests:
            return {}
        async with self._reading() as pipe:
            pipe.hmget(self.prefix + "plans", list(digests))
            (texts,) = await pipe.execute()
        return {digest: text for digest, text in zip(digests, texts, strict=True) if text}

    async def read_lessons(
        self, sorts: Sequence[tuple[str, str]]
    ) -> list[tuple[list[bytes], list[bytes]]]:
        """Return what was kept of lessons by their keys and kinds, the newest first."""
        async with self._reading() as pipe:
            for key, kind in sorts:
                pipe.lrange(f"{self.prefix}history:{key}", 0, -1)
                pipe.lrange(f"{self.prefix}lengths:{kind}", 0, -1)
            replies = await pipe.execute(raise_on_error=False)
        found = [[] if isinstance(reply, Exception) else reply for reply in replies]
        return list(zip(found[::2], found[1::2], strict=True))

    async def _readable(self, claimed: Sequence[Sequence[bytes]]) -> list[Claim]:
        """Return the claims, but for tasks that cannot be read: these fail, each for itself."""
        claims = []
        for reply in claimed:
            try:
                claims.append(read_claim(reply))
            except ValueError as error:
                task_id, token = (field.decode(errors="replace") for field in (reply[0], reply[-1]))
                log.error("task_unreadable", task_id=task_id, error=error)
                why = f"the task cannot be read: {error}"
                await self.end_attempt(Ack(task_id, token, Outcome.FAILED, error=why))
        return claims


def new_request() -> str:
    """Return an id for a request that may have to be repeated."""
    return secrets.token_hex(8)


def _ack_fields(ack: Ack) -> list[Any]:
    """Return an ack as the script takes it, without what it does not have at its end."""
    fields = [
        ack.task_id,
        ack.token,
        ack.outcome,
        None if ack.result is None else orjson.dumps(ack.result),
        # Text of a handler may hold what UTF-8 cannot carry.
        ack.error.encode(errors="replace") if ack.error else None,
        ack.fragment or None,
        ack.delay or None,
        ack.report or None,
        ack.lesson and [ack.lesson.key, ack.lesson.kind, ack.lesson.entry, ack.lesson.whole],
        f"{ack.ran:.3f}" if ack.ran else None,
        word_terms(ack.error) if ack.error else None,
    ]
    while fields[-1] is None:
        fields.pop()
    return fields
