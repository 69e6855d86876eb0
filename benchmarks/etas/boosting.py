"""The baseline of the time left: gradient-boosted trees with all that is known of a flight."""

import array
import math
import os
import random
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from benchmarks.etas.flights import Flight
from benchmarks.etas.looking import Told

ROOT = Path(__file__).resolve().parent.parent.parent
# The trees learn from this many flights, drawn from all, each at a moment drawn from its time:
# where on the way a client will look is not told to them.
MOST_LEARNED = 25_000
CATEGORIES = 2


@attrs.frozen
class Look:
    """A flight at a moment from its start [s]."""

    flight: Flight
    at: float


@attrs.frozen
class Boosted:
    """Trains on flights, and tells for looks. `python`: an interpreter that has scikit-learn."""

    python: Path
    seed: int = 0

    def tell(self, past: Sequence[Flight], looks: Sequence[Look]) -> list[Told]:
        """Return what is told for each look. Raise LookupError when the training fails."""
        generator = random.Random(self.seed)
        routes = _numbers(flight.route for flight in past)
        carriers = _numbers(flight.carrier for flight in past)

        def features(look: Look) -> list[float]:
            return _features(look, routes, carriers)

        train = array.array("d")
        for flight in generator.sample(past, min(len(past), MOST_LEARNED)):
            at = generator.random() * flight.whole
            train.extend(features(Look(flight, at)))
            train.extend((flight.whole - at, flight.whole))
        asked = array.array("d")
        for look in looks:
            asked.extend(features(look))
        columns = len(asked) // len(looks)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "train").write_bytes(train.tobytes())
            (folder / "looks").write_bytes(asked.tobytes())
            self._run(folder, columns)
            told = array.array("d", (folder / "told").read_bytes())
        middles, lows, highs = told[::3], told[1::3], told[2::3]
        return [
            Told(look.at, middle, min(low, middle), max(high, middle))
            for look, middle, low, high in zip(looks, middles, lows, highs, strict=True)
        ]

    def _run(self, folder: Path, columns: int) -> None:
        command = [self.python, "-m", "benchmarks.etas.boosted", folder, columns]
        ran = subprocess.run(
            [*map(str, command), *map(str, range(CATEGORIES))],
            cwd=ROOT,
            # Where other programs run too, threads that wait for each other take minutes.
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise LookupError(ran.stderr.strip().splitlines()[-1])


def _features(look: Look, routes: dict[str, int], carriers: dict[str, int]) -> list[float]:
    flight, at = look.flight, look.at
    is_in_air = at >= flight.ground
    return [
        routes.get(flight.route, math.nan),
        carriers.get(flight.carrier, math.nan),
        flight.distance,
        flight.scheduled,
        flight.late,
        flight.hour,
        flight.weekday,
        flight.month,
        at,
        flight.ground if is_in_air else math.nan,
        at - flight.ground if is_in_air else math.nan,
    ]


def _numbers(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(set(names)))}
