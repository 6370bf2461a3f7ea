"""Whether two models differ on the same pictures: paired tests, pure functions."""

from collections.abc import Mapping
from math import comb

import numpy as np
from numpy.typing import NDArray

from fashion.bootstrap import resampled_means
from fashion.metrics import Floats


def paired_bootstrap(
    first: Mapping[str, Floats],
    second: Mapping[str, Floats],
    *,
    groups: NDArray[np.str_] | None = None,
    samples: int = 10_000,
) -> dict[str, dict[str, float]]:
    """Name → the mean of second − first [N] with its 95% interval, and how sure its sign is; all from the same draws.

    Args:
        groups: [N]: whole groups are drawn, since pictures of one are not independent.

    Returns:
        `difference`, `low`, `high`, and `p`: twice the share of resamples on the other side of 0 (two-sided), and
        never 0, which resamples cannot show.  Of fewer than two values or groups `difference` alone.
    """
    differences = np.array([np.asarray(second[name], float) - first[name] for name in first])
    drawn = resampled_means(differences, groups, samples, seed=0)
    return {
        name: {"difference": float(difference.mean())} | _sureness(means)
        for name, difference, means in zip(first, differences, drawn, strict=True)
    }


def _sureness(means: Floats) -> dict[str, float]:
    """`low`, `high` and `p` of the resamples' differences; {} where there are none."""
    if not means.size:
        return {}
    low, high = np.quantile(means, [0.025, 0.975])
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (means.size + 1))
    return {"low": float(low), "high": float(high), "p": float(p)}


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> dict[str, float]:
    """McNemar's exact test of which pictures [N] two models have right; the pictures must be independent.

    Returns:
        `only_first`, `only_second`: pictures that one alone has right; `p`: two-sided, from the binomial distribution.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    trials, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(trials, k) for k in range(fewer + 1)) / 2**trials
    return {"only_first": only_first, "only_second": only_second, "p": min(1.0, 2 * tail)}
