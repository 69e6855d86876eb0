"""A real job: an analysis of a stock from its monthly closing prices, 2000 to 2010.

The steps of the plan compute from the prices in `data/stocks.csv` and hand what they find to the
steps after them; of the preparation only the first has anything to compute. The result says what
to do, and on what grounds.
"""

import asyncio
import csv
import functools
import math
import statistics
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import attrs

from services.analysis import AnalysisTask, RedisProgressTracker
from settings import Settings
from tornado_rt.work import TaskError

PRICES = Path(__file__).parent / "data" / "stocks.csv"
MONTHS_A_YEAR = 12
SHORT_MONTHS, LONG_MONTHS, RSI_MONTHS, NEWS_SIGMAS = 3, 12, 14, 2.0
# The share of the capital that a position may lose.
TOLERATED_LOSS = 0.10
RISK_VIEWS = ("risky", "safe", "neutral")

_step_seconds = 1.0


def configure(settings: Settings) -> None:
    """Take how long each step is made to last, so that a person can watch [s]."""
    global _step_seconds
    _step_seconds = settings.workers.step_seconds


@attrs.frozen
class Series:
    """Monthly closing prices of one stock [USD], the oldest first."""

    symbol: str
    dates: tuple[date, ...]
    prices: tuple[float, ...]

    @property
    def returns(self) -> list[float]:
        """Simple monthly returns."""
        pairs = zip(self.prices, self.prices[1:], strict=False)
        return [after / before - 1 for before, after in pairs]


@functools.cache
def load_prices() -> dict[str, Series]:
    """Read all stocks that there are, by symbol."""
    rows: dict[str, list[tuple[date, float]]] = {}
    with PRICES.open(newline="") as file:
        for row in csv.DictReader(file):
            day = datetime.strptime(row["date"], "%b %d %Y").date()
            rows.setdefault(row["symbol"], []).append((day, float(row["price"])))
    return {
        symbol: Series(symbol, *zip(*sorted(points), strict=True))
        for symbol, points in sorted(rows.items())
    }


async def analyse(task: AnalysisTask, progress: RedisProgressTracker) -> dict[str, Any]:
    """Run the plan for `task.symbol`. Raise TaskError for an unknown symbol."""
    analysis = Analysis(_series_of(task.symbol), load_prices())
    for step in progress.steps:
        await progress.update_progress({"step": step.name, "message": step.description})
        analysis.run(step.name)
        await asyncio.sleep(_step_seconds)
    return analysis.report


def _series_of(symbol: str) -> Series:
    known = load_prices()
    if symbol.upper() not in known:
        raise TaskError(f"unknown symbol {symbol!r}; known are {', '.join(known)}")
    return known[symbol.upper()]


def moving_average(prices: tuple[float, ...], months: int) -> float:
    """Return the mean of the last `months` prices."""
    return statistics.fmean(prices[-months:])


def relative_strength_index(returns: list[float], months: int) -> float:
    """Return the RSI, 0 to 100, over the last months (Wilder 1978, simple averages)."""
    last = returns[-months:]
    gain = sum(r for r in last if r > 0)
    loss = -sum(r for r in last if r < 0)
    return 100.0 if not loss else 100 - 100 / (1 + gain / loss)


def volatility(returns: list[float]) -> float:
    """Return the standard deviation of monthly returns, annualised."""
    return statistics.stdev(returns) * math.sqrt(MONTHS_A_YEAR)


def max_drawdown(prices: tuple[float, ...]) -> float:
    """Return the deepest fall from a peak, as a share of the peak."""
    peak, deepest = prices[0], 0.0
    for price in prices:
        peak = max(peak, price)
        deepest = max(deepest, 1 - price / peak)
    return deepest


def annual_growth(prices: tuple[float, ...]) -> float:
    """Return the compound annual growth rate over the whole series."""
    return float((prices[-1] / prices[0]) ** (MONTHS_A_YEAR / (len(prices) - 1)) - 1)


class Analysis:
    """The findings step by step; `scores` speak for buying when positive, each from -1 to 1."""

    def __init__(self, series: Series, all_stocks: dict[str, Series]) -> None:
        self._series = series
        self._all = all_stocks
        self._views: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        self.report: dict[str, Any] = {"symbol": series.symbol}
        self._steps: dict[str, Callable[[], None]] = {
            "prepare": self._prepare,
            "analyst_market": self._look_at_market,
            "analyst_fundamentals": self._look_at_fundamentals,
            "analyst_news": self._look_at_news,
            "analyst_social": self._look_at_others,
            "bull": self._collect_bull,
            "bear": self._collect_bear,
            "manager": self._weigh,
            "trader": self._decide,
            "risk_risky": self._view_risk_boldly,
            "risk_safe": self._view_risk_carefully,
            "risk_neutral": self._view_risk_neutrally,
            "risk_judge": self._judge_risk,
            "signal": self._make_signal,
            "report": self._summarise,
        }

    def run(self, step: str) -> None:
        """Compute what the step finds; preparing and debating steps only weigh what there is."""
        if step.startswith("debate_"):
            self._debate()
        elif step in self._steps:
            self._steps[step]()

    def _prepare(self) -> None:
        series = self._series
        self.report["period"] = [series.dates[0].isoformat(), series.dates[-1].isoformat()]
        days = [day.isoformat() for day in series.dates]
        self.report["prices"] = [list(one) for one in zip(days, series.prices, strict=True)]
        self.report["last_price"] = series.prices[-1]
        self.report["volatility"] = round(volatility(series.returns), 4)
        self.report["max_drawdown"] = round(max_drawdown(series.prices), 4)

    def _look_at_market(self) -> None:
        prices, returns = self._series.prices, self._series.returns
        short, long = moving_average(prices, SHORT_MONTHS), moving_average(prices, LONG_MONTHS)
        rsi = relative_strength_index(returns, RSI_MONTHS)
        self.report["market"] = {
            "moving_average_3": round(short, 2),
            "moving_average_12": round(long, 2),
            "rsi_14": round(rsi, 1),
        }
        # A trend carries on, but not one that is overbought (RSI over 70) or oversold (under 30).
        stretched = 0.5 if rsi > 70 else -0.5 if rsi < 30 else 0.0
        self._score("market", (short / long - 1) * 5 - stretched)

    def _look_at_fundamentals(self) -> None:
        growth, fall = annual_growth(self._series.prices), max_drawdown(self._series.prices)
        self.report["fundamentals"] = {"annual_growth": round(growth, 4)}
        self._score("fundamentals", growth * 4 - fall / 2)

    def _look_at_news(self) -> None:
        returns, dates = self._series.returns, self._series.dates[1:]
        mean, deviation = statistics.fmean(returns), statistics.stdev(returns)
        events = {
            day: one
            for day, one in zip(dates, returns, strict=True)
            if abs(one - mean) > NEWS_SIGMAS * deviation
        }
        self.report["news"] = {
            "months_beyond_two_sigma": {
                day.isoformat()[:7]: round(one, 4) for day, one in events.items()
            }
        }
        since = dates[-1].year - 1
        self._score("news", 2 * sum(one for day, one in events.items() if day.year >= since))

    def _look_at_others(self) -> None:
        own = self._trailing_return(self._series)
        others = [self._trailing_return(s) for s in self._all.values() if s is not self._series]
        ahead_of = sum(own > other for other in others)
        self.report["social"] = {
            "return_12_months": round(own, 4),
            "ahead_of": f"{ahead_of} of {len(others)}",
        }
        self._score("social", 2 * ahead_of / len(others) - 1)

    def _trailing_return(self, series: Series) -> float:
        return series.prices[-1] / series.prices[-1 - LONG_MONTHS] - 1

    def _score(self, analyst: str, score: float) -> None:
        self.scores[analyst] = round(max(-1.0, min(1.0, score)), 3)

    def _collect_bull(self) -> None:
        self._views["bull"] = sum(score for score in self.scores.values() if score > 0)

    def _collect_bear(self) -> None:
        self._views["bear"] = -sum(score for score in self.scores.values() if score < 0)

    def _debate(self) -> None:
        # In each round the weaker side gives in to a tenth of what divides them.
        gap = self._views["bull"] - self._views["bear"]
        weaker = "bear" if gap > 0 else "bull"
        self._views[weaker] *= 1 - min(abs(gap), 1.0) / 10

    def _weigh(self) -> None:
        self.report["scores"] = self.scores
        self.report["debate"] = {side: round(self._views[side], 3) for side in ("bull", "bear")}

    def _decide(self) -> None:
        balance = (self._views["bull"] - self._views["bear"]) / len(self.scores)
        self.report["balance"] = round(balance, 3)
        self.report["decision"] = "buy" if balance > 0.1 else "sell" if balance < -0.1 else "hold"

    def _view_risk_boldly(self) -> None:
        # A fall of one sigma in a year.
        self._size("risky", volatility(self._series.returns))

    def _view_risk_neutrally(self) -> None:
        # A fall of two.
        self._size("neutral", 2 * volatility(self._series.returns))

    def _view_risk_carefully(self) -> None:
        # The deepest fall that there was, or one of three sigma, whichever is worse.
        three_sigma = 3 * volatility(self._series.returns)
        self._size("safe", max(max_drawdown(self._series.prices), three_sigma))

    def _size(self, name: str, fall: float) -> None:
        self._views[name] = TOLERATED_LOSS / max(fall, TOLERATED_LOSS)

    def _judge_risk(self) -> None:
        # The clearer the debate's outcome, the more the bold view counts, and the careful one less.
        conviction = abs(self.report["balance"])
        risky, safe, neutral = (self._views[name] for name in RISK_VIEWS)
        size = (neutral + conviction * risky + (1 - conviction) * safe) / 2
        self.report["risk"] = {name: round(self._views[name], 3) for name in RISK_VIEWS}
        self.report["position_size"] = round(size, 3)

    def _make_signal(self) -> None:
        self.report["confidence"] = round(min(1.0, 0.5 + abs(self.report["balance"]) / 2), 2)

    def _summarise(self) -> None:
        report = self.report
        self.report["summary"] = (
            f"{report['symbol']}: {report['decision']} at {report['last_price']:.2f} USD, "
            f"confidence {report['confidence']:.0%}, at most {report['position_size']:.0%} of the "
            f"capital; volatility {report['volatility']:.0%} a year, deepest fall "
            f"{report['max_drawdown']:.0%}"
        )
