"""The notes of the processes of the inbox walk, compared with the model and with the store."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import orjson

from services.notifications.account import Account, Counts
from services.notifications.accounts import TOGETHER
from services.notifications.models import Notification
from tests.inbox_model import SNOOZED, STATES, Deed, Inbox, Told, View, Wrong, view_of

# Number of a user's last deeds that are told with a fault.
SHOWN_DEEDS = 12
# Most orders in which operations in doubt are tried.
MOST_WAYS = 200

Seen = tuple[int, int]


@attrs.define
class Noted:
    """The notes about one user since the last quiet point."""

    # Each by its number as it was applied last, and those that were acknowledged.
    deeds: dict[int, Deed] = attrs.field(factory=dict)
    # The values when others were first, by the version.
    lost: dict[int, list[Deed]] = attrs.field(factory=lambda: collections.defaultdict(list))
    done: set[int] = attrs.field(factory=set)
    counts: dict[int, set[Seen]] = attrs.field(factory=lambda: collections.defaultdict(set))
    told: dict[int, set[Told]] = attrs.field(factory=lambda: collections.defaultdict(set))
    # By version: the state that was asked for, the counts that came with it, the list.
    lists: dict[int, list[tuple[str, Seen, list[View]]]] = attrs.field(
        factory=lambda: collections.defaultdict(list)
    )

    def ways(self, version: int, end: int) -> Iterator[list[Deed]]:
        """Yield the orders in which deeds may have led from a version to another.

        Those that were acknowledged have happened; those in doubt may have.
        """
        way: list[Deed] = []
        sure, maybe = self._by_version()
        while version < end:
            found = [[one] for one in sure.get(version, [])] or maybe.get(version, [])
            if len(found) > 1:
                for some in found:
                    yield from ([*way, *some, *rest] for rest in self.ways(some[-1].after, end))
                return
            if not found:
                return
            way += found[0]
            version = found[0][-1].after
        if version == end:
            yield way

    def twice(self) -> list[Deed]:
        """Return deeds that were acknowledged under one number."""
        sure, _ = self._by_version()
        return next((some for some in sure.values() if len(some) > 1), [])

    def last(self, version: int) -> list[Deed]:
        """Return the deeds up to a version, in their order."""
        order = sorted(self.deeds.values(), key=lambda one: (one.after, one.number))
        return [one for one in order if one.before <= version + 1][-SHOWN_DEEDS:]

    def end_of(self, version: int) -> int:
        """Return how far deeds lead from a version."""
        sure, maybe = self._by_version()
        while found := [[one] for one in sure.get(version, [])] or maybe.get(version):
            version = found[0][-1].after
        return version

    def idle(self) -> Mapping[int, list[Deed]]:
        """Return the acknowledged deeds that changed nothing, by the version."""
        found = collections.defaultdict(list)
        for number in self.done & self.deeds.keys():
            deed = self.deeds[number]
            if deed.before == deed.after:
                found[deed.before].append(deed)
        return found

    def _by_version(self) -> tuple[dict[int, list[Deed]], dict[int, list[list[Deed]]]]:
        """Return those that have happened, and those that may have, each by its first version.

        What a process did in one go has happened as a whole, or not at all.
        """
        sure: dict[int, list[Deed]] = {}
        maybe: dict[int, list[list[Deed]]] = {}
        last: dict[tuple[int, str], list[Deed]] = {}
        for deed in sorted(self.deeds.values(), key=lambda one: (one.before, one.number)):
            if deed.before == deed.after:
                continue
            if deed.number in self.done:
                sure.setdefault(deed.before, []).append(deed)
                continue
            some = last.get(deed.batch, [])
            if some and some[-1].after == deed.before:
                some.append(deed)
            else:
                last[deed.batch] = [deed]
                maybe.setdefault(deed.before, []).append(last[deed.batch])
        return sure, maybe


@attrs.define
class Filters:
    """The possible findings of filters: their verbs are done a little later, by the ids.

    Found were all that matched at each version from the one that was known then, and none that
    matched at no version.
    """

    # By the number of the deed: those that matched at all versions, and at any.
    found: dict[int, tuple[set[str], set[str]]]
    begins: dict[int, list[Deed]]
    # The number of ids that the deeds which were asked together are for.
    sizes: collections.Counter[tuple[int, int]]
    under_way: list[Deed] = attrs.field(factory=list)

    @classmethod
    def of(cls, noted: Noted) -> "Filters":
        """Find the deeds that were asked by a filter."""
        begins, sizes = collections.defaultdict(list), collections.Counter[tuple[int, int]]()
        for deed in noted.deeds.values():
            if deed.asked is not None:
                sizes[deed.ask] += len(deed.ids)
            if deed.asked is not None and deed.number in noted.done:
                begins[deed.asked[0]].append(deed)
        return cls({}, begins, sizes)

    def look(self, inbox: Inbox) -> None:
        """Note what matches at this version."""
        self.under_way += self.begins.get(inbox.version, [])
        self.under_way = [one for one in self.under_way if one.before >= inbox.version]
        for deed in self.under_way:
            assert deed.asked is not None
            matching = inbox.matching(*deed.asked[1:4])
            known = self.found.get(deed.number)
            all_, any_ = (matching, matching) if known is None else known
            self.found[deed.number] = (all_ & matching, any_ | matching)

    def check(self, deed: Deed) -> None:
        """Compare with the ids that a verb is for. Raise Wrong."""
        found = self.found.get(deed.number)
        if found is None:
            return
        ids = set(deed.ids)
        # Of many, each deed is for a part.
        least = set() if self.sizes[deed.ask] >= TOGETHER else found[0]
        if not least <= ids <= found[1]:
            raise Wrong(f"{deed} should be for {found[0]}, and for none but {found[1]}")


@attrs.frozen
class Stored:
    """The documents of one user in the store."""

    account: Account
    documents: Sequence[dict[str, Any]]

    @property
    def version(self) -> int:
        return self.account.version

    @classmethod
    def of(
        cls, user: str, stored: dict[str, Any] | None, documents: Sequence[dict[str, Any]]
    ) -> "Stored":
        """Read an account, whether its last operation is written into it or not."""
        account = Account.of(user, stored)
        return cls(account.settled() if account.is_busy else account, documents)


@attrs.define
class History:
    """The model of each user as it was at the last quiet point, and what came since."""

    users: Sequence[str]
    inboxes: dict[str, Inbox] = attrs.field(factory=dict)
    noted: dict[str, Noted] = attrs.field(factory=dict)
    fails: list[str] = attrs.field(factory=list)
    # The numbers of all that was looked at, for the last line.
    tally: collections.Counter[str] = attrs.field(factory=collections.Counter)

    def __attrs_post_init__(self) -> None:
        self.inboxes = {user: Inbox() for user in self.users}
        self.forget()

    def forget(self) -> None:
        """Begin anew behind a quiet point."""
        self.noted = {user: Noted() for user in self.users}

    def read(self, path: Path) -> None:
        """Take in the notes of one start of a process."""
        lines = path.read_bytes().split(b"\n")
        # A process that was killed may have left the last one unfinished.
        for line in lines[:-1]:
            self.note(*orjson.loads(line))

    def note(self, kind: str, *what: Any) -> None:
        """Take in one note."""
        getattr(self, f"_note_{kind}")(*what)

    def compare(self, stored: Mapping[str, Stored]) -> None:
        """Do with the model what was done, and compare. Raise Wrong."""
        for user in self.users:
            noted = self.noted[user]
            try:
                self.inboxes[user] = self._led(self.inboxes[user], noted, stored[user])
            except Wrong as wrong:
                last = noted.last(stored[user].version if wrong.at is None else wrong.at)
                lines = [f"{'done' if one.number in noted.done else 'doubt'} {one}" for one in last]
                raise Wrong("\n".join([f"{user}: {wrong}", *lines])) from wrong
        if self.fails:
            raise Wrong("\n".join(self.fails[:5]))

    def _led(self, before: Inbox, noted: Noted, stored: Stored) -> Inbox:
        if twice := noted.twice():
            raise Wrong(f"a number was given out twice: {twice}")
        first: Wrong | None = None
        found = None
        for number, way in enumerate(noted.ways(before.version, stored.version)):
            found = way
            inbox = before.copy()
            try:
                self._go(inbox, way, noted)
                _compare(inbox, stored)
            except Wrong as wrong:
                first = first or wrong
            else:
                self.tally["versions"] += stored.version - before.version
                self.tally["doubtful"] += sum(one.number not in noted.done for one in way)
                inbox.forget(max((one.now for one in way), default=""))
                return inbox
            if number > MOST_WAYS:
                break
        if found is None:
            version = noted.end_of(before.version)
            raise Wrong(
                f"no deeds lead from version {before.version} to {stored.version}, after {version}"
                f" there is none; these are said to have been lost: {noted.lost.get(version)}",
                version,
            )
        assert first is not None
        raise first

    def _go(self, inbox: Inbox, way: Sequence[Deed], noted: Noted) -> None:
        idle, filters = noted.idle(), Filters.of(noted)
        first = inbox.version
        filters.look(inbox)
        self._look(inbox, noted, idle)
        for deed in way:
            try:
                filters.check(deed)
                for told in inbox.apply(deed):
                    self._compare_told(told, noted)
                filters.look(inbox)
                for other in idle.get(inbox.version, ()):
                    filters.check(other)
                self._look(inbox, noted, idle)
            except Wrong as wrong:
                wrong.at = inbox.version
                raise
        for name, found in (("counts", noted.counts), ("lists", noted.lists)):
            for version in found:
                if version > inbox.version:
                    raise Wrong(f"{name} of the future: {version}, there are {inbox.version}")
                if version < first:
                    raise Wrong(f"{name} of the past: {version}, there were {first}")

    def _compare_told(self, told: Told, noted: Noted) -> None:
        for one in noted.told.get(told.version, ()):
            self.tally["messages"] += 1
            if one != told:
                raise Wrong(f"a device was told {one}, the model tells {told}")

    def _look(self, inbox: Inbox, noted: Noted, idle: Mapping[int, list[Deed]]) -> None:
        """Compare what was seen at this version."""
        for counts in noted.counts.get(inbox.version, ()):
            self.tally["counts"] += 1
            if counts != inbox.counts():
                raise Wrong(f"{counts} of version {inbox.version}, the model has {inbox.counts()}")
        for state, counts, views in noted.lists.get(inbox.version, ()):
            self.tally["lists"] += 1
            if counts != inbox.counts() or views != inbox.listed(state):
                raise Wrong(
                    f"the list {state} of version {inbox.version} has {counts} {views},"
                    f" the model {inbox.counts()} {inbox.listed(state)}"
                )
        for deed in idle.get(inbox.version, ()):
            inbox.apply(deed)

    def _note_deed(self, user: str, deed: dict[str, Any]) -> None:
        noted, number = self.noted[user], deed["number"]
        if number in noted.deeds:
            lost = noted.deeds[number]
            noted.lost[lost.before].append(lost)
        noted.deeds[number] = Deed(**deed)

    def _note_done(self, user: str, number: int) -> None:
        self.noted[user].done.add(number)

    def _note_doubt(self, _user: str, _number: int, error: str) -> None:
        self.tally[error.partition("(")[0]] += 1

    def _note_counts(self, user: str, version: int, unread: int, unseen: int) -> None:
        self.noted[user].counts[version].add((unread, unseen))

    def _note_told(
        self, user: str, version: int, is_new: bool, views: list[Any], deleted: list[str]
    ) -> None:
        told = Told(version, is_new, frozenset(map(tuple, views)), frozenset(deleted))
        self.noted[user].told[version].add(told)

    def _note_list(
        self, user: str, version: int, state: str, unread: int, unseen: int, views: list[Any]
    ) -> None:
        found = (state, (unread, unseen), [tuple(view) for view in views])
        self.noted[user].lists[version].append(found)

    def _note_resync(self, reason: str) -> None:
        self.tally[f"resync {reason}"] += 1

    def _note_fail(self, why: str) -> None:
        self.fails.append(why)

    def compare_shown(self, shown: Mapping[str, Any]) -> None:
        """Compare what a process lists, and what its devices have. Raise Wrong."""
        for user, found in shown["users"].items():
            inbox = self.inboxes[user]
            counts = [inbox.version, *inbox.counts()]
            views = [tuple(view) for view in found["views"]]
            if views != inbox.listed() or found["counts"] != counts:
                raise Wrong(f"{user}: a list is {views} {found['counts']}, not {inbox.listed()}")
            asked = [found["asked"][name] for name in ("version", "unread", "unseen")]
            if asked != counts:
                raise Wrong(f"{user}: counts are {asked}, not {counts}")
        for device in shown["devices"]:
            self._compare_device(device)

    def _compare_device(self, device: Mapping[str, Any]) -> None:
        inbox = self.inboxes[device["user"]]
        has = {id_: tuple(view) for id_, view in device["items"].items()}
        should = {view[0]: view for view in inbox.listed()}
        if has != should:
            more = [view for id_, view in has.items() if should.get(id_) != view]
            less = [view for id_, view in should.items() if has.get(id_) != view]
            raise Wrong(f"the device {device['name']} has {more} instead of {less}")
        if device["counts"] != [inbox.version, *inbox.counts()]:
            raise Wrong(f"the device {device['name']} has counts {device['counts']}")
        self.tally["devices"] += 1

    def compare_rest(self, quota: int, due: str) -> None:
        """Say that nothing is overdue, and nobody has more than the quota. Raise Wrong."""
        for user, inbox in self.inboxes.items():
            items = inbox.items.values()
            if late := [one for one in items if one.due_at <= due]:
                raise Wrong(f"{user}: at {due} these were overdue: {late}")
            if len(items) > quota and not all(one.pinned for one in items):
                raise Wrong(f"{user} has {len(items)}, not all of them pinned")


def _compare(inbox: Inbox, stored: Stored) -> None:
    """Compare the model with what is stored. Raise Wrong."""
    shown = [one for one in stored.documents if one["state"] in STATES]
    documents = sorted(shown, key=lambda one: -one["seq"])
    views = [view_of(Notification.of(one).to_dict()) for one in documents]
    if views != inbox.listed():
        more = [view for view in views if view not in inbox.listed()]
        less = [view for view in inbox.listed() if view not in views]
        raise Wrong(f"the store has {more} instead of {less}, or in another order")
    for document in documents:
        item = inbox.items[str(document["_id"])]
        has = [document.get(name) for name in ("state", "version", "key", "event_id")]
        if has != [item.state, item.version, item.key, item.event_id]:
            raise Wrong(f"the store has {has} of {item}")
    unread, unseen = inbox.counts()
    states = collections.Counter(one.state for one in inbox.items.values())
    counts = Counts(
        unread=unread,
        unseen=unseen,
        inbox=states["unread"] + states["read"],
        archived=states["archived"],
        snoozed=states[SNOOZED],
    )
    if stored.account.counts != counts:
        raise Wrong(f"the account has {stored.account.counts}, not {counts}")
