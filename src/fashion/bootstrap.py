"""Bootstrap confidence intervals of means."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.metrics import Floats


def resampled_means(values: Floats, groups: NDArray[Any] | None, samples: int, seed: int) -> Floats:
    """The means [M,samples] of `values` [M,N] drawn with replacement: one by one, or by whole groups [N].

    All rows get the same draws.  Of fewer than two values or groups there are none, [M,0]: one says nothing of chance.
    """
    summed = np.vstack([values, np.ones(values.shape[1])])
    if groups is not None:
        _, number = np.unique(groups, return_inverse=True)
        summed = np.stack([np.bincount(number, row) for row in summed])
    units = summed.shape[1]
    if units < 2:
        return np.empty((len(values), 0))
    random = np.random.default_rng(seed)
    means = np.empty((len(values), samples))
    for at in range(samples):  # one draw at a time: memory stays that of the values
        times = np.bincount(random.integers(units, size=units), minlength=units)
        *sums, count = summed @ times.astype(float)
        means[:, at] = np.array(sums) / count
    return means


def bootstrap_intervals(
    values: Mapping[str, Floats],
    *,
    groups: NDArray[Any] | None = None,
    samples: int = 2000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Name → 95% percentile bootstrap interval of the mean of that name's `values` [N].

    Args:
        groups: [N]: values of the same group (a photographer, a product) are not independent; whole groups are drawn.

    Returns:
        {} where there are fewer than two values or groups.
    """
    means = resampled_means(np.array(list(values.values()), float), groups, samples, seed)
    if not means.size:
        return {}
    limits = np.quantile(means, [0.025, 0.975], axis=1)
    return {name: (float(low), float(high)) for name, low, high in zip(values, *limits, strict=True)}
