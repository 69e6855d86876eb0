"""When reports leave."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recorded import Clock
from tornado_rt.work import (
    Pacer,
)


@given(st.lists(st.floats(0, 0.3), max_size=60))
def test_reports_leave_ten_times_a_second_and_the_last_always(pauses: list[float]) -> None:
    clock = Clock()
    pacer = Pacer(10, clock)
    changes, sent, left, due = 0, 0, [], math.inf
    for pause in [*pauses, 9.0]:
        if due <= clock.now + pause:
            # The timer of the planned report comes in between.
            now, clock.now = clock.now, due
            pacer.leave()
            sent, due = changes, math.inf
            left.append(clock.now)
            clock.now = now
        assert pauses == [] or due == math.inf or due > clock.now
        clock.now += pause
        changes += 1
        wait = pacer.ask()
        if wait == 0:
            sent = changes
            left.append(clock.now)
        elif wait is not None:
            due = clock.now + wait
        else:
            assert due < math.inf
    assert sent == changes or due < math.inf
    assert all(later - one >= 0.1 - 1e-9 for one, later in pairwise(left))


def test_late_timer_puts_the_next_report_off() -> None:
    clock = Clock()
    pacer = Pacer(10, clock)
    assert pacer.ask() == 0
    assert pacer.ask() == pytest.approx(0.1)
    assert pacer.ask() is None
    clock.now = 5
    pacer.leave()
    assert pacer.ask() == pytest.approx(0.1)
