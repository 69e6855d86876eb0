"""`/api/ws/worker` and `/api/worker/…`: workers that are elsewhere."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import orjson

from services.remote import (
    Answers,
    Caller,
    ClaimRequest,
    ExtendRequest,
    FoundTasks,
    RemoteBounds,
    RemoteWork,
    WorkRequest,
    items_of,
)
from tornado_rt.api import ApiHandler
from tornado_rt.auth import WORK, Identity
from tornado_rt.feed import Action
from tornado_rt.frames import FrameReader, Opcode
from tornado_rt.hub import Hub
from tornado_rt.json_body import check_integers, check_size, parse, structure
from tornado_rt.problems import Problem
from tornado_rt.protocol import ClientMessageType, CloseCode, Message, MessageType
from tornado_rt.sockets import SocketConnection, SocketHandler

# Tasks of one frame together [B]; one that is larger has a frame of its own.
FRAME_BYTES = 262_144
# Ends of one connection that wait for the queue: with more it is not read.
MOST_ENDS = 2000
# The most that waits for a worker that does not read [frames of the largest size].
MOST_FRAMES = 4

Do = Callable[[Any, Any], Any]


def caller_of(identity: Identity, address: str) -> Caller:
    """Return who speaks for a worker, and from where."""
    return Caller(identity.user_id, identity.kinds, address)


class WorkerConnection(SocketConnection):
    """A connected worker: what it says is done a frame at a time, but for ends, which may wait."""

    is_device = False

    __slots__ = ("_doing", "_ends", "_is_counted", "_most_bytes", "_session", "_work")

    def __init__(self, hub: Hub, identity: Identity, address: str, socket: "WorkerSocket") -> None:
        super().__init__(hub, identity, address, socket)
        self._work = socket.work
        self._most_bytes = MOST_FRAMES * socket.frame_bytes
        self._session = self._work.connect(self)
        # The number of ends that wait for the queue.
        self._ends = 0
        # Whether it counts as a worker in the statistics.
        self._is_counted = False
        self._doing: dict[str, Do] = {
            ClientMessageType.WORK: self._begin_work,
            ClientMessageType.DRAIN: self._drain,
            ClientMessageType.REPORT: self._report,
            ClientMessageType.EXTEND: self._extend,
            ClientMessageType.ACK: self._ack,
        }

    def send_tasks(self, tasks: Sequence[bytes]) -> None:
        """Send tasks, as JSON, in frames of a bounded size."""
        together: list[bytes] = []
        size = 0
        for task in tasks:
            if together and size + len(task) > FRAME_BYTES:
                self._send_items(MessageType.TASKS, together)
                together, size = [], 0
            together.append(task)
            size += len(task)
        self._send_items(MessageType.TASKS, together)

    def send_events(self, events: Sequence[Mapping[str, str]]) -> None:
        """Send events."""
        self._send_items(MessageType.EVENTS, [orjson.dumps(one) for one in events])

    def replaced(self) -> None:
        """Close: the worker has another connection."""
        self.leave(CloseCode.REPLACED)

    def detach(self) -> None:
        super().detach()
        self.hub.census.remote_workers -= self._is_counted
        self._is_counted = False
        self._work.leave(self._session)

    def may_skip(self, _: Message) -> bool:
        """Say no: a worker needs them all."""
        return False

    def _wait(self, backlog: Any, message: Message) -> None:
        backlog.add(message, len(self.encode(message)))
        if backlog.size > self._most_bytes:
            self.tally.closed_slow += 1
            self.leave(CloseCode.TOO_SLOW)

    def _charge(self, opcode: Opcode) -> float:
        """Count frames that are no messages: a message is read when the one before is done."""
        return 0.0 if opcode is Opcode.TEXT else super()._charge(opcode)

    def _dispatch(self, text: bytes) -> None:
        try:
            check_size(text)
            check_integers(text)
        except Problem as problem:
            self.send(_referring(self.error_of(problem), _ref_of(text)))
            return
        super()._dispatch(text)

    def action_of(self, type_: str, frame: dict[str, Any]) -> Action | None:
        """Return what does what a worker says; None for an unknown type."""
        if type_ == ClientMessageType.AUTH:
            return self.renew
        do = self._doing.get(type_)
        return None if do is None else partial(self._answer, do, frame.get("ref"))

    async def renewed(self) -> None:
        """Close when the new token does not allow what the worker does."""
        caller = caller_of(self.identity, self.address)
        if not (self.identity.may(WORK) and all(map(caller.may, self._session.kinds))):
            self.leave(CloseCode.FORBIDDEN)

    async def _answer(self, do: Do, ref: Any, data: Any) -> None:
        try:
            answer = await do(data, ref)
        except Exception as error:
            answer = self.error_of(self.problem_of(error))
        if answer is not None:
            self.send(_referring(answer, ref))

    async def _begin_work(self, data: Any, _: Any) -> Message:
        bounds = self._work.bounds
        most = {"kinds": bounds.kinds, "running": bounds.slots}
        request = structure(data, WorkRequest, most)
        working = await self._work.work(
            self._session, request, caller_of(self.identity, self.address)
        )
        self.hub.census.remote_workers += not self._is_counted
        self._is_counted = True
        told = {
            "worker_id": request.worker_id,
            "kinds": working.kinds,
            "slots": request.slots,
            "running": working.running,
            "lease_seconds": bounds.lease,
            "extend_seconds": self._work.extend_seconds(),
            "return_seconds": bounds.absence,
            "limits": _limits(bounds, self._most_bytes // MOST_FRAMES),
        }
        return Message.of(MessageType.WORKING, told)

    async def _drain(self, _: Any, __: Any) -> Message:
        return Message.of(MessageType.DRAINING, {"running": self._work.drain(self._session)})

    async def _report(self, data: Any, _: Any) -> Message:
        items = items_of(data, self._work.bounds.items)
        answers = await self._work.report(items, caller_of(self.identity, self.address))
        return Message.of(MessageType.REPORTED, {"items": answers})

    async def _extend(self, data: Any, _: Any) -> Message:
        items = items_of(data, self._work.bounds.items)
        answers = await self._work.extend(items, caller_of(self.identity, self.address))
        return Message.of(MessageType.EXTENDED, {"items": answers})

    async def _ack(self, data: Any, ref: Any) -> Message | None:
        items = items_of(data, self._work.bounds.items)
        answers = self._work.ack(items, caller_of(self.identity, self.address), self._session)
        if answers.done.done():
            return await _acked(answers)
        self._ends += len(items)
        waiting = self._answer_later(answers, ref, len(items))
        if self._ends > MOST_ENDS:
            await waiting
        else:
            self.hub.spawn(waiting, "worker-ends")
        return None

    async def _answer_later(self, answers: Answers, ref: Any, count: int) -> None:
        try:
            told = await _acked(answers)
        except Exception as error:
            told = self.error_of(self.problem_of(error))
        finally:
            self._ends -= count
        self.send(_referring(told, ref))

    def _send_items(self, type_: MessageType, items: Sequence[bytes]) -> None:
        self.send(Message(type_, b'{"items":[' + b",".join(items) + b"]}"))


class WorkerSocket(SocketHandler):
    """`/api/ws/worker`: a worker that is sent tasks."""

    def initialize(self, work: RemoteWork, frame_bytes: int) -> None:
        self.work = work
        self.frame_bytes = frame_bytes

    def reader(self) -> FrameReader:
        return self.reader_of(self.frame_bytes)

    async def enter(self) -> tuple[SocketConnection, Callable[[], None]]:
        """Let a worker in; it says what it does. Raise Problem 403 without the scope."""
        self.require(WORK)
        connection = WorkerConnection(self.hub, self.identity, self.address, self)
        connection.read_by = self.read_by
        await connection.enter()
        return connection, connection.begin_empty


class WorkerApiHandler(ApiHandler):
    """An endpoint for workers."""

    def initialize(self, work: RemoteWork, frame_bytes: int) -> None:
        self.work = work
        self.frame_bytes = frame_bytes

    @property
    def most_body_bytes(self) -> int:
        return self.frame_bytes

    @property
    def caller(self) -> Caller:
        """The user who speaks for the worker. Raise Problem 403 without the scope."""
        self.require(WORK)
        return caller_of(self.identity, self.address)

    def message(self) -> tuple[Any, Sequence[Any]]:
        """Return the body, and the items in it. Raise Problem."""
        body = parse(self.raw_body())
        return body, items_of(body, self.work.bounds.items)


class ClaimHandler(WorkerApiHandler):
    """`POST`: tasks for a worker; it waits for them."""

    _claiming: "asyncio.Task[FoundTasks] | None" = None

    def on_connection_close(self) -> None:
        """Wait no more: nobody would get the task."""
        if self._claiming is not None:
            self._claiming.cancel()
        super().on_connection_close()

    async def post(self) -> None:
        caller, bounds = self.caller, self.work.bounds
        request = self.body(ClaimRequest, kinds=bounds.kinds, running=bounds.slots)
        # The wait has a bound of its own.
        self._stop_deadline()
        if self.is_left:
            return
        self._claiming = asyncio.create_task(self.work.claim(request, caller), name="claim")
        try:
            found = await self._claiming
        except asyncio.CancelledError:
            self._claiming.cancel()
            self._claiming.add_done_callback(self._give_back)
            if self.is_left:
                return
            raise
        if self.is_left:
            self.work.give_back(found)
            return
        events = orjson.dumps(found.events)
        seconds = {
            "lease_seconds": found.lease,
            "extend_seconds": self.work.extend_seconds(found.lease),
        }
        rest = orjson.dumps(seconds)[1:]
        tasks = b",".join(found.tasks)
        self.answer(b'{"tasks":[' + tasks + b'],"events":' + events + b"," + rest)

    def _give_back(self, claiming: "asyncio.Task[FoundTasks]") -> None:
        """Hand back what was found in the moment in which the request was given up."""
        if not claiming.cancelled() and claiming.exception() is None:
            self.work.give_back(claiming.result())


class ReportHandler(WorkerApiHandler):
    """`POST`: how far tasks are."""

    async def post(self) -> None:
        caller = self.caller
        _, items = self.message()
        self.answer({"items": await self.work.report(items, caller)})


class ExtendHandler(WorkerApiHandler):
    """`POST`: tasks go on."""

    async def post(self) -> None:
        caller = self.caller
        body, items = self.message()
        request = structure({name: body[name] for name in body if name != "items"}, ExtendRequest)
        self.answer({"items": await self.work.extend(items, caller, request.lease)})


class AckHandler(WorkerApiHandler):
    """`POST`: how tasks ended."""

    async def post(self) -> None:
        caller = self.caller
        _, items = self.message()
        self.answer({"items": await self.work.ack_now(items, caller)})


async def _acked(answers: Answers) -> Message:
    await answers.done
    return Message.of(MessageType.ACKED, {"items": answers.all})


def _limits(bounds: RemoteBounds, frame_bytes: int) -> dict[str, int]:
    return {
        "frame_bytes": frame_bytes,
        "items": bounds.items,
        "slots": bounds.slots,
        "kinds": bounds.kinds,
        "result_bytes": bounds.result_bytes,
    }


def _ref_of(text: bytes) -> Any:
    """Return what a worker calls a message that is refused, if that can be read."""
    try:
        return orjson.loads(text).get("ref")
    except (ValueError, AttributeError):
        return None


def _referring(answer: Message, ref: Any) -> Message:
    """Return an answer with what the worker called its message, if it did."""
    if ref is None:
        return answer
    data = b'{"ref":' + (text := orjson.dumps(ref)) + b"," + answer.data[1:]
    return attrs.evolve(answer, ref=text, data=data)
