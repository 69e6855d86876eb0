"""A server that is asked why, its users, and tasks that run until they are let go."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs

from settings import Settings
from tests.api import Client, serving
from tests.waiting import until
from tornado_rt.auth import ADMIN, WORK

Why = dict[str, Any]
Token = Callable[..., str]


@attrs.frozen
class Site:
    """A server and its users; `gate` holds tasks of the kinds `why.gated` and `why.other`."""

    alice: Client
    bob: Client
    admin: Client
    worker: Client
    gate: Path

    async def submit(self, kind: str, user: Client | None = None, **more: Any) -> str:
        """Submit a task, of Alice if nobody is named; return its id."""
        answer = await (user or self.alice).post("/api/tasks", {"kind": f"why.{kind}", **more})
        assert answer.status == 202, answer.body
        task_id: str = answer.body["task_id"]
        return task_id

    async def hold(self, kind: str = "gated", user: Client | None = None, **more: Any) -> str:
        """Submit a task that runs until `let_go`; return its id when it runs."""
        task_id = await self.submit(kind, user, params=self.params, **more)
        await self.told(task_id, "running", "running_step", user=user)
        return task_id

    @property
    def params(self) -> dict[str, str]:
        """The parameters of a task that the gate holds."""
        return {"gate": str(self.gate)}

    def let_go(self) -> None:
        """Let the tasks end that are held."""
        self.gate.unlink(missing_ok=True)

    async def limit(self, kind: str = "", **limits: Any) -> None:
        """Change limits of a kind, or over all, as an admin."""
        path = f"/api/kinds/why.{kind}/limits" if kind else "/api/queue/limits"
        answer = await self.admin.send("PUT", path, limits)
        assert answer.status == 200, answer.body

    async def why(self, task_id: str, user: Client | None = None) -> Why:
        """Ask why."""
        answer = await (user or self.alice).get(f"/api/tasks/{task_id}/why")
        assert answer.status == 200, answer.body
        found: Why = answer.body
        assert set(found) == {"task_id", "status", "cause", "heard", "chain"}
        return found

    async def told(self, task_id: str, *codes: str, user: Client | None = None) -> Why:
        """Ask until the cause is one of these; return the answer."""
        return await self._asked("cause", task_id, codes, user)

    async def heard(self, task_id: str, *codes: str) -> Why:
        """Ask until this is what the user has heard of the end; return the answer.

        That is the cause of a completed task too, but for an end that a busy machine told late.
        """
        found = await self._asked("heard", task_id, codes, None)
        if found["status"] == "completed":
            assert found["cause"] == found["heard"] or found["cause"]["code"] == "late"
        return found

    async def _asked(
        self, member: str, task_id: str, codes: tuple[str, ...], user: Client | None
    ) -> Why:
        async def has_code() -> Why | None:
            found = await self.why(task_id, user)
            told = found[member] or {"code": None}
            last.append(told)
            return found if told["code"] in codes else None

        last: list[Any] = []
        try:
            return await until(has_code, what=f"the {member} is {' or '.join(codes)}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the last one was {last[-1:]}") from None


def codes(found: Why) -> list[str]:
    """Return the codes of the chain."""
    return [one["code"] for one in found["chain"]]


def fact(found: Why, code: str) -> dict[str, Any]:
    """Return the first entry of a code in the chain."""
    return next(one for one in found["chain"] if one["code"] == code)


@contextlib.asynccontextmanager
async def asked(settings: Settings, make_token: Token, **changes: Any) -> AsyncIterator[Site]:
    """Run a server with the kinds of `tests.why_kinds` and a worker of four places."""
    gate = settings.server.data_dir.parent / "gate"
    gate.touch()
    more = {"kinds": ["tests.why_kinds"], "worker_concurrency": 4, "queue_global_limit": 0}
    changed = settings.changed(**{**more, "queue_user_limit": 0, **changes})
    try:
        async with serving(changed, make_token("alice")) as alice:
            yield Site(
                alice,
                alice.as_user(make_token("bob")),
                alice.as_user(make_token("root", scope=ADMIN)),
                alice.as_user(make_token("crew", scope=WORK)),
                gate,
            )
    finally:
        gate.unlink(missing_ok=True)
