"""Invoices of a web shop, as its developer wrote them."""

from pathlib import Path

import attrs

from tornado_rt.work import Kind, Run, TaskError

CUSTOMERS = Path("customers")


@attrs.frozen
class Invoice:
    """The amount, and who pays it."""

    customer: str
    cents: int


invoice = Kind("shop.invoice", Invoice, label="Invoice for {customer}", steps=["write", "send"])


@invoice.handler
async def run(params: Invoice, run: Run) -> dict[str, object]:
    """Write the invoice of a customer that is known."""
    async with run.step("write"):
        address = CUSTOMERS / params.customer
        if not address.exists():
            raise TaskError(f"there is no customer {params.customer}")
    async with run.step("send"):
        return {"to": address.read_text(), "total": f"{params.cents / 100:.2f}"}
