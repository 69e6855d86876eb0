"""Webhooks in MongoDB: by `_id`, or by their owner, which has an index."""

import time
from typing import Any

import attrs
from pymongo import ASCENDING, IndexModel

from services.webhooks.models import (
    DISABLED,
    ENABLED,
    MOST_ANSWERS,
    TooManyWebhooks,
    Webhook,
)

# The one document that is no webhook: the seed of the secret of callbacks.
SEED = "callback-seed"
# The projection for readers that do not show a webhook's answers.
WITHOUT_ANSWERS = {"answers": 0}


class WebhookStore:
    """The collections `webhooks`, `webhook_owners` and `webhook_seeds`.

    Raise PyMongoError while MongoDB is away.
    """

    def __init__(self, database: Any) -> None:
        self._all = database["webhooks"]
        self._owners = database["webhook_owners"]
        self._seeds = database["webhook_seeds"]

    async def prepare(self) -> None:
        """Make the index."""
        await self._all.create_indexes([IndexModel([("owner", ASCENDING)], name="owner")])

    async def add(self, webhook: Webhook, most: int) -> None:
        """Store a new one. Raise TooManyWebhooks when its owner has `most`; 0: any number."""
        # First, and for good: every owner of a webhook is among them.
        owner = {"_id": webhook.owner}
        await self._owners.update_one(owner, {"$setOnInsert": {"since": time.time()}}, upsert=True)
        fields = attrs.asdict(webhook)
        await self._all.insert_one({"_id": fields.pop("id"), **fields})
        # Looked at afterwards, so that two at once do not both find room.
        if most and len(await self.of_owner(webhook.owner)) > most:
            await self.delete(webhook.id)
            raise TooManyWebhooks(most)

    async def of_owner(self, owner: str) -> list[Webhook]:
        """Return an owner's webhooks without their answers, the oldest first."""
        found = await self._all.find({"owner": owner}, WITHOUT_ANSWERS).to_list(None)
        return sorted(map(Webhook.of, found), key=lambda one: one.created_at)

    async def page(self, after: str, limit: int) -> list[Webhook]:
        """Return webhooks of all owners with their answers, by their ids, behind one."""
        wanted = {"_id": {"$gt": after}}
        found = self._all.find(wanted).sort("_id", ASCENDING).limit(limit)
        return [Webhook.of(one) for one in await found.to_list(None)]

    async def owners(self) -> set[str]:
        """Return all who may have webhooks."""
        return {str(one["_id"]) for one in await self._owners.find({}, {"_id": 1}).to_list(None)}

    async def find(self, id_: str, *, with_answers: bool = False) -> Webhook | None:
        """Return one, None when there is none."""
        shown = None if with_answers else WITHOUT_ANSWERS
        document = await self._all.find_one({"_id": id_}, shown)
        return None if document is None else Webhook.of(document)

    async def delete(self, id_: str) -> None:
        """Delete one."""
        await self._all.delete_one({"_id": id_})

    async def enable(self, id_: str) -> None:
        """Have it sent events again."""
        state = {"state": ENABLED, "reason": "", "changed_at": time.time()}
        await self._all.update_one({"_id": id_}, {"$set": state})

    async def disable(self, id_: str, reason: str) -> None:
        """Have it sent nothing more."""
        state = {"state": DISABLED, "reason": reason, "changed_at": time.time()}
        await self._all.update_one({"_id": id_}, {"$set": state})

    async def note(self, id_: str, answer: dict[str, Any], *, success: bool) -> None:
        """Keep an answer among the last of its receiver."""
        change: dict[str, Any] = {
            "$push": {"answers": {"$each": [answer], "$slice": -MOST_ANSWERS}}
        }
        if success:
            change["$set"] = {"success_at": answer["at"]}
        await self._all.update_one({"_id": id_}, change)

    async def seed(self, candidate: str) -> str:
        """Return the seed that all processes share; the first candidate is it."""
        key = {"_id": SEED}
        await self._seeds.update_one(key, {"$setOnInsert": {"seed": candidate}}, upsert=True)
        found = await self._seeds.find_one(key)
        return str(found["seed"])
