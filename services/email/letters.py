"""A mail: plain text and HTML of the same notifications."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from html import escape
from typing import Any

from services.email.links import MailLinks
from services.email.words import MailWords
from tornado_rt.work import clean_line

# Shown of a digest; the rest is counted.
MOST_SHOWN = 50
SUBJECT_LENGTH = 200


def letter(
    notifications: Sequence[dict[str, Any]],
    links: MailLinks,
    *,
    sender: str,
    recipient: str,
    user_id: str,
    message_id: str,
    words: MailWords,
) -> EmailMessage:
    """Return the mail that tells of unread notifications.

    `message_id`: the left part of its `Message-ID`, the same for each attempt of a delivery.
    """
    unsubscribe = links.unsubscribe(user_id)
    made = EmailMessage(SMTP)
    made["From"] = _address(sender)
    made["To"] = _address(recipient)
    made["Subject"] = _subject(notifications, words)
    made["Date"] = datetime.now(UTC)
    made["Message-ID"] = f"<{message_id}@{sender.rpartition('@')[2]}>"
    # RFC 3834: nobody answers it by machine.
    made["Auto-Submitted"] = "auto-generated"
    made["List-Unsubscribe"] = f"<{unsubscribe}>"
    made["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    made.set_content(_plain(notifications, links, unsubscribe, words))
    made.add_alternative(_html(notifications, links, unsubscribe, words), subtype="html")
    return made


def _address(mailbox: str) -> Address:
    return Address(addr_spec=mailbox)


def _subject(notifications: Sequence[dict[str, Any]], words: MailWords) -> str:
    if len(notifications) == 1:
        # A line break would begin another header.
        return clean_line(notifications[0]["title"], SUBJECT_LENGTH)
    return words.say("several", count=len(notifications))


def _plain(
    notifications: Sequence[dict[str, Any]], links: MailLinks, unsubscribe: str, words: MailWords
) -> str:
    parts = [_paragraph(one, links) for one in notifications[:MOST_SHOWN]]
    parts += _rest(notifications, words)
    return "\n\n".join([*parts, f"-- \n{words.say('stop')}: {unsubscribe}"]) + "\n"


def _paragraph(notification: dict[str, Any], links: MailLinks) -> str:
    link = notification.get("link")
    lines = [notification["title"], notification.get("content"), link and links.absolute(link)]
    return "\n".join(filter(None, lines))


def _rest(notifications: Sequence[dict[str, Any]], words: MailWords) -> list[str]:
    more = len(notifications) - MOST_SHOWN
    return [words.say("more", count=more)] if more > 0 else []


def _html(
    notifications: Sequence[dict[str, Any]], links: MailLinks, unsubscribe: str, words: MailWords
) -> str:
    parts = [_section(one, links) for one in notifications[:MOST_SHOWN]]
    parts += [f"<p>{escape(text)}</p>" for text in _rest(notifications, words)]
    foot = f'<p><a href="{escape(unsubscribe)}">{escape(words.say("stop"))}</a></p>'
    body = "\n".join([*parts, "<hr>", foot])
    head = f'<meta charset="utf-8"><title>{escape(_subject(notifications, words))}</title>'
    html = f'<html lang="{words.language}"><head>{head}</head><body>\n{body}\n</body></html>'
    return f"<!doctype html>\n{html}\n"


def _section(notification: dict[str, Any], links: MailLinks) -> str:
    title, link = escape(notification["title"]), notification.get("link")
    if link:
        title = f'<a href="{escape(links.absolute(link))}">{title}</a>'
    content = escape(notification.get("content") or "").replace("\n", "<br>\n")
    return f"<h3>{title}</h3>" + (f"<p>{content}</p>" if content else "")
