"""The queue against its model, step by step."""

import asyncio
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from redis.asyncio import Redis
from tornado.ioloop import IOLoop

from tests.queue_model import STEPS, make_driver

CI_STEPS = 1000


def test_hypothesis_finds_no_sequence_that_breaks_the_queue(io_loop: IOLoop, redis: Redis) -> None:
    """The steps that led to a fault are printed, whatever hypothesis shrinks from."""

    class QueueMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            io_loop.run_sync(redis.flushall)
            self.driver = io_loop.run_sync(lambda: make_driver(redis, 0))

        @rule(name=st.sampled_from(list(STEPS)), seed=st.integers(0, 2**32))
        def step(self, name: str, seed: int) -> None:
            self.driver.rng = random.Random(seed)
            io_loop.run_sync(lambda: self._step(name))

        async def _step(self, name: str) -> None:
            await self.driver.take(name)
            await self.driver.compare()
            await self.driver.check()

    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.gen_test
async def test_long_random_walk_keeps_queue_and_model_together(redis: Redis) -> None:
    """The short form of `make fuzz-queue`; a failure prints the seed that repeats it."""
    seed = random.randrange(2**32)
    driver = await make_driver(redis, seed)
    for number in range(CI_STEPS):
        try:
            await driver.step()
            await driver.compare()
            if number % 50 == 0:
                await driver.check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, step {number}") from error
        await asyncio.sleep(0)
