"""How sure a mean is: by drawing its values again and again."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.metrics import Floats


def resampled_means(values: Floats, groups: NDArray[Any] | None, samples: int, seed: int) -> Floats:
    """The means [samples] of `values` [N] drawn with replacement: one by one, or by whole groups [N]."""
    sums, counts = np.asarray(values, dtype=float), np.ones(len(values))
    if groups is not None:
        _, number = np.unique(groups, return_inverse=True)
        sums, counts = np.bincount(number, values), np.bincount(number).astype(float)
    random = np.random.default_rng(seed)
    means = np.empty(samples)
    for at in range(samples):  # one draw at a time: memory stays that of the values
        drawn = random.integers(len(sums), size=len(sums))
        means[at] = sums[drawn].sum() / counts[drawn].sum()
    return means


def bootstrap_interval(
    values: Floats,
    *,
    groups: NDArray[Any] | None = None,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` [N].

    Args:
        groups: [N]: values of the same group (a photographer, a product) are not independent; whole groups are drawn.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(resampled_means(values, groups, samples, seed), [tail, 1 - tail])
    return float(low), float(high)
