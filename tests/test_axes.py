"""Principal axes are of the features alone: not of how their signs, their batches or a far mean happen to be."""

import torch

from fashion.axes import principal_axes


def features() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(60, 6, dtype=torch.float64) * torch.tensor([5.0, 4, 3, 2, 1, 0.5], dtype=torch.float64)


def test_the_largest_number_of_each_axis_is_positive():
    for sign in (1, -1):
        weight, _ = principal_axes([sign * features()], 6)
        assert (weight.gather(1, weight.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_a_mean_far_from_nothing_costs_no_precision():
    small = 0.01 * features()
    weight, _ = principal_axes([small], 4)
    far, bias = principal_axes((small + 1e6).split(7), 4)
    torch.testing.assert_close(far, weight, rtol=1e-3, atol=1e-3)
    mean = (small + 1e6).mean(dim=0)
    torch.testing.assert_close(bias, -(far.double() @ mean).float(), rtol=1e-3, atol=1e-3)
