"""Where users get mail, in the collection `user_addresses`: `_id` the user, `email`, `off`."""

import re
from typing import Any

import attrs

from services.channels import EMAIL, SetChannel
from tornado_rt.bounds import OutOfBounds
from tornado_rt.mongo import MongoAccess
from tornado_rt.work.texts import phrase

# RFC 5321 section 4.5.3.1: of the mailbox as a path without its brackets, and of its parts.
ADDRESS_LENGTH = 254
LOCAL_LENGTH = 64
ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
MAILBOX = re.compile(rf"(?P<local>{ATOM}(\.{ATOM})*)@{LABEL}(\.{LABEL})*")


class NoAddress(Exception):
    """Mail was asked for, and there is nowhere to send it."""

    def __init__(self) -> None:
        super().__init__(phrase("there is no verified address to send mail to"))


class NoMail(Exception):
    """Mail was asked for, and this server sends none."""

    def __init__(self) -> None:
        super().__init__(phrase("this server sends no mail"))


def check_address(name: str, value: str) -> None:
    """Raise OutOfBounds unless it is a mailbox in ASCII, without quoted names or comments."""
    found = MAILBOX.fullmatch(value) if len(value) <= ADDRESS_LENGTH else None
    if found is None or len(found["local"]) > LOCAL_LENGTH:
        raise OutOfBounds(phrase("{name} must be an address as ann@example.org", name=name))


def is_address(value: object) -> bool:
    """Say whether it is a mailbox that mail goes to."""
    try:
        check_address("email", value if isinstance(value, str) else "")
    except OutOfBounds:
        return False
    return True


@attrs.frozen
class MailChoice:
    """A user's address, "" for none, and whether they want mail."""

    email: str
    on: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire."""
        return {"email": self.email or None, "on": self.on}


class Addresses:
    """Keeps an address a user. The channel `email` is on while they have one and want mail.

    `sends`: whether there is a mail server.
    """

    def __init__(
        self,
        database: Any,
        set_channel: SetChannel,
        *,
        access: MongoAccess | None = None,
        sends: bool = True,
    ) -> None:
        self._all = database["user_addresses"]
        self._access = access or MongoAccess(database)
        self._set_channel = set_channel
        self._sends = sends

    async def read(self, user_id: str) -> MailChoice:
        """Return a user's choice."""
        async with self._access.turn(user_id):
            return await self._read(user_id)

    async def assign(self, user_id: str, email: str) -> MailChoice:
        """Set a user's address for an application, "" for none. Raise NoMail.

        It turns no mail on that the user has turned off.
        """
        if email and not self._sends:
            raise NoMail
        return await self._change(user_id, {"email": email})

    async def turn_on(self, user_id: str, verified: str) -> MailChoice:
        """Turn mail on, to the address that the user's token has, "" for the one that is known.

        Raise NoMail, NoAddress.
        """
        if not self._sends:
            raise NoMail
        email = verified or (await self.read(user_id)).email
        if not email:
            raise NoAddress
        return await self._change(user_id, {"email": email, "off": False})

    async def turn_off(self, user_id: str) -> MailChoice:
        """Turn mail off; the address stays known."""
        return await self._change(user_id, {"off": True})

    async def _change(self, user_id: str, fields: dict[str, Any]) -> MailChoice:
        async with self._access.turn(user_id):
            await self._all.update_one({"_id": user_id}, {"$set": fields}, upsert=True)
            choice = await self._read(user_id)
            await self._set_channel(user_id, EMAIL, choice.on)
        return choice

    async def _read(self, user_id: str) -> MailChoice:
        document = await self._all.find_one({"_id": user_id}) or {}
        email = document.get("email", "")
        return MailChoice(email, bool(email) and not document.get("off", False))
