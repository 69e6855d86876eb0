"""Web Push: what is sent, to a push service that checks it and browsers that decrypt it."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from structlog.testing import capture_logs
from tornado.web import Application

from services.base64url import decode, encode
from services.push import (
    EndpointRefused,
    PushParams,
    load_vapid_key,
    push_kind,
    push_params,
    withdraw_params,
)
from services.push.client import MOST_RETRY_AFTER_SECONDS, seconds_of
from services.push.encryption import BODY_BYTES, TEXT_BYTES, encrypt, point_of
from services.push.messages import text_of, topic_of
from services.queue import Job, NewTask, QueueService
from settings import Settings
from tests.push_service import Device, PushService, check_signature
from tests.pushing import SUBJECT, notification, site_of
from tests.working import ended, working
from tornado_rt.protocol import iso_time
from tornado_rt.secret import SecretError
from tornado_rt.work import Retry, TaskError, first_fragment


def private_key(number: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(decode(number), "big"), ec.SECP256R1())


def test_message_of_the_rfc_is_encrypted_as_it_stands_there() -> None:
    """RFC 8291, appendix A."""
    body = encrypt(
        b"When I grow up, I want to be a watermelon",
        decode(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
        ),
        decode("BTBZMqHH6r4Tts7J_aSIgg"),
        sender=private_key("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"),
        salt=decode("DGv6ra1nlYgDCS1FRnbzlw"),
    )
    assert encode(body) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS"
        "6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qu"
        "lcy4a-fN"
    )


@pytest.mark.parametrize("size", [0, 1, TEXT_BYTES])
def test_another_program_reads_what_is_encrypted(size: int) -> None:
    """Up to what each push service takes, and no more than that."""
    browser, text = Device("a"), orjson.dumps("x" * (size - 2)) if size > 1 else b"1"
    receiver = point_of(browser.key.public_key())
    body = encrypt(text, receiver, browser.auth)
    assert len(body) <= BODY_BYTES
    assert browser.read(body) == orjson.loads(text)
    with pytest.raises(ValueError, match="at most"):
        encrypt(b"x" * (TEXT_BYTES + 1), receiver, browser.auth)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5000)


@given(texts, st.text("aß€😀", max_size=200), st.text("/aß€😀", max_size=2000))
def test_every_notification_fits_into_a_push(content: str, title: str, link: str) -> None:
    """The content is cut; a link stays whole, or is left out."""
    params = push_params(notification(content=content, title=title, link=link, icon=link))
    text = text_of(PushParams(**params))
    assert len(text) <= TEXT_BYTES
    sent = orjson.loads(text)
    assert sent["title"] == title
    assert sent["link"] in (link, None)
    cut = (sent["content"] or "").removesuffix("…")
    assert content.startswith(cut)


def test_what_fits_is_not_cut() -> None:
    sent = orjson.loads(text_of(PushParams(**push_params(notification(), 7))))
    assert sent == {
        "id": "5f0000000000000000000001",
        "tag": "5f0000000000000000000001",
        "icon": None,
        "title": "The build failed",
        "content": "main, in 3 minutes",
        "link": "/builds/7",
        "severity": "error",
        "type": "alert",
        "version": 7,
    }


def test_as_much_of_the_content_is_kept_as_fits() -> None:
    text = text_of(PushParams(**push_params(notification(content="€" * 1000, link="/" * 1500))))
    assert TEXT_BYTES - 4 < len(text) <= TEXT_BYTES


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0.0), ("120", 120.0), ("9" * 9, MOST_RETRY_AFTER_SECONDS), ("", None)),
        *(("-1", None), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)),
    ],
)
def test_retry_after_is_read(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def test_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    made = load_vapid_key(settings).public
    assert load_vapid_key(settings).public == made
    assert len(decode(made)) == 65
    path = tmp_path / "data" / "vapid_private_key.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    named = Settings(data_dir=tmp_path / "other", vapid_private_key_file=str(path))
    assert load_vapid_key(named).public == made
    key: Any = load_pem_private_key(path.read_bytes(), None)
    number = encode(key.private_numbers().private_value.to_bytes(32, "big"))
    assert load_vapid_key(named.changed(vapid_private_key=number)).public == made
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("key", ["x", encode(b"\0" * 32), encode(b"\xff" * 32), "a" * 44, "é"])
def test_bad_key_is_refused_by_the_name_of_its_setting(key: str) -> None:
    with pytest.raises(SecretError, match=r"vapid_private_key: must be 32 bytes"):
        load_vapid_key(Settings(vapid_private_key=key))


def test_bad_file_of_the_key_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "data" / "vapid_private_key.pem"
    path.parent.mkdir()
    path.write_text("no key")
    with pytest.raises(SecretError, match=r"vapid_private_key\.pem: is no private key"):
        load_vapid_key(Settings(data_dir=path.parent))


@pytest.fixture
def service() -> PushService:
    return PushService()


@pytest.fixture
def app(service: PushService) -> Application:
    return service.application()


@pytest.mark.gen_test
async def test_each_browser_of_the_user_gets_it_signed_and_sealed(
    database: Any, http_server: Any, base_url: str, service: PushService, tmp_path: Path
) -> None:
    one, two, other = Device("one"), Device("two"), Device("other")
    async with site_of(database, base_url, tmp_path) as site:
        for browser in (one, two):
            await site.subscribe("alice", browser)
        await site.subscribe("bob", other)
        ended = await site.push(push_params(notification(), 3))
        assert ended.result == {"sent": 2, "gone": 0, "refused": 0}
        for browser in (one, two):
            (request,) = service.of(browser)
            assert browser.read(request.body)["title"] == "The build failed"
            signed_by = check_signature(request, base_url, SUBJECT)
            assert signed_by == site.subscriptions.server_key
            assert request.headers["Content-Encoding"] == "aes128gcm"
            assert 3590 <= int(request.headers["TTL"]) <= 3600
            assert request.headers["Urgency"] == "high"
            assert request.headers["Topic"] == topic_of("5f0000000000000000000001")
            assert len(request.headers["Topic"]) == 32
            assert b"build" not in request.body
        assert service.of(other) == []


@pytest.mark.gen_test
async def test_signature_is_made_once_for_a_push_service(
    database: Any, http_server: Any, base_url: str, service: PushService, tmp_path: Path
) -> None:
    browser = Device("one")
    async with site_of(database, base_url, tmp_path) as site:
        await site.subscribe("alice", browser)
        for _ in range(2):
            await site.push(push_params(notification(severity="info")))
    first, second = service.of(browser)
    assert first.headers["Authorization"] == second.headers["Authorization"]
    assert first.headers["Urgency"] == "normal"
    assert first.body != second.body


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [404, 410])
async def test_subscription_that_is_gone_is_forgotten(
    status: int,
    database: Any,
    http_server: Any,
    base_url: str,
    service: PushService,
    tmp_path: Path,
) -> None:
    """With the last one the channel is off."""
    gone, good = Device("gone"), Device("good")
    service.statuses["gone"] = [status]
    async with site_of(database, base_url, tmp_path) as site:
        await site.subscribe("alice", gone)
        id_ = await site.subscribe("alice", good)
        with capture_logs() as logs:
            ended = await site.push(push_params(notification()))
        answer = f"the push service answered {status}"
        assert ended.result == {"sent": 1, "gone": 1, "refused": 0, "answer": answer}
        assert [one["event"] for one in logs] == ["push_subscription_gone"]
        assert await site.ids("alice") == [id_]
        assert ("alice", "push", False) not in site.channels
        service.statuses["good"] = [status]
        with capture_logs():
            await site.push(push_params(notification()))
        assert await site.ids("alice") == []
        assert site.channels[-1] == ("alice", "push", False)


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_busy_push_service_is_asked_again_and_others_are_not(
    status: int,
    database: Any,
    http_server: Any,
    base_url: str,
    service: PushService,
    tmp_path: Path,
) -> None:
    busy, good = Device("busy"), Device("good")
    service.statuses["busy"], service.retry_after = [status, 201], "70"
    async with site_of(database, base_url, tmp_path) as site:
        for browser in (busy, good):
            await site.subscribe("alice", browser)
        first = await site.push(push_params(notification()))
        assert isinstance(first.error, Retry)
        assert first.error.delay == 70
        second = await site.push(push_params(notification()), attempt=2, kept=first.kept)
        assert second.result == {"sent": 2, "gone": 0, "refused": 0}
    assert [len(service.of(one)) for one in (busy, good)] == [2, 1]


@pytest.mark.gen_test
async def test_worker_delivers_it_in_the_end(
    database: Any,
    http_server: Any,
    base_url: str,
    service: PushService,
    tmp_path: Path,
    redis: Redis,
    queue: QueueService,
) -> None:
    """From a queue in Redis, at the second attempt."""
    busy, good = Device("busy"), Device("good")
    service.statuses["busy"], service.retry_after = [503, 201], "0"
    async with site_of(database, base_url, tmp_path) as site:
        for browser in (busy, good):
            await site.subscribe("alice", browser)
        job = Job(label="Push", params=push_params(notification()))
        task = NewTask(kind="push", job=job, first=first_fragment(None, None))
        task_id = (await queue.enqueue_task("alice", task)).task_id
        async with working(redis, queue, push_kind(site.pusher)):
            done = await ended(queue, task_id)
    assert done.result == {"sent": 2, "gone": 0, "refused": 0}
    assert [len(service.of(one)) for one in (busy, good)] == [2, 1]


@pytest.mark.gen_test
async def test_push_service_that_is_away_is_asked_again(database: Any, tmp_path: Path) -> None:
    async with site_of(database, "http://127.0.0.1:9", tmp_path) as site:
        await site.subscribe("alice", Device("one"))
        ended = await site.push(push_params(notification()))
        assert isinstance(ended.error, Retry)
        assert ended.error.delay is None


@pytest.mark.gen_test
async def test_what_was_read_meanwhile_is_not_pushed_later(
    database: Any, http_server: Any, base_url: str, service: PushService, tmp_path: Path
) -> None:
    browser = Device("one")
    async with site_of(database, base_url, tmp_path) as site:
        await site.subscribe("alice", browser)
        site.unread.clear()
        ended = await site.push(push_params(notification()), attempt=2)
        assert ended.result == {"sent": 0, "gone": 0, "refused": 0}
        late = push_params(notification(created_at=iso_time_before(4000)))
        assert (await site.push(late)).result["sent"] == 0
    assert service.of(browser) == []


def iso_time_before(seconds: float) -> str:
    """Return a time before now."""
    return iso_time(datetime.fromtimestamp(time.time() - seconds, UTC))


@pytest.mark.gen_test
async def test_push_that_all_refuse_is_a_failure(
    database: Any, http_server: Any, base_url: str, service: PushService, tmp_path: Path
) -> None:
    """The subscription stays: a wrong clock makes every push service refuse."""
    service.statuses["one"] = [403]
    async with site_of(database, base_url, tmp_path) as site:
        id_ = await site.subscribe("alice", Device("one"))
        with capture_logs() as logs:
            ended = await site.push(push_params(notification()))
        assert isinstance(ended.error, TaskError)
        assert logs[0]["reason"] == "the push service answered 403"
        assert await site.ids("alice") == [id_]


@pytest.mark.gen_test
async def test_private_address_is_never_pushed_to(
    database: Any, http_server: Any, base_url: str, service: PushService, tmp_path: Path
) -> None:
    """Nor one whose name stands for one by now."""
    browser, named = Device("one"), Device("two")
    async with site_of(database, base_url, tmp_path, allow_private=False) as site:
        with pytest.raises(EndpointRefused, match="https"):
            await site.subscribe("alice", browser)
        for endpoint in ("https://10.0.0.1/x", "https://[::1]/x", "https://169.254.169.254/"):
            with pytest.raises(EndpointRefused, match="public"):
                await site.subscribe("alice", browser, endpoint=endpoint)
        port = base_url.rpartition(":")[2]
        await site.subscribe("alice", named, endpoint=f"https://localhost:{port}/push/two")
        with capture_logs() as logs:
            ended = await site.push(push_params(notification()))
        assert isinstance(ended.error, TaskError)
        assert "public address" in logs[0]["reason"]
    assert service.pushes == {}


@pytest.mark.gen_test
async def test_withdrawal_names_what_was_read(
    database: Any, http_server: Any, base_url: str, service: PushService, tmp_path: Path
) -> None:
    """One that still waits for its browser is replaced, and never shown."""
    browser = Device("one")
    async with site_of(database, base_url, tmp_path) as site:
        await site.subscribe("alice", browser)
        await site.push(push_params(notification()))
        for params in (
            *withdraw_params("alice", ["5f0000000000000000000001"], 4),
            *withdraw_params("alice", ["a", "b"], 5),
            *withdraw_params("alice", None, 6),
        ):
            assert (await site.push(params)).result["sent"] == 1
    shown, *taken = service.messages(browser)
    assert taken == [
        {"withdraw": ["5f0000000000000000000001"], "version": 4},
        {"withdraw": ["a", "b"], "version": 5},
        {"withdraw": "all", "version": 6},
    ]
    topics = [one.headers.get("Topic") for one in service.of(browser)]
    assert topics[0] == topics[1] == topic_of(shown["id"])
    assert topics[2:] == [None, None]


def test_many_are_withdrawn_in_parts_that_fit() -> None:
    ids = [f"{n:024x}" for n in range(250)]
    parts = withdraw_params("alice", ids)
    assert [one for part in parts for one in part["withdraw"]] == ids
    assert all(len(text_of(PushParams(**part))) <= TEXT_BYTES for part in parts)


@pytest.mark.gen_test
async def test_browser_that_bears_no_silent_push_gets_no_withdrawal(
    database: Any, tmp_path: Path
) -> None:
    """Apple's service takes a subscription away for them."""
    async with site_of(database, "https://web.push.apple.com", tmp_path) as site:
        await site.subscribe("alice", Device("one"))
        (params,) = withdraw_params("alice", ["a"])
        assert (await site.push(params)).result == {"sent": 0, "gone": 0, "refused": 0}


@pytest.mark.gen_test
async def test_expired_subscription_and_one_of_another_key_get_nothing(
    database: Any, http_server: Any, base_url: str, service: PushService, tmp_path: Path
) -> None:
    """The first is forgotten; that of the other key may be another server's."""
    over, strange = Device("over"), Device("strange")
    async with site_of(database, base_url, tmp_path, server_key="another") as site:
        kept = await site.subscribe("alice", strange)
    async with site_of(database, base_url, tmp_path) as site:
        await site.subscribe("alice", over, expirationTime=(time.time() - 1) * 1000)
        assert (await site.push(push_params(notification()))).result["sent"] == 0
        assert await site.ids("alice") == [kept]
    assert service.pushes == {}
