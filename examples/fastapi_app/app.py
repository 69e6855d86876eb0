"""Orders of analyses: submitted here, followed at the server, told of by its callback."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import BaseModel
from standardwebhooks import Webhook, WebhookVerificationError

from tornado_rt_client import ApiError, AsyncClient, ConnectionLost, Mint

RT_URL = os.environ.get("RT_URL", "http://127.0.0.1:8888")
RT_JWT_SECRET = os.environ["RT_JWT_SECRET"]
PAGE = Path(__file__).parent / "page.html"
# An endpoint does not wait longer for a server that is away [s].
PATIENCE = 3.0
# A page may follow for this long before it asks for another token [s].
PAGE_SECONDS = 600.0
USERS = {"alice": "wonderland", "bob": "builder"}


class NewOrder(BaseModel):
    """The order of a user; `key` is another one for each order."""

    symbol: str
    key: str


class Order(BaseModel):
    """An order, by the id of its task."""

    user: str
    symbol: str
    status: str = "queued"
    decision: str = ""


def client_of(user: str, *scopes: str) -> AsyncClient:
    """Return a client that acts as a user of the server."""
    secret = RT_JWT_SECRET
    return AsyncClient(RT_URL, secret=secret, user=user, scopes=scopes, patience=PATIENCE)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the client that acts as the application, and what checks the server's signature."""
    async with client_of("app", "rt:publish", "rt:admin") as client:
        app.state.client = client
        found = await client.request("GET", "/api/webhooks/callback_secret")
        app.state.signature = Webhook(found["secret"])
        # An application of your own keeps them in a database.
        app.state.orders = {}
        yield


app = FastAPI(lifespan=lifespan)


def signed_in(credentials: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> str:
    """Return who is signed in."""
    known = USERS.get(credentials.username, "").encode()
    if not known or not secrets.compare_digest(known, credentials.password.encode()):
        raise HTTPException(401, headers={"WWW-Authenticate": "Basic"})
    return credentials.username


User = Annotated[str, Depends(signed_in)]


@app.get("/")
async def page(user: User) -> FileResponse:
    """The page."""
    return FileResponse(PAGE)


@app.get("/realtime")
async def realtime(user: User) -> dict[str, str]:
    """Where the page of a user follows, and by which token."""
    return {"url": RT_URL, "token": Mint(RT_JWT_SECRET, user, ttl=PAGE_SECONDS)()}


@app.get("/orders")
async def list_orders(user: User, request: Request) -> dict[str, Order]:
    """One's orders."""
    orders: dict[str, Order] = request.app.state.orders
    return {task_id: one for task_id, one in orders.items() if one.user == user}


@app.post("/orders", status_code=202)
async def order(new: NewOrder, user: User, request: Request) -> dict[str, str]:
    """Submit the task of an order; sent again with the same key, it is the same one."""
    try:
        async with client_of(user) as client:
            task = await client.submit(
                "analysis",
                {"symbol": new.symbol},
                label=f"Order of {new.symbol}",
                notify=False,
                callback_url=str(request.url_for("task_ended")),
                idempotency_key=new.key,
            )
    except ApiError as error:
        raise HTTPException(error.status, str(error)) from error
    except ConnectionLost as error:
        raise HTTPException(503, str(error)) from error
    request.app.state.orders.setdefault(task.id, Order(user=user, symbol=new.symbol))
    return {"task_id": task.id}


@app.post("/hooks/tasks", status_code=204, response_class=Response)
async def task_ended(request: Request) -> None:
    """Take a callback. It may come again: what it says is set, and told to the user once."""
    state = request.app.state
    try:
        event: dict[str, Any] = state.signature.verify(await request.body(), dict(request.headers))
    except WebhookVerificationError as error:
        raise HTTPException(400, f"this was not sent by the server: {error}") from error
    found: Order | None = state.orders.get(event["task_id"])
    if found is None:
        # The endpoint above is not that far yet; the server comes again.
        raise HTTPException(503)
    found.status, found.decision = event["status"], (event["result"] or {}).get("decision", "")
    await state.client.notify(
        found.user,
        type="order.ended",
        title=f"Your order of {found.symbol} is {found.status}",
        link="/",
        idempotency_key=event["event_id"],
    )
