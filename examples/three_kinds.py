"""Three kinds of a shop in one worker, each with limits of its own.

- `invoice.write` is a plain function and runs in a thread; 4 may run at once.
- `mail.send` has no plan; 5 may start in a second, of one key (the customer) one may run at once.
- `shelf.count` has a plan of its own for each task; a user may have one running.

    python run.py --kinds examples/three_kinds.py
"""

import asyncio
import os
import re
from decimal import Decimal
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import attrs
from attrs.validators import ge, le, max_len

from tornado_rt.work import MAX_STEP_LENGTH, MOST_LEAVES, Kind, Run, Step, SyncRun

SHOP = Path(os.environ.get("SHOP", "shop"))
VAT = Decimal("0.19")
# So few digits that sums are exact.
PRICE = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,4})?")


def one_line(_: Any, field: Any, value: str) -> None:
    """Raise ValueError unless a text is one line that is not empty."""
    if not value or not value.isprintable():
        raise ValueError(f"{field.name} must be one line of text")


def an_amount(_: Any, field: Any, value: str) -> None:
    """Raise ValueError unless a text is an amount of money."""
    if not PRICE.fullmatch(value):
        raise ValueError(f"{field.name} must be an amount such as 9.90")


def addresses(_: Any, field: Any, value: str) -> None:
    """Raise ValueError unless a text is one line that a mail can have as its receivers."""
    one_line(_, field, value)
    try:
        EmailMessage()["To"] = value
    except Exception:
        # The standard library has no one error for what it cannot read, such as "a@".
        raise ValueError(f"{field.name} must be an address such as zoe@example.org") from None


def good_names(_: Any, field: Any, value: dict[str, Any]) -> None:
    """Raise ValueError unless each key can be the name of a step."""
    for name in value:
        if not name or not name.isprintable() or len(name) > MAX_STEP_LENGTH:
            raise ValueError(
                f"the names in {field.name} must be one line of 1 to {MAX_STEP_LENGTH} characters"
            )


@attrs.frozen
class Item:
    """One line of an order; `price` in EUR, such as "9.90"."""

    name: str = attrs.field(validator=one_line)
    price: str = attrs.field(validator=an_amount)
    count: int = attrs.field(default=1, validator=[ge(1), le(1_000_000)])


@attrs.frozen
class Invoice:
    """The parameters of an invoice."""

    customer: str = attrs.field(validator=one_line)
    items: list[Item] = attrs.field(validator=max_len(1000))


invoice = Kind(
    "invoice.write", Invoice, label="Invoice for {customer}", steps=["add up", "write"], limit=4
)


@invoice.handler
def write_invoice(params: Invoice, run: SyncRun) -> dict[str, Any]:
    """Add up and write."""
    net = Decimal(0)
    with run.step("add up"):
        for item in run.track(params.items, unit="items"):
            net += Decimal(item.price) * item.count
    gross = (net * (1 + VAT)).quantize(Decimal("0.01"))
    with run.step("write"):
        lines = [f"{item.count} x {item.name}: {item.price} EUR" for item in params.items]
        text = "\n".join([params.customer, *lines, f"{gross} EUR"])
        path = put(f"invoice-{run.task_id}.txt", text)
    return {"path": path, "net": str(net), "gross": str(gross)}


@attrs.frozen
class Mail:
    """The parameters of a mail."""

    to: str = attrs.field(validator=addresses)
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
    """The shelves, each with the codes of its goods."""

    shelves: dict[str, list[str]] = attrs.field(validator=[max_len(MOST_LEAVES), good_names])


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
    path.write_text(text, encoding="utf-8")
    return str(path)
