"""Timing things that are to be compared: in turns, so that a busy moment of the machine hits them alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Timing:
    """Seconds of each run of one thing."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))


def interleaved(things: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 2) -> dict[str, Timing]:
    """Run each thing once a round, in turns; the first `warm_up` rounds do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in things}
    for number in range(warm_up + rounds):
        for name, run in things.items():
            started = time.perf_counter()
            run()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def ratio(one: Timing, other: Timing) -> float:
    """The median over rounds of one's time as a multiple of the other's in the same round."""
    return float(np.median(np.divide(one.seconds, other.seconds)))


def search_ms(search: Callable[[NDArray[np.float32], int], object], queries: NDArray[np.float32]) -> float:
    """Median time of one search for the 10 nearest, milliseconds: of all queries, or as many as a second is enough for.

    Args:
        search: an index's method of that name.
    """
    times: list[float] = []
    for query in queries:
        if sum(times) > 1:
            break
        started = time.perf_counter()
        search(query, 10)
        times.append(time.perf_counter() - started)
    return round(1000 * float(np.median(times)), 4)
