"""The bodies of `docs/openapi.yaml` are those that the attrs classes of the handlers read."""

import typing
from typing import Any

import attrs
import pytest

from handlers.admin import KindRequest, PurgeRequest
from handlers.admin_board import CloseRequest
from handlers.admin_tasks import BulkRequest, BulkUndoRequest, FilterRequest
from handlers.authentication import DemoLogin
from handlers.email import AddressRequest, MailRequest
from handlers.push import Renewal
from handlers.tasks import RerunRequest
from services.analysis.bodies import bounded_seed_batch, bounded_seed_task
from services.analysis.plan import TaskParams
from services.notifications.fields import Action
from services.notifications.preferences import EmailPreference, Preferences, QuietHours
from services.notifications.requests import (
    ActRequest,
    AnswerRequest,
    Filter,
    ListRequest,
    UndoRequest,
    When,
)
from services.notifications.sending import BroadcastRequest, SendRequest
from services.notifications.types import Ways
from services.push import SubscriptionDraft
from services.push.models import SubscriptionKeys
from services.queue.access import QueueLimits
from services.queue.kinds import check_limits
from services.queue.models import KindLimits
from services.remote import ClaimRequest, WorkRequest
from services.remote.declaring import Declaration
from services.remote.items import AckItem, AskItem, Named, NotifyItem, ReportItem, SubmitItem
from services.schedules.models import Definition
from services.schedules.requests import ScheduleRequest
from services.schedules.service import ONLY_SHOWN
from services.submissions import TaskBounds, bounded_batch, bounded_task
from services.topics import PublishRequest
from services.webhooks import RedeliverRequest, WebhookRequest
from services.webhooks.models import WebhookFilter
from settings import Settings
from tests.documents import load, load_once, references
from tornado_rt.json_body import JSON_NAME, structure
from tornado_rt.limits import SystemSettings
from tornado_rt.problems import Problem
from tornado_rt.topics import SubscribeRequest, UnsubscribeRequest
from tornado_rt.work.params.schema import schema_of

BOUNDS = TaskBounds.of(Settings())
TASK, BATCH = bounded_task(BOUNDS), bounded_batch(BOUNDS)


def _inside(shape: type[Any], name: str) -> type[Any]:
    """Return the class that a field of another may have."""
    [found] = [one for one in typing.get_args(typing.get_type_hints(shape)[name]) if attrs.has(one)]
    return found


# Each schema of a body, by the class that reads it.
BODIES: dict[str, type[Any]] = {
    "TaskRequest": TASK,
    "UniqueRequest": _inside(TASK, "unique"),
    "SeedTaskRequest": bounded_seed_task(BOUNDS),
    "AnalysisOptions": TaskParams,
    "BatchRequest": BATCH,
    "BatchItem": _inside(BATCH, "items"),
    "SeedBatchRequest": bounded_seed_batch(BOUNDS),
    "RerunRequest": RerunRequest,
    "KindRequest": KindRequest,
    "PurgeRequest": PurgeRequest,
    "TaskFilter": FilterRequest,
    "BulkRequest": BulkRequest,
    "BulkUndoRequest": BulkUndoRequest,
    "CloseRequest": CloseRequest,
    "Action": Action,
    "SendRequest": SendRequest,
    "BroadcastRequest": BroadcastRequest,
    "Filter": Filter,
    "ListRequest": ListRequest,
    "SnoozeRequest": When,
    "ActRequest": ActRequest,
    "UndoRequest": UndoRequest,
    "AnswerRequest": AnswerRequest,
    "Ways": Ways,
    "QuietHours": QuietHours,
    "EmailPreference": EmailPreference,
    "Preferences": Preferences,
    "SubscriptionKeys": SubscriptionKeys,
    "SubscriptionDraft": SubscriptionDraft,
    "Renewal": Renewal,
    "AddressRequest": AddressRequest,
    "MailRequest": MailRequest,
    "WebhookFilter": WebhookFilter,
    "WebhookRequest": WebhookRequest,
    "RedeliverRequest": RedeliverRequest,
    "PublishRequest": PublishRequest,
    "WorkRequest": WorkRequest,
    "ClaimRequest": ClaimRequest,
    "TaskLease": Named,
    "NotifyItem": NotifyItem,
    "AskItem": AskItem,
    "SubmitItem": SubmitItem,
    "ReportItem": ReportItem,
    "AckItem": AckItem,
    "Declaration": Declaration,
    "DemoLogin": DemoLogin,
    "SubscribeRequest": SubscribeRequest,
    "UnsubscribeRequest": UnsubscribeRequest,
    "SystemSettings": SystemSettings,
}
# Read otherwise: of a schedule and of limits there is a test below, and `openapi.yaml` says what
# the bodies of workers hold.
OTHERS = {"ScheduleRequest", "ScheduleReplacement", "KindLimitsChange", "QueueLimitsChange"}
# Read beside the class, since it may be any JSON.
BESIDE = {"AckItem": {"result"}}
# More than any bounded text, and any bounded number, but for those that MongoDB or Redis bound.
LONG = "a" * 100_000
MANY = 2.0**60
# Fields that a check of the whole body bounds, or the service behind it, with what it says.
ELSEWHERE = {
    ("SnoozeRequest", "seconds"),
    ("ListRequest", "page"),
    ("AnalysisOptions", "analysts"),
    ("SendRequest", "user_ids"),
}


def schemas() -> dict[str, Any]:
    found: dict[str, Any] = load_once("openapi")["components"]["schemas"]
    return found


FIELDS = [(name, field) for name in BODIES for field in schemas()[name]["properties"]]


def json_names(shape: type[Any]) -> dict[str, "attrs.Attribute[Any]"]:
    return {one.metadata.get(JSON_NAME, one.name): one for one in attrs.fields(shape)}


def described(shape: type[Any]) -> dict[str, Any]:
    """Return what `schema_of` says of each field, by its name in JSON."""
    said = schema_of(shape)["properties"]
    return {name: said[field.name] for name, field in json_names(shape).items()}


def refusals(shape: type[Any], field: str, value: Any) -> list[str]:
    """Return what is wrong with the value of one field."""
    try:
        structure({field: value}, shape)
    except Problem as problem:
        told = problem.errors or [problem.detail]
        about = tuple(f"{field}{mark}" for mark in (" ", ":", "[", "."))
        return [one for one in told if one.startswith(about) and "is required" not in one]
    return []


def types_of(schema: dict[str, Any]) -> set[str]:
    options = schema.get("anyOf", [schema])
    found = (one.get("type", ()) for one in options)
    return {name for one in found for name in ([one] if isinstance(one, str) else one)}


def test_every_body_is_compared() -> None:
    bodies = [
        operation.get("requestBody", {})
        for item in load("openapi")["paths"].values()
        for operation in item.values()
    ]
    asked = {one.rpartition("/")[2] for one in references(bodies)}
    seen: set[str] = set()
    while asked - seen:
        seen |= (new := asked - seen)
        asked |= {one.rpartition("/")[2] for name in new for one in references(schemas()[name])}
    assert asked <= BODIES.keys() | OTHERS


@pytest.mark.parametrize("name", BODIES)
def test_names_and_what_is_required(name: str) -> None:
    said, fields = schemas()[name], json_names(BODIES[name])
    assert said["properties"].keys() == fields.keys() | BESIDE.get(name, set())
    required = {one for one, field in fields.items() if field.default is attrs.NOTHING}
    # A declaration of a name alone takes no schema.
    required -= {"params_schema"} if name == "Declaration" else set()
    assert set(said.get("required", [])) == required
    assert said["additionalProperties"] is False


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_type_choices_and_default(name: str, field: str) -> None:
    said = schemas()[name]["properties"][field]
    if field in BESIDE.get(name, ()):
        return
    read = described(BODIES[name])[field]
    options = [one for one in read.get("anyOf", [read]) if one.get("type") != "null"]
    choices = [one["enum"] for one in options if "enum" in one]
    if "type" in options[0] and "type" in said:
        null = {"null"} if "anyOf" in read else set()
        assert types_of(said) == types_of(options[0]) | null
    for one in choices:
        # A purge takes no state in which tasks run.
        assert set(said["enum"]) - {None} == set(one) - (
            {"processing"} if name == "PurgeRequest" else set()
        )
    if "default" in read:
        assert said.get("default", read["default"]) == read["default"]
        assert "default" in said or "$ref" in said or "default" not in read, f"{name}.{field}"
    else:
        assert "default" not in said or BODIES[name] is WebhookRequest


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_bounds_are_those_that_are_kept(name: str, field: str) -> None:
    """Values within are taken, values beyond are refused, and nothing else is bounded."""
    said, shape = schemas()[name]["properties"][field], BODIES[name]
    if field in BESIDE.get(name, ()) or (name, field) in ELSEWHERE:
        return
    for good, bad in at_bounds(said):
        assert refusals(shape, field, good) == [], (good, said)
        assert refusals(shape, field, bad), (bad, said)
    for free in beyond_all(said):
        assert refusals(shape, field, free) == [], f"{name}.{field} has a bound that is not there"


def at_bounds(said: dict[str, Any]) -> typing.Iterator[tuple[Any, Any]]:
    """Yield values just within and just beyond each bound of a text, a number or a list."""
    whole = "integer" in types_of(said)
    little = 1 if whole else 0.001
    if "pattern" not in said and "minLength" in said:
        yield "a" * said["minLength"], "a" * (said["minLength"] - 1)
    if "pattern" not in said and "maxLength" in said:
        yield "a" * said["maxLength"], "a" * (said["maxLength"] + 1)
    if "minimum" in said:
        yield said["minimum"], said["minimum"] - little
    if "maximum" in said:
        yield said["maximum"], said["maximum"] + 1
    if "maxItems" in said and types_of(said.get("items", {})) == {"string"}:
        item = said["items"]
        if "enum" not in item and "pattern" not in item:
            yield ["a"] * said["maxItems"], ["a"] * (said["maxItems"] + 1)


def beyond_all(said: dict[str, Any]) -> typing.Iterator[Any]:
    """Yield values that only a bound refuses, of a kind that has none."""
    free = not {"pattern", "format", "enum", "const", "anyOf", "$ref"} & said.keys()
    types = types_of(said) if free else set()
    if "string" in types and "maxLength" not in said:
        yield LONG
    if types & {"number", "integer"}:
        if "maximum" not in said:
            yield int(MANY) if "integer" in types else MANY
        if not {"minimum", "exclusiveMinimum"} & said.keys():
            yield -(int(MANY) if "integer" in types else MANY)


def test_schedule_is_of_its_timing_and_its_task() -> None:
    said = schemas()["ScheduleRequest"]
    task, timing = schemas()["TaskRequest"]["properties"], json_names(ScheduleRequest)
    of_task = {name for name in task if name not in ("delay", "run_at", "unique")}
    assert said["properties"].keys() == timing.keys() | of_task
    assert all(said["properties"][name] == task[name] for name in of_task)
    assert set(said["required"]) == {"name", "kind"}
    for name, read in described(ScheduleRequest).items():
        assert said["properties"][name].get("default") == read.get("default"), name
        for good, bad in at_bounds(said["properties"][name]):
            assert refusals(ScheduleRequest, name, good) == []
            assert refusals(ScheduleRequest, name, bad)
    shown = schemas()["ScheduleReplacement"]["properties"].keys() - said["properties"].keys()
    assert shown == set(ONLY_SHOWN)
    assert attrs.fields_dict(Definition).keys() >= of_task


@pytest.mark.parametrize(
    ("kind", "name", "shape"), [("k", "KindLimits", KindLimits), ("", "QueueLimits", QueueLimits)]
)
def test_limits(kind: str, name: str, shape: type[Any]) -> None:
    for said in (schemas()[name], schemas()[f"{name}Change"]):
        assert said["properties"].keys() == attrs.fields_dict(shape).keys()
    for field, said in schemas()[name]["properties"].items():
        for good, bad in at_bounds(said):
            assert check_limits(kind, {field: good}) == {field: good}
            with pytest.raises(ValueError, match=field):
                check_limits(kind, {field: bad})
