"""`/api/webhooks`: what tells programs of others of events."""

from services.webhooks import RedeliverRequest, WebhookRequest, WebhookService
from tornado_rt.api import ApiHandler
from tornado_rt.auth import ADMIN


class WebhookApiHandler(ApiHandler):
    """An endpoint on the webhooks: of the user, and for an admin of the application too."""

    def initialize(self, webhooks: WebhookService) -> None:
        self.webhooks = webhooks

    @property
    def is_admin(self) -> bool:
        """Whether the application's webhooks may be touched."""
        return self.identity.may(ADMIN)


class WebhooksHandler(WebhookApiHandler):
    """`GET`: mine, and for an admin the application's. `POST`: make one; its secret is told once.

    With `application` it is the application's, which takes an admin.
    """

    async def get(self) -> None:
        found = await self.webhooks.list_of(self.identity.user_id, admin=self.is_admin)
        self.answer({"items": found})

    async def post(self) -> None:
        request = self.body(WebhookRequest)
        if request.application:
            self.require(ADMIN)
        made = await self.webhooks.create(self.identity.user_id, request)
        self.set_header("Location", self.at(f"/api/webhooks/{made['id']}"))
        self.answer(made, 201)


class WebhookHandler(WebhookApiHandler):
    """`GET`: one with the last answers of its receiver. `DELETE`: delete one."""

    async def get(self, id_: str) -> None:
        self.answer(await self.webhooks.get(self.identity.user_id, id_, admin=self.is_admin))

    async def delete(self, id_: str) -> None:
        await self.webhooks.delete(self.identity.user_id, id_, admin=self.is_admin)
        self.set_status(204)


class WebhookEnableHandler(WebhookApiHandler):
    """`POST`: have one sent events again."""

    takes_body = False

    async def post(self, id_: str) -> None:
        self.answer(await self.webhooks.enable(self.identity.user_id, id_, admin=self.is_admin))


class WebhookTestHandler(WebhookApiHandler):
    """`POST`: send it a test event."""

    takes_body = False

    async def post(self, id_: str) -> None:
        self.answer(await self.webhooks.test(self.identity.user_id, id_, admin=self.is_admin), 202)


class WebhookRedeliverHandler(WebhookApiHandler):
    """`POST`: send it an event once more."""

    async def post(self, id_: str) -> None:
        event_id = self.body(RedeliverRequest).event_id
        told = await self.webhooks.redeliver(
            self.identity.user_id, id_, event_id, admin=self.is_admin
        )
        self.answer(told, 202)


class CallbackSecretHandler(WebhookApiHandler):
    """`GET`: the secret that signs what is posted to `callback_url`."""

    async def get(self) -> None:
        self.require(ADMIN)
        self.answer({"secret": self.webhooks.callback_secret})
