"""The common part of the synchronous and the asynchronous client."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import httpx

from tornado_rt_client import connecting
from tornado_rt_client.backoff import Backoff
from tornado_rt_client.time_left import ServerClock
from tornado_rt_client.tokens import AsyncToken, Mint, source_of

H = TypeVar("H", httpx.Client, httpx.AsyncClient)
S = TypeVar("S", bound=AsyncToken)


class BaseClient(Generic[H, S]):
    """The arguments of both clients, and what is made of them."""

    # The class of httpx that sends.
    _transport: type[H]

    def __init__(
        self,
        url: str,
        *,
        token: S | None = None,
        secret: str | None = None,
        user: str | None = None,
        scopes: Sequence[str] = (),
        topics: Sequence[str] = (),
        token_seconds: float = 300.0,
        patience: float = 30.0,
        backoff: Backoff | None = None,
        **options: Any,
    ) -> None:
        """Make a client of the server at `url`; nothing is sent yet.

        `token` is one, or a function that returns one, called for each request and each connection;
        that of an asynchronous client may be asynchronous. With the server's `secret` the client
        mints tokens of `user` with these `scopes` and `topics`, each good for `token_seconds`.

        A request that the server cannot answer now is repeated for `patience` seconds, if that does
        no harm. `options` are those of `httpx.Client` or `httpx.AsyncClient`, such as `verify` or
        `proxy`. Raise ValueError for a wrong address, and without a token or a secret.
        """
        self._token: S | Mint = source_of(token, secret, user, scopes, topics, token_seconds)
        self._patience = patience
        self._backoff = backoff or Backoff()
        self._clock = ServerClock()
        self._http: H = self._transport(**connecting.options(url, options))

    @property
    def skew(self) -> float:
        """The lead of the server's clock over that of this machine [s].

        Streams tell it; before the first one it is 0.
        """
        return self._clock.skew()
