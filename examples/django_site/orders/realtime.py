"""The server beside the site."""

import functools

from django.conf import settings
from standardwebhooks import Webhook

from tornado_rt_client import Client, Mint

# A view does not wait longer for a server that is away [s].
PATIENCE = 3.0
# A page may follow for this long before it asks for another token [s].
PAGE_SECONDS = 3600.0


def client_of(user) -> Client:
    """Return a client that acts as a user of the site."""
    return _client(user.get_username())


def site_client() -> Client:
    """Return a client that acts as the site: it may notify everybody."""
    return _client("site", "rt:publish")


def page_token(user) -> str:
    """Return a token with which a user's page follows at the server directly."""
    return Mint(settings.RT_JWT_SECRET, user.get_username(), ttl=PAGE_SECONDS)()


@functools.cache
def callback_signature() -> Webhook:
    """Return what checks the signature of a callback. The server derives its secret once."""
    with _client("site", "rt:admin") as client:
        return Webhook(client.request("GET", "/api/webhooks/callback_secret")["secret"])


def _client(user: str, *scopes: str) -> Client:
    secret = settings.RT_JWT_SECRET
    return Client(settings.RT_URL, secret=secret, user=user, scopes=scopes, patience=PATIENCE)
