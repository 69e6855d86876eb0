"""Preferences: who is told of what, in which way, at which hour."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import bson
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from handlers.preferences import PreferencesHandler, TypesHandler
from services.notifications.preferences import (
    SEVERITIES,
    EmailPreference,
    Preferences,
    QuietHours,
    mute_of,
    quiet_until,
    wants_email,
)
from services.notifications.types import TypeText, Ways, load_types
from settings import Settings
from tests.api import Answer, Client
from tests.conftest import SECRET
from tests.realtime import open_hub
from tests.timing import cpu_seconds
from tests.unit.test_json_body import errors_of
from tornado_rt.auth import TokenVerifier
from tornado_rt.json_body import structure
from tornado_rt.limits import RateLimiter
from tornado_rt.under_way import UnderWay

ON, OFF = Ways(push=True, email=True), Ways(push=False, email=False)
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NIGHT = {"from": "22:00", "to": "07:00", "timezone": "Europe/Berlin"}
WHOLE = {
    "types": {"alert": {"push": False, "email": True}, "a.b-c_9": {"push": True, "email": False}},
    "default": {"push": False, "email": False},
    "least_severity": "warning",
    "quiet_hours": {**NIGHT, "except_errors": True},
    "locale": "de-AT",
    "email": {"address_on": True, "delay_seconds": 600.0},
}


def night(begin: str = "22:00", end: str = "07:00", zone: str = "Europe/Berlin") -> QuietHours:
    return QuietHours(begin=begin, end=end, timezone=zone)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")


def test_who_never_chose_is_told_of_all_and_gets_no_mail() -> None:
    for severity in SEVERITIES:
        assert not mute_of(Preferences(), "order.sent", severity, NOON)
        assert not wants_email(Preferences(), "order.sent", severity)
    assert quiet_until(Preferences(), NOON) is None


def test_type_goes_the_ways_that_its_user_named() -> None:
    """Then those of the user's default, then those of the list of types."""
    email = EmailPreference(address_on=True)
    named = Preferences(types={"a": OFF}, email=email)
    assert mute_of(named, "a", "error", NOON, ON)
    assert not wants_email(named, "a", "error", ON)
    assert not mute_of(named, "b", "info", NOON)
    assert mute_of(named, "b", "info", NOON, OFF)
    assert wants_email(named, "b", "info", ON)
    other = attrs.evolve(named, default=OFF, types={"a": ON})
    assert mute_of(other, "b", "error", NOON, ON)
    assert not mute_of(other, "a", "info", NOON, OFF)
    assert not wants_email(attrs.evolve(other, email=EmailPreference()), "a", "info")


def test_severities_rise_from_info_over_success_and_warning_to_error() -> None:
    order = ["info", "success", "warning", "error"]
    for least in order:
        chosen = structure({"least_severity": least, "email": {"address_on": True}}, Preferences)
        told = [one for one in order if not mute_of(chosen, "a", one, NOON)]
        assert told == order[order.index(least) :]
        assert told == [one for one in order if wants_email(chosen, "a", one, ON)]
        # One of a later version is not below any.
        assert not mute_of(chosen, "a", "critical", NOON)


def test_error_breaks_quiet_hours_only_when_its_user_says_so() -> None:
    quiet = Preferences(quiet_hours=night(), email=EmailPreference(address_on=True))
    midnight = at("2026-01-15T23:00")
    assert mute_of(quiet, "a", "error", midnight)
    assert not mute_of(quiet, "a", "info", NOON)
    # A mail makes no noise.
    assert wants_email(quiet, "a", "info", ON)
    hours = attrs.evolve(night(), except_errors=True)
    quiet = attrs.evolve(quiet, quiet_hours=hours)
    assert not mute_of(quiet, "a", "error", midnight)
    assert mute_of(quiet, "a", "warning", midnight)
    assert mute_of(attrs.evolve(quiet, types={"a": OFF}), "a", "error", midnight)


@pytest.mark.parametrize(
    ("hours", "moment", "ends"),
    [
        (night(), "2026-01-15T20:59:59", None),
        (night(), "2026-01-15T21:00", "2026-01-16T06:00"),
        (night(), "2026-01-16T05:59:59.999999", "2026-01-16T06:00"),
        (night(), "2026-01-16T06:00", None),
        (night(), "2026-07-15T20:00", "2026-07-16T05:00"),
        (night("09:00", "17:30"), "2026-01-15T08:00", "2026-01-15T16:30"),
        (night("09:00", "17:30"), "2026-01-15T16:30", None),
        (night("00:00", "23:59", "UTC"), "2026-01-15T00:00", "2026-01-15T23:59"),
        (night("22:00", "07:00", "Asia/Kathmandu"), "2026-01-15T20:00", "2026-01-16T01:15"),
        # In these nights the clock goes forward and back.
        (night(), "2026-03-28T21:00", "2026-03-29T05:00"),
        (night(), "2026-10-24T20:00", "2026-10-25T06:00"),
        # It skips 02:30; it is never shown, and what comes after it is not quiet.
        (night("22:00", "02:30"), "2026-03-28T23:00", "2026-03-29T01:00"),
        (night("02:10", "02:50"), "2026-03-29T01:00", None),
        (night("02:30", "07:00"), "2026-03-29T01:00", "2026-03-29T05:00"),
        # It shows 02:30 twice; what begins at 02:00 is quiet again after it went back.
        (night("22:00", "02:30"), "2026-10-24T22:00", "2026-10-25T00:30"),
        (night("22:00", "02:30"), "2026-10-25T00:45", None),
        (night("22:00", "02:30"), "2026-10-25T01:00", "2026-10-25T01:30"),
        (night("02:15", "02:45"), "2026-10-25T01:20", "2026-10-25T01:45"),
        # Quiet hours to 03:00 go on when it is 02:00 again.
        (night("22:00", "03:00"), "2026-10-25T00:30", "2026-10-25T02:00"),
        # Lord Howe goes by half an hour; Samoa left out a day.
        (night("22:00", "01:45", "Australia/Lord_Howe"), "2026-04-04T14:40", "2026-04-04T14:45"),
        (night("22:00", "07:00", "Pacific/Apia"), "2011-12-30T09:00", "2011-12-30T17:00"),
    ],
)
def test_clock_on_the_wall_decides_when_it_is_quiet(
    hours: QuietHours, moment: str, ends: str | None
) -> None:
    found = hours.until(at(moment))
    assert found == (None if ends is None else at(ends))
    assert hours.hold_at(at(moment)) == (ends is not None)
    assert quiet_until(Preferences(quiet_hours=hours), at(moment)) == found


CHANGES = [
    *((zone, day) for zone in ("Europe/Berlin", "Africa/Cairo") for day in ("03-28", "10-24")),
    *(("America/New_York", day) for day in ("03-07", "10-31")),
    *(("Australia/Lord_Howe", day) for day in ("04-04", "10-03")),
    ("Pacific/Chatham", "09-26"),
    ("Asia/Beirut", "03-28"),
]
CLOCKS = st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.sampled_from((0, 15, 30, 59)))


@given(st.sampled_from(CHANGES), CLOCKS, CLOCKS, st.integers(0, 2 * 24 * 60))
def test_quiet_ends_at_the_first_minute_that_is_not_quiet(
    change: tuple[str, str], begin: str, end: str, minutes: int
) -> None:
    """Counted minute by minute, around the days on which clocks go forward or back."""
    if begin == end:
        return
    hours = night(begin, end, change[0])
    moment = at(f"2026-{change[1]}T00:00") + minutes * MINUTE
    later = moment
    while shows_quiet(hours, later):
        later += MINUTE
    assert hours.until(moment + timedelta(seconds=30)) == (None if later == moment else later)


def shows_quiet(hours: QuietHours, moment: datetime) -> bool:
    """Say what somebody with a clock and the two times would say."""
    clock = moment.astimezone(ZoneInfo(hours.timezone)).strftime("%H:%M")
    if hours.begin < hours.end:
        return hours.begin <= clock < hours.end
    return clock >= hours.begin or clock < hours.end


def test_body_is_read_as_it_is_told() -> None:
    chosen = structure(WHOLE, Preferences)
    assert chosen.to_dict() == WHOLE
    assert structure(chosen.to_dict(), Preferences) == chosen
    assert Preferences.of(chosen.to_dict()) == chosen
    assert Preferences.of(bson.decode(bson.encode(chosen.to_dict()))) == chosen
    assert structure({}, Preferences) == Preferences() == Preferences.of({})
    assert structure(Preferences().to_dict(), Preferences) == Preferences()


MANY = {f"type.{n}": {"push": True, "email": True} for n in range(101)}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"types": []}, "types must be a JSON object"),
        ({"types": {"alert": True}}, "types.alert must be a JSON object"),
        ({"types": {"alert": {"push": True}}}, "types.alert.email is required"),
        ({"types": {"alert": {"push": 1, "email": True}}}, "types.alert.push must be true or fal"),
        ({"types": {"alert": {"sms": True}}}, "types.alert has unknown fields: sms"),
        ({"types": {"A B": {"push": True, "email": True}}}, "types: A B is not 1 to 64 of a-z"),
        ({"types": {"x" * 65: {"push": True, "email": True}}}, "types: xxx"),
        ({"types": {"": {"push": True, "email": True}}}, "types:  is not 1 to 64"),
        ({"types": MANY}, "types must have at most 100 fields"),
        ({"default": {"push": True}}, "default.email is required"),
        ({"least_severity": "loud"}, "least_severity must be one of info, success, warning, error"),
        ({"least_severity": None}, "least_severity must be one of"),
        ({"quiet_hours": "22-7"}, "quiet_hours must be a JSON object"),
        ({"quiet_hours": {}}, "quiet_hours.from is required"),
        ({"quiet_hours": NIGHT | {"from": "7:00"}}, "quiet_hours.from must be a time of day such"),
        ({"quiet_hours": NIGHT | {"to": "24:00"}}, "quiet_hours.to must be a time of day"),
        ({"quiet_hours": NIGHT | {"to": "07:60"}}, "quiet_hours.to must be a time of day"),
        ({"quiet_hours": NIGHT | {"to": "07:00\n"}}, "quiet_hours.to must be a time of day"),
        ({"quiet_hours": NIGHT | {"to": "٠٧:٠٠"}}, "quiet_hours.to must be a time of day"),
        ({"quiet_hours": NIGHT | {"to": 7}}, "quiet_hours.to must be a string"),
        ({"quiet_hours": NIGHT | {"to": "22:00"}}, "quiet_hours: from and to must differ"),
        ({"quiet_hours": NIGHT | {"timezone": "Mars/X"}}, "quiet_hours.timezone: there is no time"),
        ({"quiet_hours": NIGHT | {"timezone": "../etc/passwd"}}, "quiet_hours.timezone: there is"),
        ({"quiet_hours": NIGHT | {"timezone": "localtime"}}, "quiet_hours.timezone: localtime is"),
        ({"quiet_hours": NIGHT | {"timezone": ""}}, "quiet_hours.timezone must have 1 to 64"),
        ({"quiet_hours": NIGHT | {"days": []}}, "quiet_hours has unknown fields: days"),
        ({"locale": "german"}, "locale must be a language tag such as en or de-AT"),
        ({"email": None}, "email must be a JSON object"),
        ({"email": {"delay_seconds": -1}}, "email.delay_seconds must be from 0 to 604800"),
        ({"email": {"delay_seconds": "60"}}, "email.delay_seconds must be a number"),
        ({"email": {"address_on": "yes"}}, "email.address_on must be true or false"),
        ({"sms": {}}, "unknown fields: sms"),
    ],
)
def test_fault_of_a_body_is_told_with_its_place(body: dict[str, Any], words: str) -> None:
    assert any(one.startswith(words) for one in errors_of(body, Preferences))


@pytest.mark.parametrize(
    "stored",
    [
        *(None, 7, "x", [], {}),
        dict.fromkeys(WHOLE, 7),
        {name: [] for name in WHOLE},
        {name: {} for name in WHOLE if name != "default"},
        {name: bson.Code("x") for name in WHOLE},
        {"types": {"A": WHOLE["default"], 7: {}, "alert": True}},
        {"quiet_hours": NIGHT | {"to": "22:00"}},
        {"quiet_hours": NIGHT | {"timezone": "Mars/X"}},
        {"quiet_hours": NIGHT | {"timezone": bson.Code("UTC")}},
        {"quiet_hours": NIGHT | {"from": None}},
        {"email": {"delay_seconds": float("nan"), "address_on": 1}},
        {"email": {"delay_seconds": 10**400}},
        {"of_a_later_version": 1},
    ],
)
def test_stored_preferences_of_any_shape_are_the_defaults(stored: Any) -> None:
    found = Preferences.of(stored)
    assert found == Preferences()
    orjson.dumps(found.to_dict())


def test_part_that_cannot_be_read_leaves_the_others() -> None:
    """A later version wrote more; a hand made a number another type."""
    stored: dict[str, Any] = {
        **WHOLE,
        "types": {**MANY, "x": 1},
        "quiet_hours": {**NIGHT, "days": [1], "except_errors": "yes"},
        "email": {"address_on": True, "delay_seconds": bson.Int64(60), "digest": "daily"},
        "default": {"push": False},
        "later": {},
    }
    found = Preferences.of(stored)
    assert found.types == dict.fromkeys(list(MANY)[:100], ON)
    assert found.quiet_hours == night()
    assert found.email == EmailPreference(address_on=True, delay_seconds=60)
    assert found.default == OFF
    assert found.locale == "de-AT"
    # A preference that was read can be sent back.
    assert structure(orjson.loads(orjson.dumps(found.to_dict())), Preferences) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from((*WHOLE, *NIGHT, "push", "email", "alert")), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_nothing_stored_raises(stored: Any) -> None:
    found = Preferences.of(stored)
    mute_of(found, "alert", "info", NOON)
    assert structure(found.to_dict(), Preferences) == found


def test_question_costs_little() -> None:
    """It is asked for each notification, in the loop that serves everybody."""
    chosen, midnight = Preferences.of(WHOLE), at("2026-03-28T23:00")
    zones = ["UTC", "Asia/Tokyo", "America/Lima", "Africa/Lagos", "Asia/Kolkata", "Asia/Dubai"]
    zones += ["Europe/Rome", "Europe/Oslo", "America/New_York", "Asia/Seoul"]
    others = [attrs.evolve(chosen, quiet_hours=night(zone=zone)) for zone in zones]
    with cpu_seconds() as taken:
        for _ in range(100):
            for one in others:
                mute_of(one, "b", "error", midnight)
                quiet_until(one, midnight)
        # More zones than zoneinfo keeps by itself; each pair takes some 50 microseconds.
        assert taken() < 1.0


class Kept:
    """Keeps preferences in the real MongoDB."""

    def __init__(self, database: Any) -> None:
        self._users = database["notification_users"]
        self._types = load_types("")

    async def preferences(self, user_id: str) -> Preferences:
        found = await self._users.find_one({"_id": user_id}) or {}
        return Preferences.of(found.get("preferences"))

    async def set_preferences(self, user_id: str, preferences: Preferences) -> None:
        change = {"$set": {"preferences": preferences.to_dict()}}
        await self._users.update_one({"_id": user_id}, change, upsert=True)

    async def types(self, user_id: str, asked: str | None = None) -> Sequence[TypeText]:
        return self._types.in_locale((await self.preferences(user_id)).locale, asked)


@asynccontextmanager
async def offering(database: Any, token: str) -> AsyncIterator[Client]:
    """Serve the two addresses."""
    # Nothing is followed: its Redis is never asked.
    hub, _, _ = open_hub(Redis())
    kept = {"notifications": Kept(database)}
    application = Application(
        [("/preferences", PreferencesHandler, kept), ("/types", TypesHandler, kept)],
        hub=hub,
        verifier=TokenVerifier(Settings(jwt_secret=SECRET), SECRET),
        rate_limiter=RateLimiter(0),
        under_way=UnderWay(),
        max_body_bytes=65536,
        log_function=lambda handler: None,
    )
    server = HTTPServer(application)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield Client(f"http://127.0.0.1:{sockets[0].getsockname()[1]}", token, None, [])  # type: ignore[arg-type]
    finally:
        server.stop()
        await server.close_all_connections()


@pytest.mark.gen_test
async def test_preferences_are_mine_and_replaced_as_a_whole(
    database: Any, make_token: Callable[..., str]
) -> None:
    async with offering(database, make_token("alice")) as alice:
        assert (await alice.get("/preferences")).body == Preferences().to_dict()
        put: Answer = await alice.send("PUT", "/preferences", WHOLE)
        assert (put.status, put.body) == (200, WHOLE)
        assert (await alice.get("/preferences")).body == WHOLE
        bob = alice.as_user(make_token("bob"))
        assert (await bob.get("/preferences")).body == Preferences().to_dict()
        refused = await alice.send("PUT", "/preferences", {"quiet_hours": {**NIGHT, "to": "7"}})
        assert refused.status == 422
        assert refused.body["errors"] == ["quiet_hours.to must be a time of day such as 22:00"]
        assert (await alice.get("/preferences")).body == WHOLE
        await alice.send("PUT", "/preferences", {"locale": "zh-CN"})
        assert (await alice.get("/preferences")).body == {
            **Preferences().to_dict(),
            "locale": "zh-CN",
        }
        assert (await alice.as_user("").get("/preferences")).status == 401


@pytest.mark.gen_test
async def test_types_are_told_in_the_language_of_who_asks(
    database: Any, make_token: Callable[..., str]
) -> None:
    async with offering(database, make_token("alice")) as alice:
        [_, alert, *_] = (await alice.get("/types")).body["items"]
        assert alert == {
            "type": "alert",
            "title": "Alerts",
            "description": "Something needs your attention.",
            "default": {"push": True, "email": False},
        }
        await alice.send("PUT", "/preferences", {"locale": "de-AT"})
        titles = [one["title"] for one in (await alice.get("/types")).body["items"]]
        assert titles[:2] == ["Analysen", "Warnungen"]
        assert (await alice.as_user("").get("/types")).status == 401
