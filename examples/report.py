"""A report that is written each night: which stocks moved, and how much.

Each of its steps is done once, whatever number of attempts it takes. An error, such as a full disk,
is tried again three times. Then the task has failed, and its user is told so by the notification
that every end of a task makes; of a report that was written they are told the figures as well.

    python run.py --kinds examples/report.py
"""

import csv
import itertools
import os
import statistics
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from tornado_rt.work import Kind, Run, Schedule, TaskError

PRICES = Path(__file__).parent / "data" / "stocks.csv"
REPORTS = Path(os.environ.get("REPORTS", "reports"))
MONTHS_A_YEAR = 12


@attrs.frozen
class Report:
    """The stocks, all of them by default."""

    symbols: list[str] = attrs.field(factory=list)


report = Kind(
    "report.nightly",
    Report,
    title="Nightly report",
    steps=["read", "compute", "write"],
    limit=1,
    max_attempts=4,
    backoff=(1, 600),
    expected_seconds=1,
    schedules=[
        Schedule(
            name="nightly-report",
            cron="30 2 * * *",
            timezone="Europe/Berlin",
            overlap="skip",
            missed="last",
            user_id="operator",
        )
    ],
)


@report.handler
async def run(params: Report, run: Run) -> dict[str, Any]:
    """Read the prices, compute the figures, write the report, and tell them."""
    prices = await run.once("read", read_prices, params.symbols)
    figures = await run.once("compute", compute, prices)
    path = await run.once("write", write, run.task_id, figures)
    best = figures[0]
    summary = f"{len(figures)} stocks, {best['symbol']} the best: {best['year']:+.0%} in a year"
    await run.notify("The nightly report is written", summary, "success")
    return {"summary": summary, "path": path, "figures": figures}


def read_prices(symbols: list[str]) -> dict[str, list[float]]:
    """Return monthly prices by symbol, the oldest first. Raise TaskError for an unknown one."""
    rows: dict[str, list[tuple[datetime, float]]] = defaultdict(list)
    with PRICES.open(newline="") as file:
        for row in csv.DictReader(file):
            day = datetime.strptime(row["date"], "%b %d %Y")
            rows[row["symbol"]].append((day, float(row["price"])))
    if unknown := [symbol for symbol in symbols if symbol not in rows]:
        raise TaskError(f"there are no prices of {', '.join(unknown)}")
    return {symbol: [price for _, price in sorted(rows[symbol])] for symbol in symbols or rows}


def compute(prices: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return the figures of each stock, the best year first."""
    figures = [{"symbol": symbol, **figures_of(series)} for symbol, series in prices.items()]
    return sorted(figures, key=lambda one: one["year"], reverse=True)


def figures_of(series: list[float]) -> dict[str, float]:
    """Return the last price [USD], and the changes and deviation as parts of 1."""
    changes = [after / before - 1 for before, after in itertools.pairwise(series)]
    return {
        "price": series[-1],
        "month": round(changes[-1], 4),
        "year": round(series[-1] / series[-1 - MONTHS_A_YEAR] - 1, 4),
        "deviation": round(statistics.stdev(changes[-MONTHS_A_YEAR:]), 4),
    }


def write(name: str, figures: list[dict[str, Any]]) -> str:
    """Write the report as a table and return where."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    path = REPORTS / f"{name}.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, figures[0])
        table.writeheader()
        table.writerows(figures)
    return str(path)
