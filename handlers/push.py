"""`/api/push/…`: the browsers of a user that are told when nobody is there."""

from typing import Any

import attrs
from tornado.routing import URLSpec

from handlers.page import STATIC, AssetHandler
from services.push import SubscriptionDraft, Subscriptions
from tornado_rt.api import ApiHandler
from tornado_rt.bounds import name_of

ENDPOINT_LENGTH = 2000
KEY_LENGTH = 200


class PushApiHandler(ApiHandler):
    """An endpoint on the subscriptions."""

    def initialize(self, subscriptions: Subscriptions) -> None:
        self.subscriptions = subscriptions


class PushKeyHandler(PushApiHandler):
    """`GET`: the key that a browser subscribes with."""

    def get(self) -> None:
        self.answer({"key": self.subscriptions.server_key})


class SubscriptionsHandler(PushApiHandler):
    """`GET`: mine. `POST`: keep that of a browser, as its `PushSubscription` is in JSON."""

    async def get(self) -> None:
        found = await self.subscriptions.find(self.identity.user_id)
        self.answer({"items": [one.to_dict() for one in found]})

    async def post(self) -> None:
        user_id, draft = self.identity.user_id, self.body(SubscriptionDraft)
        self.answer({"id": await self.subscriptions.add(user_id, draft)}, 201)


class SubscriptionHandler(PushApiHandler):
    """`DELETE`: forget one."""

    async def delete(self, id_: str) -> None:
        await self.subscriptions.remove(self.identity.user_id, id_)
        self.set_status(204)


@attrs.frozen
class Renewal:
    """The body that puts a subscription in the place of another."""

    endpoint: str = attrs.field(validator=name_of(ENDPOINT_LENGTH))
    auth: str = attrs.field(validator=name_of(KEY_LENGTH))
    subscription: SubscriptionDraft


class RenewalsHandler(PushApiHandler):
    """`POST`: keep a subscription that a browser has made anew by itself.

    A service worker has no token. It proves whose the earlier one was by its secret.
    """

    identifies = False

    async def post(self) -> None:
        asked = self.body(Renewal)
        made = await self.subscriptions.renew(asked.endpoint, asked.auth, asked.subscription)
        self.answer({"id": made}, 201)


class ServiceWorkerHandler(AssetHandler):
    """`/sw.js`: the service worker, at the root, whose pages it serves."""

    async def get(self, path: str = "", include_body: bool = True) -> None:
        await super().get("sw.js", include_body)


def push_routes(push: dict[str, Any], id_: str) -> list[URLSpec]:
    """Return the routes; `push` is what `initialize` of the handlers gets, `id_` matches an id."""
    return [
        URLSpec(r"/api/push/key", PushKeyHandler, push),
        URLSpec(r"/api/push/subscriptions", SubscriptionsHandler, push),
        URLSpec(rf"/api/push/subscriptions/{id_}", SubscriptionHandler, push),
        URLSpec(r"/api/push/renewals", RenewalsHandler, push),
        URLSpec(r"/sw.js", ServiceWorkerHandler, {"path": STATIC}),
    ]
