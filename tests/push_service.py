"""A push service for tests, and the browsers whose pushes it takes: it checks and decrypts them."""

import json
import os
import time
from typing import Any

import attrs
import http_ece
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler

from services.base64url import decode, encode
from services.push.encryption import point_of, read_point

DAY_SECONDS = 86400


@attrs.frozen
class Device:
    """A browser that is subscribed; `name` is its place at the push service."""

    name: str
    key: ec.EllipticCurvePrivateKey = attrs.field(
        factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    auth: bytes = attrs.field(factory=lambda: os.urandom(16))

    def subscription(self, base_url: str) -> dict[str, Any]:
        """Return its `PushSubscription` as JSON."""
        keys = {"p256dh": encode(point_of(self.key.public_key())), "auth": encode(self.auth)}
        return {"endpoint": f"{base_url}/push/{self.name}", "expirationTime": None, "keys": keys}

    def read(self, body: bytes) -> dict[str, Any]:
        """Decrypt a push, by a program that is not ours."""
        text = http_ece.decrypt(
            body, private_key=self.key, auth_secret=self.auth, version="aes128gcm"
        )
        message: dict[str, Any] = json.loads(text)
        return message


@attrs.define
class PushService:
    """The pushes that came, by browser; `statuses` are answered in turn, the last one for ever."""

    pushes: dict[str, list[HTTPServerRequest]] = attrs.field(factory=dict)
    statuses: dict[str, list[int]] = attrs.field(factory=dict)
    retry_after: str | None = None

    def of(self, browser: Device) -> list[HTTPServerRequest]:
        """Return what came for a browser."""
        return self.pushes.get(browser.name, [])

    def messages(self, browser: Device) -> list[dict[str, Any]]:
        """Return what a browser reads of it."""
        return [browser.read(one.body) for one in self.of(browser)]

    def application(self) -> Application:
        """Return the service's routes."""
        service = self

        class PushHandler(RequestHandler):
            def post(self, name: str) -> None:
                service.pushes.setdefault(name, []).append(self.request)
                statuses = service.statuses.get(name, [201])
                self.set_status(statuses.pop(0) if len(statuses) > 1 else statuses[0])
                if service.retry_after is not None:
                    self.set_header("Retry-After", service.retry_after)

        return Application([("/push/([a-z0-9]+)", PushHandler)], log_function=lambda _: None)


def check_signature(request: HTTPServerRequest, base_url: str, subject: str) -> str:
    """Check who signed a push as RFC 8292 has it; return their public key."""
    scheme, _, rest = request.headers["Authorization"].partition(" ")
    fields = dict(part.strip().split("=", 1) for part in rest.split(","))
    assert scheme == "vapid"
    key = read_point(decode(fields["k"]))
    claims = jwt.decode(fields["t"], key, algorithms=["ES256"], audience=base_url)
    assert claims["sub"] == subject
    assert 0 < claims["exp"] - time.time() <= DAY_SECONDS
    return fields["k"]
