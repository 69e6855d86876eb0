"""The steps of an analysis, their weights, and how long it may take."""

import functools
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import attrs

from tornado_rt import work
from tornado_rt.bounds import OutOfBounds, name_of, number_of
from tornado_rt.json_body import EXAMPLES, MOST_ITEMS, TITLE, TITLES
from tornado_rt.work.attempts.lessons import Outline, key_of
from tornado_rt.work.texts import msgid, phrase, stored_phrase

NAME = "analysis"
# The parameters by which analyses of one plan differ in how long they take.
TELLING = ("research_depth", "llm_provider")
MAX_SYMBOL = 64
MAX_LLM_PROVIDER = 64


class Analyst(StrEnum):
    """An analyst of a stock."""

    MARKET = "market"
    FUNDAMENTALS = "fundamentals"
    NEWS = "news"
    SOCIAL = "social"


def _check_analysts(_: Any, field: Any, value: list[Analyst]) -> None:
    if not value or len(set(value)) != len(value):
        raise OutOfBounds(
            phrase("{name} must name one or more analysts, each once", name=field.name)
        )


def _usual_analysts() -> list[Analyst]:
    return [Analyst.MARKET, Analyst.FUNDAMENTALS]


_check_depth = number_of(1, 5)
_check_provider = name_of(MAX_LLM_PROVIDER, least=0)
EACH_ONCE = {MOST_ITEMS: len(Analyst)}
TITLES_OF_ANALYSTS = {
    Analyst.MARKET: msgid("Market"),
    Analyst.FUNDAMENTALS: msgid("Fundamentals"),
    Analyst.NEWS: msgid("News"),
    Analyst.SOCIAL: msgid("Social media"),
}


@attrs.frozen
class TaskParams:
    """The options of an analysis; `research_depth` from 1 (quick) to 5 (full)."""

    analysts: list[Analyst] = attrs.field(
        factory=_usual_analysts, validator=_check_analysts, metadata=EACH_ONCE
    )
    research_depth: int = attrs.field(default=3, validator=_check_depth)
    llm_provider: str = attrs.field(default="dashscope", validator=_check_provider)


@attrs.frozen
class AnalysisParams:
    """The parameters of an analysis; `research_depth` from 1 (quick) to 5 (full)."""

    symbol: str = attrs.field(
        validator=name_of(MAX_SYMBOL), metadata={TITLE: msgid("Symbol"), EXAMPLES: ["AAPL"]}
    )
    analysts: list[Analyst] = attrs.field(
        factory=_usual_analysts,
        validator=_check_analysts,
        metadata=EACH_ONCE | {TITLE: msgid("Analysts"), TITLES: TITLES_OF_ANALYSTS},
    )
    research_depth: int = attrs.field(
        default=3, validator=_check_depth, metadata={TITLE: msgid("Research depth")}
    )
    llm_provider: str = attrs.field(
        default="dashscope", validator=_check_provider, metadata={TITLE: msgid("LLM provider")}
    )


@attrs.frozen
class AnalysisStep(work.Step):
    """One step; `weight` is its share of the whole, from 0 to 1."""

    @property
    def description(self) -> str:
        """The text that people see."""
        return self.title


PREPARATION = (
    ("prepare", stored_phrase("Prepare the analysis"), 0.03),
    ("check_environment", stored_phrase("Check the environment"), 0.01),
    ("estimate_cost", stored_phrase("Estimate the cost"), 0.02),
    ("configure", stored_phrase("Configure the analysts"), 0.02),
    ("start_engine", stored_phrase("Start the engine"), 0.02),
)
ANALYSTS = {
    Analyst.MARKET: stored_phrase("Market analyst"),
    Analyst.FUNDAMENTALS: stored_phrase("Fundamentals analyst"),
    Analyst.NEWS: stored_phrase("News analyst"),
    Analyst.SOCIAL: stored_phrase("Social analyst"),
}
ANALYSTS_WEIGHT = 0.35
DEBATE_WEIGHT = 0.25
ROUNDS = {1: 1, 3: 2}
MOST_ROUNDS = 3
TRADER = ("trader", stored_phrase("The trader's decision"), 0.08)
RISK = (
    ("risk_risky", stored_phrase("Risk: the bold view")),
    ("risk_safe", stored_phrase("Risk: the careful view")),
    ("risk_neutral", stored_phrase("Risk: the neutral view")),
    ("risk_judge", stored_phrase("Risk: the judgement")),
)
RISK_WEIGHT = 0.15
FINAL = (
    ("signal", stored_phrase("Derive the signal"), 0.04),
    ("report", stored_phrase("Write the report"), 0.03),
)

# Seconds, by research depth.
BASE_SECONDS = {1: 150.0, 2: 180.0, 3: 240.0, 4: 330.0, 5: 480.0}
ANALYST_FACTORS = {1: 1.0, 2: 1.5, 3: 2.0, 4: 2.4}
FACTOR_PER_FURTHER_ANALYST = 0.3
PROVIDER_FACTORS = {"dashscope": 1.0, "deepseek": 0.8, "google": 1.2}


def make_plan(analysts: list[Analyst], research_depth: int) -> work.Plan:
    """Return the plan of these steps, the same object each time."""
    return _make_plan(tuple(analysts), research_depth)


def make_steps(analysts: list[Analyst], research_depth: int) -> list[AnalysisStep]:
    """Return the steps in their order; the weights sum to 1."""
    return list(_make_steps(tuple(analysts), research_depth))


@functools.cache
def _make_plan(analysts: tuple[Analyst, ...], research_depth: int) -> work.Plan:
    return work.Plan(_make_steps(analysts, research_depth))


@functools.cache
def _make_steps(analysts: tuple[Analyst, ...], research_depth: int) -> tuple[AnalysisStep, ...]:
    rounds = ROUNDS.get(research_depth, MOST_ROUNDS)
    debate = [
        ("bull", stored_phrase("The case for buying")),
        ("bear", stored_phrase("The case for selling")),
        *(
            (
                f"debate_{n}",
                stored_phrase("Debate, round {number} of {count}", number=n, count=rounds),
            )
            for n in range(1, rounds + 1)
        ),
        ("manager", stored_phrase("The research manager's view")),
    ]
    looks = [(f"analyst_{name}", ANALYSTS[name]) for name in analysts]
    return (
        *map(_step, PREPARATION),
        *_shared(looks, ANALYSTS_WEIGHT),
        *_shared(debate, DEBATE_WEIGHT),
        _step(TRADER),
        *_shared(RISK, RISK_WEIGHT),
        *map(_step, FINAL),
    )


def outline_of(analysts: list[Analyst], research_depth: int, llm_provider: str) -> Outline:
    """Return what is known of an analysis before it runs."""
    plan = make_plan(analysts, research_depth)
    return Outline(
        NAME,
        key_of(NAME, plan.digest, [research_depth, llm_provider]),
        plan,
        estimate_seconds(analysts, research_depth, llm_provider),
    )


def estimate_seconds(analysts: list[Analyst], research_depth: int, llm_provider: str) -> float:
    """Return how long the whole analysis is expected to take [s]."""
    count = len(analysts)
    most = max(ANALYST_FACTORS)
    further = max(count - most, 0) * FACTOR_PER_FURTHER_ANALYST
    factor = ANALYST_FACTORS[min(count, most)] + further
    return BASE_SECONDS[research_depth] * factor * PROVIDER_FACTORS.get(llm_provider, 1.0)


def _shared(named: Sequence[tuple[str, str]], weight: float) -> list[AnalysisStep]:
    return [_step((name, text, weight / len(named))) for name, text in named]


def _step(given: tuple[str, str, float]) -> AnalysisStep:
    name, text, weight = given
    return AnalysisStep(name, weight, text)
