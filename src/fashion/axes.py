"""Principal components of features that come in batches."""

from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F


def principal_axes(batches: Iterable[Tensor], count: int) -> tuple[Tensor, Tensor]:
    """The first components of batches [N,D], half whitened: weight [count,D] and bias [count] of a linear layer.

    Fewer than `count` components leave rows of zeros.  The largest number of each axis is positive, so that the same
    pictures give the same axes.  No batch is kept.
    """
    mean, covariance = _mean_and_covariance(batches)
    variances, axes = torch.linalg.eigh(covariance)  # the largest last
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    scales = torch.where(variances > 1e-9 * variances[-1], variances.clamp(min=1e-12) ** -0.25, 0.0)
    weight = (axes * scales).T.flip(0)[:count]
    weight = F.pad(weight, (0, 0, 0, count - len(weight)))
    return weight.float(), (-weight @ mean).float()


def _mean_and_covariance(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """[D] and [D,D], in float64."""
    rest = iter(batches)
    first = next(rest).double()
    near = first.mean(dim=0)  # subtracted first, so that a mean far from 0 costs the sums no precision
    count, total, squares = 0, torch.zeros_like(near), torch.zeros_like(near.outer(near))
    for batch in chain([first], rest):
        x = batch.double() - near
        count += len(x)
        total += x.sum(dim=0)
        squares += x.T @ x
    offset = total / count
    return near + offset, squares / count - offset.outer(offset)
