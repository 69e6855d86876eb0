"""Notifications: kept in MongoDB, pushed to whoever is there, found again by whoever was not.

The parts: `accounts` and `committer` change a user's notifications, `inbox` lists them, `log` says
what a device has missed, `publication` tells devices, `retention` lets go and brings back.
Collections: `inbox`, `notification_users` with an account a user, `inbox_owed` with what is still
to be delivered; `meta` with the epoch.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import structlog
from bson import ObjectId
from bson.errors import BSONError
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError

from services.notifications.account import UNREAD, Account, Document
from services.notifications.accounts import REFUSALS, TOGETHER, Accounts
from services.notifications.committer import Committer
from services.notifications.creation import Creation, Once, Wording
from services.notifications.epochs import Epochs
from services.notifications.inbox import Inbox
from services.notifications.indexes import INBOX, make_indexes
from services.notifications.intents import (
    Act,
    Answer,
    Changed,
    Outcome,
    Prefer,
    Reach,
    Undo,
    id_of_event,
)
from services.notifications.ledger import Ledger
from services.notifications.legacy import Legacy
from services.notifications.lifetime import Lifetime
from services.notifications.listing import Query, State
from services.notifications.log import Log
from services.notifications.models import (
    BroadcastDraft,
    Notification,
    NotificationDraft,
    NotificationNotFound,
    NotificationPage,
    NotificationReplay,
    NotificationStatus,
    NotStorable,
    stored_id,
)
from services.notifications.owed import Owed
from services.notifications.preferences import Preferences
from services.notifications.publication import Publication, counts_dict
from services.notifications.recount import Recount
from services.notifications.retention import Retention
from services.notifications.sending import SendRequest
from services.notifications.shared_read import SharedRead
from services.notifications.templates import Templates, load_templates
from services.notifications.types import NotificationTypes, TypeText, load_types
from services.notifications.verbs import Verb
from tornado_rt.mongo import MongoAccess
from tornado_rt.protocol import (
    BROADCAST,
    Cursor,
    Message,
    MessageType,
    Publisher,
    user_topic,
)
from tornado_rt.turns import NoTurn
from tornado_rt.work import clean_text

log = structlog.get_logger(__name__)

REASON_LENGTH = 300
# How often it is looked whether the store is as we left it [s].
CHECK_SECONDS = 30.0
MIGRATE_RETRY_SECONDS = 1.0


@attrs.frozen
class Done:
    """How many a verb has changed, what takes it back, and the counts after it."""

    changed: int
    undo: str | None
    counts: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire."""
        return {"changed": self.changed, "undo": self.undo, **self.counts}


class NotificationService:
    """Keeps at most `quota` notifications a user (0: any number) for `ttl_days`.

    A resume replays at most `replay_limit`.
    """

    def __init__(
        self,
        database: Any,
        publisher: Publisher,
        *,
        access: MongoAccess | None = None,
        quota: int = 1000,
        ttl_days: float = 90,
        replay_limit: int = 500,
        templates: Templates | None = None,
        types: NotificationTypes | None = None,
    ) -> None:
        self._database = database
        self._all = database[INBOX]
        self._publisher = publisher
        self.access = access or MongoAccess(database)
        self._types = types or load_types("")
        lifetime = Lifetime(timedelta(days=ttl_days))
        self.templates = templates or load_templates()
        self._creation = Creation(lifetime, self.templates, self._types)
        self._epochs = Epochs(database["meta"])
        self._accounts = Accounts(database)
        self._legacy = Legacy(database, lifetime)
        self._recount = Recount(
            database, self._accounts, self._legacy, lambda: self._epochs.current
        )
        self._shared_accounts = SharedRead(self._read_accounts)
        self._publication = Publication(publisher)
        self.owed = Owed(database)
        self._committer = Committer(
            database,
            self._accounts,
            self._recount,
            epoch=lambda: self._epochs.current,
            tell=self._tell,
            note=self.owed.note,
            most_waiting_a_user=self.access.most_waiting_a_user,
            wait_seconds=self.access.wait_seconds,
        )
        self._inbox = Inbox(database, self._read_account)
        self._log = Log(database, self._read_account, replay_limit)
        self._retention = Retention(
            database,
            self.access,
            self._accounts,
            self._inbox,
            commit=self._commit,
            read_account=self._read_account,
            quota=quota,
        )
        self.run_trimmer = self._retention.run_trimmer
        self.run_clock = self._retention.run_clock
        self.trim_pending = self._retention.trim_pending
        self.do_due = self._retention.do_due

    async def prepare(self) -> None:
        """Make the indexes, look for data of the layout before, and begin an epoch."""
        await make_indexes(self._database)
        await self._legacy.look()
        await self._epochs.begin()

    async def close(self) -> None:
        """End what is under way."""
        await self._committer.close()

    async def create(
        self,
        draft: NotificationDraft,
        *,
        event_id: str | None = None,
        wording: Wording | None = None,
        once: Once | None = None,
    ) -> Notification:
        """Store, then push. A repeated `dedupe_key` renews the unread one that there is.

        A repeated `event_id` stores nothing and pushes again, since the first may have been cut
        off between the two. Raise NotStorable, TemplateRefused, SentBefore, NoTurn, or PyMongoError
        while MongoDB is away.
        """
        print_ = None
        if once is not None:
            event_id, print_ = once.event_id(draft.user_id), once.print
        if event_id is not None and (known := await self._legacy.told(draft.user_id, event_id)):
            found = await self._all.find_one({"_id": known})
            return Notification.of(found or {"_id": known, "user_id": draft.user_id})
        try:
            if wording is not None:
                account = await self._read_account(draft.user_id)
                draft = self._creation.worded(draft, wording, account)
            outcome = await self._commit(self._creation.intent(draft, event_id, print_))
        except (BSONError, OverflowError, PyMongoError) as error:
            if not _is_refusal(error):
                raise
            raise NotStorable(clean_text(error, REASON_LENGTH)) from error
        self._retention.watch_parts(outcome.result)
        return Notification.of(outcome.result)

    async def send(self, request: SendRequest, once: Once | None) -> list[Notification]:
        """Tell each user whom a request names. Raise as `create`; some may be told then."""
        wording = request.wording
        if wording is not None:
            # In any language that one of them may have chosen.
            self.templates.check(wording.template, wording.variables)
        drafts = list(map(request.draft, request.recipients))
        if len(drafts) == 1:
            return [await self.create(drafts[0], wording=wording, once=once)]
        calls = (self.create(draft, wording=wording, once=once) for draft in drafts)
        return list(await asyncio.gather(*calls))

    async def known_users(self) -> list[str]:
        """Return all users who ever got a notification."""
        return await self._accounts.user_ids()

    async def preferences(self, user_id: str) -> Preferences:
        """Return a user's preferences; the defaults for who never chose."""
        async with self.access.watched():
            return Preferences.of((await self._read_account(user_id)).preferences)

    async def set_preferences(self, user_id: str, preferences: Preferences) -> None:
        """Replace a user's preferences."""
        await self._commit(Prefer(user_id=user_id, preferences=preferences.to_dict()))

    async def set_channel(self, user_id: str, channel: str, on: bool) -> None:
        """Turn one way to reach a user when nobody is there on or off."""
        await self._commit(Reach(user_id=user_id, channel=channel, on=on))

    async def still_unread(self, user_id: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return those of the notifications that are unread, as on the wire, oldest first."""
        keys = [stored_id(id_) for id_ in ids]
        async with self.access.turn(user_id):
            found = await self._all.find({"_id": {"$in": keys}}).to_list(None)
        unread = [one for one in found if one["user_id"] == user_id and one["state"] == UNREAD]
        return [Notification.of(one).to_dict() for one in sorted(unread, key=_place)]

    async def types(self, user_id: str) -> Sequence[TypeText]:
        """Return the list of types, with the texts in the user's language."""
        return self._types.in_locale((await self.preferences(user_id)).locale)

    async def find(self, user_id: str, query: Query | None = None) -> NotificationPage:
        """Find a page, the newest first. Raise NotificationNotFound for a place that is none."""
        query = query or Query()
        async with self.access.turn(user_id):
            known = self._committer.remembered(user_id)
            found = await self._inbox.find(user_id, query, known)
        items = list(map(Notification.of, found.documents))
        counts = counts_dict(found.account)
        page = NotificationPage(items, found.following, **counts, total=found.total)
        if query.page is None:
            return page
        return attrs.evolve(page, page=query.page, page_size=query.page_size)

    async def get(self, user_id: str, id_: str) -> Notification:
        """Return one. Raise NotificationNotFound, also for another's."""
        async with self.access.turn(user_id):
            return Notification.of(await self._inbox.one(user_id, id_))

    async def parts(self, user_id: str, id_: str, limit: int) -> list[Notification]:
        """Return what a digest stands for, the newest first. Raise NotificationNotFound."""
        async with self.access.turn(user_id):
            head = await self._inbox.one(user_id, id_)
            return list(map(Notification.of, await self._inbox.parts(user_id, head, limit)))

    async def counts(self, user_id: str) -> dict[str, int]:
        """Return `{unread, unseen, version}`."""
        async with self.access.watched():
            return counts_dict(await self._read_account(user_id))

    async def act(
        self, user_id: str, verb: Verb, ids: Sequence[str], until: datetime | None = None
    ) -> Done:
        """Apply a verb to those of the ids that there are."""
        return await self._act(user_id, verb, [stored_id(id_) for id_ in ids], until)

    async def act_where(
        self, user_id: str, verb: Verb, query: Query, until: datetime | None = None
    ) -> Done:
        """Apply a verb to all that a query finds."""
        async with self.access.turn(user_id):
            ids = await self._inbox.ids(user_id, query)
        return await self._act(user_id, verb, ids, until)

    async def act_on(
        self, user_id: str, verb: Verb, id_: str, until: datetime | None = None
    ) -> Notification | None:
        """Apply a verb to one; None: it is gone. Raise NotificationNotFound, also for another's."""
        key = stored_id(id_)
        act = Act(user_id=user_id, verb=verb, ids=[key], until=until, must_be=True)
        document = (await self._commit(act)).result.document
        return None if document is None else Notification.of(document)

    async def undo(self, user_id: str, token: str) -> Done:
        """Take back what a verb did to those that did not change since.

        Raise NotificationNotFound for what is no token of this user's.
        """
        total, counts = 0, None
        for version in _versions(token):
            outcome = await self._commit(Undo(user_id=user_id, version=version))
            total, counts = total + outcome.result.count, counts_dict(outcome.account)
        return Done(total, None, counts or await self.counts(user_id))

    async def answer(self, user_id: str, id_: str, action: str) -> Notification:
        """Answer an action once. Raise NotificationNotFound, AlreadyAnswered."""
        outcome = await self._commit(Answer(user_id=user_id, id=stored_id(id_), action=action))
        return Notification.of(outcome.result)

    async def mark_read(self, user_id: str, ids: Sequence[str]) -> int:
        """Mark some as read; return how many changed."""
        return (await self.act(user_id, Verb.READ, ids)).changed

    async def mark_one(self, user_id: str, id_: str) -> Notification:
        """Mark one as read. Raise NotificationNotFound, also for another's."""
        marked = await self.act_on(user_id, Verb.READ, id_)
        assert marked is not None
        return marked

    async def mark_all_read(self, user_id: str) -> int:
        """Mark all in the inbox as read; return how many changed."""
        return (await self.read_all(user_id)).changed

    async def read_all(self, user_id: str) -> Done:
        """Mark all in the inbox as read, and say so to devices in one word."""
        unread = Query(state=State.INBOX, status=NotificationStatus.UNREAD)
        done = await self.act_where(user_id, Verb.READ, unread)
        await self._publisher.publish(user_topic(user_id), Message.of(MessageType.READ, ALL))
        return done

    async def delete(self, user_id: str, id_: str) -> None:
        """Delete one. Raise NotificationNotFound, also for another's."""
        await self.act_on(user_id, Verb.DELETE, id_)

    async def note_callback(self, user_id: str, event_id: str, end: str) -> None:
        """Note in an event's metadata the end of its callback, unless MongoDB is away."""
        key = {"_id": id_of_event(user_id, event_id), "user_id": user_id}
        try:
            async with self.access.turn(user_id):
                await self._all.update_one(key, {"$set": {"metadata.callback": end}})
        except (PyMongoError, NoTurn) as error:
            log.warning("callback_not_noted", event_id=event_id, error=error)

    async def broadcast(self, draft: BroadcastDraft) -> str:
        """Push to every connected user; store nothing. Return its id."""
        id_ = ObjectId()
        made = {"_id": id_, "state": UNREAD, "created_at": datetime.now(UTC)}
        sent = Notification.of(self._creation.fields(draft) | made).to_dict() | {"user_id": None}
        await self._publisher.publish(BROADCAST, Message.of(MessageType.NOTIFICATION, sent))
        return str(id_)

    async def replay(self, user_id: str, after: Cursor | None = None) -> NotificationReplay:
        """Return all that came after a cursor, oldest first; or why it cannot be had."""
        # Who comes now shares their reads with the others that come, and needs no turn.
        async with self.access.watched():
            account = await self._read_account(user_id)
        cursor = account.cursor(self._epochs.current)
        if after is None:
            return NotificationReplay([], None, cursor, cursor, counts_dict(account))
        async with self.access.turn(user_id):
            messages, resync, account = await self._log.read(account, after)
        cursor = account.cursor(self._epochs.current)
        begin = after if resync is None else cursor
        return NotificationReplay(messages, resync, begin, cursor, counts_dict(account))

    async def read_heads(self, user_ids: Sequence[str]) -> dict[str, Cursor]:
        """Return the last number of each user."""
        found = await self._accounts.read(user_ids)
        newest = {id_: one.settled() if one.is_busy else one for id_, one in found.items()}
        return {id_: one.cursor(self._epochs.current) for id_, one in newest.items()}

    async def run_watch(self) -> None:
        """Notice a store that was restored under us, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.check_store()
            except PyMongoError as error:
                log.warning("store_check_waits", error=error)

    async def check_store(self) -> None:
        """Begin another epoch when the store has forgotten what we wrote."""
        if not await self._epochs.check():
            self._committer.forget()

    async def run_migration(self) -> None:
        """Move all users of the layout before, until that is done."""
        while self._legacy.is_there:
            try:
                await self.migrate()
            except PyMongoError as error:
                log.warning("migration_waits", error=error)
                await asyncio.sleep(MIGRATE_RETRY_SECONDS)

    async def migrate(self) -> None:
        """Move all users of the layout before."""
        for user_ids in (self._legacy.user_ids, self._legacy.other_user_ids):
            for user_id in await user_ids():
                await self._read_account(user_id)
                await self._legacy.forget((await self._legacy.read([user_id]))[user_id])
        await self._legacy.end()

    async def _act(
        self, user_id: str, verb: Verb, ids: Sequence[Any], until: datetime | None
    ) -> Done:
        total, versions = 0, []
        outcome: Outcome | None = None
        for start in range(0, len(ids), TOGETHER):
            part = ids[start : start + TOGETHER]
            outcome = await self._commit(Act(user_id=user_id, verb=verb, ids=part, until=until))
            result: Changed = outcome.result
            total += result.count
            versions += [] if result.undo is None else [result.undo]
        counts = await self.counts(user_id) if outcome is None else counts_dict(outcome.account)
        # More of them are not taken back.
        undo = ".".join(map(str, versions)) if 0 < len(versions) <= MOST_VERSIONS else None
        return Done(total, undo, counts)

    async def _commit(self, intent: Any) -> Outcome:
        async with self.access.watched():
            outcome = await self._committer.commit(intent)
        self._retention.watch(outcome.account)
        return outcome

    async def _tell(self, ledgers: Sequence[Ledger]) -> None:
        self.owed.wake(ledgers)
        await self._publication.tell(ledgers)

    async def _read_account(self, user_id: str) -> Account:
        found = await self._shared_accounts.get(user_id)
        assert found is not None
        account, is_broken = found
        return await self._recount.count(account) if is_broken else account

    async def _read_accounts(self, user_ids: list[str]) -> dict[str, tuple[Account, bool]]:
        """Return the accounts, and whether each has to be counted."""
        settled = await self._accounts.settle(await self._accounts.read(user_ids))
        known, broken = await self._recount.look(settled)
        return {id_: (one, id_ in broken) for id_, one in known.items()}


ALL: Document = {"all": True}
# Most versions that one token takes back.
MOST_VERSIONS = 100


def _versions(token: str) -> list[int]:
    parts = token.split(".")
    if len(parts) > MOST_VERSIONS or not all(
        one.isascii() and one.isdecimal() and len(one) < 16 for one in parts
    ):
        raise NotificationNotFound(clean_text(token, 50))
    return [int(one) for one in reversed(parts)]


def _place(document: Document) -> int:
    return int(document["seq"])


def _is_refusal(error: Exception) -> bool:
    """Say whether MongoDB refuses the document itself, now and every other time."""
    if isinstance(error, PyMongoError):
        too_large = isinstance(error, DocumentTooLarge)
        return too_large or (isinstance(error, OperationFailure) and error.code in REFUSALS)
    return True
