"""The queue as the attempts of this worker see it: behind the server."""

import asyncio
from collections.abc import Mapping
from typing import Any

from tornado_rt_client.worker.items import Given, item, member, snapshot
from tornado_rt_client.worker.outbox import Verb
from tornado_rt_client.worker.parts import (
    Asked,
    Kept,
    Plan,
    Question,
    Submission,
    Task,
    json_of,
    read_refusal,
)
from tornado_rt_client.worker.session import YOURS, Session, fault_of


class RemoteQueue:
    """Tells the server what an attempt reports, and returns when it is answered.

    Nothing fails since the server is away: what is told waits until it is back.
    """

    def __init__(self, session: Session, given: Given) -> None:
        self._session = session
        self._given = given

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
        """Keep and publish the progress of an attempt. Return False when it is not ours."""
        members = [snapshot(fragment)]
        if state is not None:
            members.append(b'"state":%b' % state)
        if plan is not None:
            members.append(b'"plan":%b' % plan.text)
        return _is_ours(await self._report(task_id, token, *members))

    async def keep_result(self, task_id: str, token: str, name: str, value: bytes) -> bool:
        """Keep a once-result (JSON). Return False when the attempt is not ours."""
        kept = b'"keep":{%b:%b}' % (json_of(name), value)
        return _is_ours(await self._report(task_id, token, kept))

    async def add_note(
        self, task_id: str, token: str, fields: Mapping[str, Any], note_id: str
    ) -> bool:
        """Have a notification made for the user. Return False when the attempt is not ours."""
        note = {name: value for name, value in fields.items() if value is not None}
        told = member("notify", {**note, "id": note_id})
        return _is_ours(await self._report(task_id, token, told))

    async def ask(self, task_id: str, token: str, question: Question, note_id: str) -> Asked | None:
        """Have the user asked, unless they are already. Return None when it is not ours."""
        asked = {
            "name": question.name,
            "title": question.title,
            "options": dict(question.options),
            "severity": question.severity,
            "id": note_id,
        }
        if question.content is not None:
            asked["content"] = question.content
        return _asked(await self._report(task_id, token, member("ask", asked)))

    async def withdraw(self, task_id: str, token: str, name: str) -> Asked | None:
        """Ask no longer. Return None when the attempt is not ours."""
        return _asked(await self._report(task_id, token, member("withdraw", name)))

    async def submit(self, parent: Task, token: str, submission: Submission) -> str | None:
        """Submit a task, once for its name. Return None when the attempt is not ours.

        Raise NotSubmitted.
        """
        told = b'"submit":{"name":%b,"task":%b}' % (json_of(submission.name), submission.task)
        answer = await self._report(parent.task_id, token, told)
        if not _is_ours(answer):
            return None
        submitted = answer["submitted"]
        if (refused := submitted.get("error")) is not None:
            raise read_refusal(refused)
        return str(submitted["task_id"])

    async def read_kept(self, task_id: str) -> Kept:
        """Return what earlier attempts left: it came with the task."""
        return self._given.kept

    async def get_task(self, task_id: str) -> Task | None:
        """Return the task as it came."""
        return self._given.claim.task

    async def _report(self, task_id: str, token: str, *members: bytes) -> dict[str, Any]:
        """Return the answer to an item. Raise ApiError when the server refuses it."""
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def told(answer: dict[str, Any]) -> None:
            if not answered.done():
                answered.set_result(answer)

        self._session.tell(Verb.REPORT, item(task_id, token, *members), told)
        answer = await answered
        if (fault := fault_of(answer)) is not None:
            raise fault
        return answer


def _is_ours(answer: Mapping[str, Any]) -> bool:
    return answer.get("state") == YOURS


def _asked(answer: Mapping[str, Any]) -> Asked | None:
    if not _is_ours(answer):
        return None
    asked = answer.get("asked") or {}
    given = asked.get("answer")
    return Asked(None if given is None else json_of(given), float(asked.get("age") or 0.0))
