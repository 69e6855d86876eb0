"""Three kinds of a shop in one worker, each with limits of its own.

- `invoice.write` is a plain function and runs in a thread; 4 may run at once.
- `mail.send` has no plan; 5 may start in a second, of one key (the customer) one may run at once.
- `shelf.count` has a plan of its own for each task; a user may have one running.

    python run.py --kinds examples/three_kinds.py
"""

import asyncio
import os
from decimal import Decimal, InvalidOperation
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import attrs

from tornado_rt.work import Kind, Run, Step, SyncRun, TaskError

SHOP = Path(os.environ.get("SHOP", "shop"))
VAT = Decimal("0.19")
one_line = attrs.validators.matches_re(r"[^\r\n]+")


@attrs.frozen
class Item:
    """One line of an order; `price` in EUR, such as "9.90"."""

    name: str
    price: str
    count: int = attrs.field(default=1, validator=attrs.validators.ge(1))


@attrs.frozen
class Invoice:
    """The parameters of an invoice."""

    customer: str
    items: list[Item]


invoice = Kind(
    "invoice.write", Invoice, label="Invoice for {customer}", steps=["add up", "write"], limit=4
)


@invoice.handler
def write_invoice(params: Invoice, run: SyncRun) -> dict[str, Any]:
    """Add up and write."""
    net = Decimal(0)
    with run.step("add up"):
        for item in run.track(params.items, unit="items"):
            net += price_of(item) * item.count
    gross = (net * (1 + VAT)).quantize(Decimal("0.01"))
    with run.step("write"):
        lines = [f"{item.count} x {item.name}: {item.price} EUR" for item in params.items]
        text = "\n".join([params.customer, *lines, f"{gross} EUR"])
        path = put(f"invoice-{run.task_id}.txt", text)
    return {"path": path, "net": str(net), "gross": str(gross)}


def price_of(item: Item) -> Decimal:
    """Return a price in EUR. Raise TaskError: another attempt would not find a better one."""
    try:
        return Decimal(item.price)
    except InvalidOperation:
        raise TaskError(f"the price of {item.name} is no number: {item.price}") from None


@attrs.frozen
class Mail:
    """The parameters of a mail."""

    to: str = attrs.field(validator=one_line)
    subject: str = attrs.field(validator=one_line)
    text: str = ""


mail = Kind(
    "mail.send", Mail, label="{subject}", shown=["to"], rate="5/s", key_limit=1, max_attempts=5
)


@mail.handler
async def send_mail(params: Mail, run: Run) -> str:
    """Put the mail where a mail server fetches it; under the task's id, so that it goes once."""
    message = EmailMessage()
    message["To"], message["Subject"] = params.to, params.subject
    message.set_content(params.text)
    return await asyncio.to_thread(put, f"mail-{run.task_id}.eml", message.as_string())


@attrs.frozen
class Count:
    """Which shelves, each with the codes of what lies on it."""

    shelves: dict[str, list[str]]


def steps_of(params: Count) -> list[Step]:
    """Return a step for each shelf, as heavy as it is full."""
    return [Step(name, len(codes), f"Shelf {name}") for name, codes in params.shelves.items()]


shelf = Kind("shelf.count", Count, title="Count the stock", steps=steps_of, user_limit=1)


@shelf.handler
async def count_shelves(params: Count, run: Run) -> dict[str, int]:
    """Return how many there are of each code."""
    found: dict[str, int] = {}
    for name, codes in params.shelves.items():
        async with run.step(name):
            async for code in run.track(codes, unit="pieces"):
                found[code] = found.get(code, 0) + 1
    return found


def put(name: str, text: str) -> str:
    """Write a file of the shop and return where it is."""
    SHOP.mkdir(parents=True, exist_ok=True)
    path = SHOP / name
    path.write_text(text)
    return str(path)
