"""Mail about what stays unread, received by a real server."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.email import (
    Addresses,
    BadLink,
    Digests,
    MailLinks,
    MailServer,
    MailWords,
    NoAddress,
    NoMail,
    Postman,
    check_address,
    email_kind,
    email_params,
)
from services.email.letters import MOST_SHOWN, letter
from services.notifications.templates import load_templates
from settings import MAILBOX, Settings
from tests.certificates import make_certificate
from tests.mail_server import MailBox, mail_server
from tests.pushing import notification
from tornado_rt.bounds import OutOfBounds
from tornado_rt.testing import TaskRun, run_task_async
from tornado_rt.work import Retry, TaskError

SENDER = "news@app.example"
WORDS = MailWords(load_templates())
LINKS = MailLinks("https://app.example/", "a secret of the tests, 32 bytes or more")


@attrs.define
class Site:
    """The parts of a server that send mail. `unread`: what is, by id."""

    addresses: Addresses
    digests: Digests
    postman: Postman
    channels: list[tuple[str, str, bool]]
    unread: dict[str, dict[str, Any]]
    asked: list[list[str]] = attrs.field(factory=list)

    async def tell(self, *ids: str, user_id: str = "alice", **more: Any) -> TaskRun:
        """Run a delivery."""
        return await run_task_async(email_kind(self.postman), email_params(user_id, ids), **more)


async def ignore(user_id: str, name: str, on: bool) -> None:
    """Stand for the inbox where nobody asks which channels are on."""


async def words_of(user_id: str) -> MailWords:
    return WORDS


def site_of(database: Any, url: str, **unread: dict[str, Any]) -> Site:
    channels: list[tuple[str, str, bool]] = []

    async def set_channel(user_id: str, name: str, on: bool) -> None:
        channels.append((user_id, name, on))

    async def still_unread(user_id: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        site.asked.append(list(ids))
        return [site.unread[one] for one in ids if one in site.unread]

    addresses, digests = Addresses(database, set_channel), Digests(database)
    server = MailServer.parse(url)
    postman = Postman(
        *(addresses, digests, LINKS, still_unread),
        words_of=words_of,
        server=server,
        sender=SENDER,
    )
    site = Site(addresses, digests, postman, channels, unread)
    return site


@asynccontextmanager
async def posting(database: Any, box: MailBox, **unread: dict[str, Any]) -> AsyncIterator[Site]:
    """Run a mail server and what sends to it; alice has an address."""
    async with mail_server(box) as port:
        site = site_of(database, f"smtp://127.0.0.1:{port}", **unread)
        await site.addresses.assign("alice", "alice@home.example")
        yield site


@pytest.fixture
def box() -> MailBox:
    return MailBox()


@pytest.mark.gen_test
async def test_unread_notification_becomes_a_mail(database: Any, box: MailBox) -> None:
    one = notification(id="a", title="Fertig <b>&</b> gut: Größe 😀", content="line 1\nline <2>")
    async with posting(database, box, a=one) as site:
        ended = await site.tell("a")
        assert ended.result == {"told": 1}
    (mail,) = box.received
    assert (mail.sender, mail.recipients) == (SENDER, ["alice@home.example"])
    message = mail.message
    assert message["Subject"] == one["title"]
    assert message["From"] == SENDER
    assert message["To"] == "alice@home.example"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"] == "<test@app.example>"
    assert message["Date"].datetime is not None
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message.get_content_type() == "multipart/alternative"
    assert mail.text().startswith(
        f"{one['title']}\nline 1\nline <2>\nhttps://app.example/builds/7\n"
    )
    page = mail.text("html")
    assert "Fertig &lt;b&gt;&amp;&lt;/b&gt; gut: Größe 😀</a>" in page
    assert '<a href="https://app.example/builds/7">' in page
    assert "line 1<br>\nline &lt;2&gt;" in page


@pytest.mark.gen_test
async def test_what_was_read_is_not_told(database: Any, box: MailBox) -> None:
    async with posting(database, box) as site:
        assert (await site.tell("a")).result == {"told": 0}
        assert site.asked == [["a"]]
    assert box.received == []


@pytest.mark.gen_test
async def test_what_waits_becomes_one_mail_and_is_told_once(database: Any, box: MailBox) -> None:
    """Each notification has a delivery of its own; the first tells of all."""
    ids = ["a", "b", "c"]
    unread = {one: notification(id=one, title=f"news {one}") for one in ids}
    async with posting(database, box, **unread) as site:
        for one in ids:
            await site.digests.expect("alice", [one])
        await site.digests.expect("alice", ["c"])
        del site.unread["b"]
        assert (await site.tell("a")).result == {"told": 2}
        # Notifications after a mail wait for their own delay.
        site.unread["d"] = notification(id="d", title="news d")
        await site.digests.expect("alice", ["d"])
        assert (await site.tell("b")).result == {"told": 0}
        assert (await site.tell("c")).result == {"told": 0}
        assert (await site.tell("d")).result == {"told": 1}
    first, second = box.received
    assert first.message["Subject"] == "2 unread notifications"
    assert [title in first.text() for title in ("news a", "news b", "news c")] == [
        True,
        False,
        True,
    ]
    assert second.message["Subject"] == "news d"


@pytest.mark.gen_test
async def test_delivery_that_nobody_announced_is_sent_all_the_same(
    database: Any, box: MailBox
) -> None:
    async with posting(database, box, a=notification(id="a")) as site:
        await site.tell("a")
        await site.tell("a")
    assert len(box.received) == 1


def test_long_digest_counts_what_it_does_not_show() -> None:
    many = [notification(title=f"news {n:03}") for n in range(MOST_SHOWN + 7)]
    made = letter(
        many,
        LINKS,
        sender=SENDER,
        recipient="a@b.example",
        user_id="alice",
        message_id="x",
        words=WORDS,
    )
    text = made.get_body(["plain"])
    assert text is not None
    assert made["Subject"] == f"{MOST_SHOWN + 7} unread notifications"
    assert f"news {MOST_SHOWN - 1:03}" in text.get_content()
    assert f"news {MOST_SHOWN:03}" not in text.get_content()
    assert "and 7 more" in text.get_content()


OTHER_WORDS = [
    ("de-AT", "de", "57 ungelesene Mitteilungen", "und 7 weitere", "Keine Mails mehr"),
    ("zh", "zh", "57 条未读通知", "还有 7 条", "不再接收通知邮件"),
    ("fr", "en", "57 unread notifications", "and 7 more", "No more mail"),
]


@pytest.mark.parametrize(("locale", "language", "subject", "more", "stop"), OTHER_WORDS)
def test_mail_is_in_the_users_language(
    locale: str, language: str, subject: str, more: str, stop: str
) -> None:
    made = letter(
        [notification(title="news")] * (MOST_SHOWN + 7),
        LINKS,
        sender=SENDER,
        recipient="a@b.example",
        user_id="alice",
        message_id="x",
        words=MailWords(load_templates(), locale),
    )
    assert made["Subject"] == subject
    for kind in ("plain", "html"):
        part = made.get_body([kind])
        assert part is not None
        text = part.get_content()
        assert (more in text, stop in text) == (True, True)
    assert f'<html lang="{language}">' in text


@pytest.mark.gen_test
@pytest.mark.parametrize("where", ["recipient", "mail"])
async def test_passing_refusal_is_tried_again_as_the_same_mail(
    where: str, database: Any, box: MailBox
) -> None:
    answers = box.recipient_answers if where == "recipient" else box.answers
    answers.append("451 try later")
    async with posting(database, box, a=notification(id="a")) as site:
        first = await site.tell("a")
        assert isinstance(first.error, Retry)
        assert "451" in str(first.error)
        assert (await site.tell("a", attempt=2)).result == {"told": 1}
    assert box.received[0].message["Message-ID"] == "<test@app.example>"


@pytest.mark.gen_test
@pytest.mark.parametrize("where", ["recipient", "mail"])
async def test_final_refusal_is_final(where: str, database: Any, box: MailBox) -> None:
    """Refused ones do not come with the next mail, which may be taken; the others do."""
    answers = box.recipient_answers if where == "recipient" else box.answers
    answers.append("550 no such user")
    async with posting(database, box, a=notification(id="a"), b=notification(id="b")) as site:
        await site.digests.expect("alice", ["a", "b"])
        ended = await site.tell("a")
        assert isinstance(ended.error, TaskError)
        assert "550" in str(ended.error)
        assert (await site.tell("b")).result == {"told": 1}


@pytest.mark.gen_test
async def test_what_was_read_brings_no_mail_about_others(database: Any, box: MailBox) -> None:
    """Theirs is due after a delay of their own."""
    async with posting(database, box, b=notification(id="b")) as site:
        await site.digests.expect("alice", ["a", "b"])
        assert (await site.tell("a")).result == {"told": 0}
        assert box.received == []
        assert (await site.tell("b")).result == {"told": 1}


@pytest.mark.gen_test
async def test_server_that_is_away_is_tried_again(database: Any) -> None:
    site = site_of(database, "smtp://127.0.0.1:9", a=notification(id="a"))
    await site.addresses.assign("alice", "alice@home.example")
    assert isinstance((await site.tell("a")).error, Retry)


@pytest.mark.gen_test
async def test_password_goes_over_tls_only(
    database: Any, box: MailBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STARTTLS is demanded, its certificate checked, and a wrong password tried again later."""
    certificate = make_certificate(tmp_path)
    async with mail_server(box, tls=certificate.server, password="s/e:c") as port:
        address = f"ann:s%2Fe%3Ac@127.0.0.1:{port}"
        refused = site_of(database, f"smtp://{address}", a=notification(id="a"))
        await refused.addresses.assign("alice", "alice@home.example")
        assert isinstance((await refused.tell("a")).error, Retry)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
        wrong = site_of(database, f"smtp://ann:wrong@127.0.0.1:{port}", a=notification(id="a"))
        ended = await wrong.tell("a")
        assert isinstance(ended.error, Retry)
        assert "535" in str(ended.error)
        site = site_of(database, f"smtp://{address}", a=notification(id="a"))
        assert (await site.tell("a")).result == {"told": 1}
    (mail,) = box.received
    assert mail.encrypted
    assert mail.user == "ann"


@pytest.mark.gen_test
async def test_server_without_tls_gets_no_password(database: Any, box: MailBox) -> None:
    async with mail_server(box) as port:
        site = site_of(database, f"smtp://ann:secret@127.0.0.1:{port}", a=notification(id="a"))
        await site.addresses.assign("alice", "alice@home.example")
        assert isinstance((await site.tell("a")).error, Retry)
    assert box.received == []


def test_mail_server_is_read_from_its_address() -> None:
    read = MailServer.parse("smtp://a%40b:c%2F@mail.example")
    assert (read.host, read.port, read.username, read.password) == (
        "mail.example",
        587,
        "a@b",
        "c/",
    )
    assert read.starttls is True
    assert MailServer.parse("smtp://mail.example:25").starttls is None
    assert MailServer.parse("smtp://mail.example?starttls=off").starttls is False
    secure = MailServer.parse("smtps://mail.example")
    assert (secure.port, secure.implicit_tls, secure.starttls) == (465, True, False)
    assert "secret" not in repr(MailServer.parse("smtp://a:secret@mail.example"))


@pytest.mark.parametrize(
    "url",
    [
        *("mail.example", "http://mail.example", "smtp://", "smtp://a:b@mail.example:x"),
        *("smtp://mail.example/x", "smtp://mail.example?starttls=maybe"),
        *("smtp://mail.example?tls=1", "smtp://mail.example:0", "smtp://a\nb"),
    ],
)
def test_bad_address_of_the_server_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"^smtp_url: ") as refused:
        Settings(smtp_url=url, smtp_from=SENDER)
    assert "a:b" not in str(refused.value)


def test_mail_needs_a_sender() -> None:
    with pytest.raises(ValueError, match="smtp_from"):
        Settings(smtp_url="smtp://mail.example")
    with pytest.raises(ValueError, match="smtp_from"):
        Settings(smtp_from="a\n@b.example")


@given(st.text(), st.text(), st.text(max_size=50))
def test_no_notification_makes_a_header(title: str, content: str, link: str) -> None:
    """Its texts may be anything."""
    one = notification(title=title, content=content, link=link)
    made = letter(
        [one],
        LINKS,
        sender=SENDER,
        recipient="a@b.example",
        user_id=title,
        message_id="x",
        words=WORDS,
    )
    head = made.as_bytes().partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] not in b" \t"]
    assert sorted(names) == sorted(
        [
            *(b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted"),
            *(b"List-Unsubscribe", b"List-Unsubscribe-Post", b"MIME-Version", b"Content-Type"),
        ]
    )


@pytest.mark.parametrize("address", ["ann@home.example", "a.b+c@x", "o'neil@home-1.example.org"])
def test_address_is_taken(address: str) -> None:
    check_address("email", address)
    assert re.fullmatch(MAILBOX, address)


@pytest.mark.parametrize(
    "address",
    [
        *("", "ann", "@home.example", "ann@", "a b@home.example", "ann@home.example\r\nBcc: x@y.z"),
        *("a..b@home.example", ".a@home.example", '"a b"@home.example', "ann@[127.0.0.1]"),
        *("ann@-home.example", "ann@home..example", "ann@home.example,x@y.z", "änn@home.example"),
        *("a" * 65 + "@home.example", "ann@" + ".".join(["h" * 60] * 5), "<ann@home.example>"),
    ],
)
def test_address_that_could_be_more_or_less_is_refused(address: str) -> None:
    with pytest.raises(OutOfBounds, match="email must be"):
        check_address("email", address)


@pytest.mark.gen_test
async def test_address_turns_the_channel_on_and_its_end_off(database: Any) -> None:
    site = site_of(database, "smtp://mail.example")
    with pytest.raises(NoAddress):
        await site.addresses.turn_on("alice", "")
    choice = await site.addresses.turn_on("alice", "alice@home.example")
    assert choice.to_dict() == {"email": "alice@home.example", "on": True}
    assert not (await site.addresses.turn_off("alice")).on
    # An application sets it anew: who has turned mail off gets none.
    assert not (await site.addresses.assign("alice", "alice@work.example")).on
    assert (await site.addresses.turn_on("alice", "")).email == "alice@work.example"
    assert (await site.addresses.assign("alice", "")).to_dict() == {"email": None, "on": False}
    assert [on for _, _, on in site.channels] == [True, False, False, True, False]
    silent = Addresses(database, ignore, sends=False)
    with pytest.raises(NoMail):
        await silent.assign("alice", "alice@home.example")


def test_link_turns_off_the_mail_of_its_user_only() -> None:
    link = urlsplit(LINKS.unsubscribe("张三/?&"))
    assert (link.netloc, link.path) == ("app.example", "/api/email/unsubscribe")
    (token,) = parse_qs(link.query)["token"]
    assert LINKS.user_of(token) == "张三/?&"
    other = MailLinks("https://app.example", "another secret of 32 bytes or more")
    bad = [*(token[:-1], token[1:], "", ".", "é.é", token + "A", token * 50)]
    for one in [*bad, parse_qs(urlsplit(other.unsubscribe("张三/?&")).query)["token"][0]]:
        with pytest.raises(BadLink):
            LINKS.user_of(one)
