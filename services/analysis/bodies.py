"""The bodies of the first version: submissions that name no kind."""

import functools
from typing import Annotated, Any

import attrs

from services.analysis.plan import MAX_SYMBOL, NAME, TaskParams
from services.submissions import (
    BatchItem,
    BatchRequest,
    TaskBounds,
    TaskRequest,
    Timing,
    check_callback,
    moment_within,
)
from tornado_rt.bounds import OutOfBounds, check_locale, name_of, number_of
from tornado_rt.json_body import MOST_ITEMS
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import MOST_SECONDS

_check_symbol = name_of(MAX_SYMBOL)


def _check_symbols(_: Any, field: Any, value: list[str]) -> None:
    if not value:
        raise OutOfBounds(phrase("{name} must name one or more", name=field.name))


@attrs.frozen(kw_only=True)
class SeedTask(Timing):
    """The body of `POST /api/tasks` without a kind."""

    symbol: str = attrs.field(validator=_check_symbol)
    params: TaskParams = attrs.field(factory=TaskParams)
    callback_url: str | None = attrs.field(default=None, validator=check_callback)
    locale: str | None = attrs.field(default=None, validator=check_locale)

    def request(self) -> TaskRequest:
        """Return what it asks for."""
        return TaskRequest(
            kind=NAME,
            params={"symbol": self.symbol, **_plain(self.params)},
            delay=self.delay,
            run_at=self.run_at,
            callback_url=self.callback_url,
            locale=self.locale,
        )


@attrs.frozen(kw_only=True)
class SeedBatch:
    """The body of `POST /api/batches` without a kind."""

    symbols: list[Annotated[str, _check_symbol]] = attrs.field(validator=_check_symbols)
    params: TaskParams = attrs.field(factory=TaskParams)
    notify_each: bool = False
    locale: str | None = attrs.field(default=None, validator=check_locale)

    def request(self) -> BatchRequest:
        """Return what it asks for."""
        return BatchRequest(
            kind=NAME,
            items=[BatchItem(params={"symbol": symbol}) for symbol in self.symbols],
            params=_plain(self.params),
            notify_each=self.notify_each,
            locale=self.locale,
        )


@functools.cache
def bounded_seed_task(bounds: TaskBounds) -> type[SeedTask]:
    """Return SeedTask with these bounds."""
    most_delay = bounds.max_delay or MOST_SECONDS

    @attrs.frozen(kw_only=True)
    class BoundedSeedTask(SeedTask):
        delay: float = attrs.field(default=0.0, validator=number_of(0, most_delay))
        run_at: str | None = attrs.field(default=None, validator=moment_within(most_delay))

    return BoundedSeedTask


@functools.cache
def bounded_seed_batch(bounds: TaskBounds) -> type[SeedBatch]:
    """Return SeedBatch with these bounds."""

    @attrs.frozen(kw_only=True)
    class BoundedSeedBatch(SeedBatch):
        symbols: list[Annotated[str, _check_symbol]] = attrs.field(
            validator=_check_symbols, metadata={MOST_ITEMS: bounds.max_batch}
        )

    return BoundedSeedBatch


def _plain(params: TaskParams) -> dict[str, Any]:
    return {**attrs.asdict(params), "analysts": [str(one) for one in params.analysts]}
