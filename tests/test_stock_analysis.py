"""The example computes what it says."""

import math
from datetime import date
from pathlib import Path
from typing import Any

import attrs
import pytest

from examples import stock_analysis as example
from services.analysis import AnalysisTask, Analyst, RedisProgressTracker
from services.queue import TaskState
from settings import Settings
from tornado_rt.locales import built_in_languages
from tornado_rt.work import TaskError

TASK = AnalysisTask(
    task_id="t1",
    user_id="alice",
    symbol="AAPL",
    params={},
    batch_id=None,
    status=TaskState.PROCESSING,
    attempt=1,
    created_at=0,
    started_at=0,
)


@pytest.fixture(autouse=True)
def _no_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RT_DATA_DIR", str(tmp_path))
    example.configure(Settings(step_seconds=0.0))


def test_prices_are_the_five_stocks() -> None:
    stocks = example.load_prices()
    assert list(stocks) == ["AAPL", "AMZN", "GOOG", "IBM", "MSFT"]
    apple = stocks["AAPL"]
    assert (len(apple.prices), apple.prices[0], apple.prices[-1]) == (123, 25.94, 223.02)
    assert list(apple.dates) == sorted(apple.dates)


def test_figures_are_right_on_a_series_done_by_hand() -> None:
    prices = (100.0, 110.0, 99.0, 99.0)
    returns = [0.1, -0.1, 0.0]
    assert example.moving_average(prices, 2) == 99
    assert example.max_drawdown(prices) == pytest.approx(0.1)
    assert example.annual_growth(prices) == pytest.approx(0.99**4 - 1)
    assert example.volatility(returns) == pytest.approx(0.1 * math.sqrt(12))
    assert example.relative_strength_index(returns, 3) == pytest.approx(50)
    assert example.relative_strength_index([0.1], 3) == 100


@pytest.mark.gen_test
@pytest.mark.parametrize("symbol", ["AAPL", "AMZN", "GOOG", "IBM", "MSFT", "aapl"])
async def test_every_stock_is_analysed_to_the_end(symbol: str) -> None:
    for analysts in ([Analyst.SOCIAL], list(Analyst)):
        tracker = RedisProgressTracker("t1", analysts, 5, "google")
        report = await example.analyse(attrs.evolve(TASK, symbol=symbol), tracker)
        assert set(report["scores"]) == set(analysts)
        assert all(-1 <= score <= 1 for score in report["scores"].values())
        assert report["decision"] in ("buy", "hold", "sell")
        assert 0.5 <= report["confidence"] <= 1
        assert 0 < report["position_size"] <= 1
        assert report["summary"].startswith(symbol.upper())
        assert tracker.progress == pytest.approx(97)


@pytest.mark.gen_test
async def test_messages_are_in_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Chinese reader reads none of them in English."""
    told: list[str] = []
    report = RedisProgressTracker.update_progress

    async def note(tracker: RedisProgressTracker, fields: Any) -> None:
        told.append(fields["message"])
        await report(tracker, fields)

    monkeypatch.setattr(RedisProgressTracker, "update_progress", note)
    await example.analyse(TASK, RedisProgressTracker("t1", list(Analyst), 3, ""))
    words = built_in_languages().find(["zh-CN"])
    assert words is not None
    assert len(told) > 10
    assert [one for one in told if words.recall(one) == one] == []


async def analyse(symbol: str, *analysts: Analyst) -> dict[str, Any]:
    tracker = RedisProgressTracker("t1", list(analysts), 1, "")
    return await example.analyse(attrs.evolve(TASK, symbol=symbol), tracker)


@pytest.mark.gen_test
async def test_risk_views_differ_and_conviction_moves_the_judge() -> None:
    """IBM's deepest fall is under three sigma of its year, as every stock's here."""
    unsure, sure = [await analyse("IBM", one) for one in (Analyst.MARKET, Analyst.FUNDAMENTALS)]
    if abs(unsure["balance"]) > abs(sure["balance"]):
        unsure, sure = sure, unsure
    assert unsure["risk"] == sure["risk"]
    risk, sigma = sure["risk"], sure["volatility"]
    assert risk["risky"] == pytest.approx(0.1 / sigma, abs=1e-3)
    assert risk["neutral"] == pytest.approx(0.1 / (2 * sigma), abs=1e-3)
    assert risk["safe"] == pytest.approx(0.1 / max(sure["max_drawdown"], 3 * sigma), abs=1e-3)
    assert risk["safe"] < unsure["position_size"] < sure["position_size"] < risk["risky"]


def test_deep_fall_outweighs_a_calm_year() -> None:
    """A slow slide is calm by its volatility; the careful view sees how deep it went."""
    prices = tuple(100 * 0.97**month for month in range(61))
    dates = tuple(date(2000 + month // 12, month % 12 + 1, 1) for month in range(61))
    assert 3 * example.volatility(example.Series("X", dates, prices).returns) < 0.01
    analysis = example.Analysis(example.Series("X", dates, prices), {})
    analysis.report["balance"] = 0.0
    for step in ("risk_risky", "risk_safe", "risk_neutral", "risk_judge"):
        analysis.run(step)
    assert analysis.report["risk"]["safe"] == pytest.approx(0.1 / (1 - 0.97**60), abs=1e-3)


@pytest.mark.gen_test
async def test_unknown_symbol_names_the_known() -> None:
    tracker = RedisProgressTracker("t1", [Analyst.MARKET], 1, "")
    with pytest.raises(TaskError, match="AAPL, AMZN, GOOG, IBM, MSFT"):
        await example.analyse(attrs.evolve(TASK, symbol="ZZZ"), tracker)
