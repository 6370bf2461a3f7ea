import torch
from torch import nn
from torch.nn import functional as F

from fashion.activation import ReLU6


def test_it_computes_what_torchs_relu6_does_gradient_included():
    x = torch.cat([torch.randn(1000) * 5, torch.tensor([0.0, 6.0, -0.0, float("inf")])])
    slopes = torch.randn(len(x))
    results = []
    for act in (ReLU6(), nn.ReLU6()):
        leaf = x.clone().requires_grad_()
        y = act(leaf * 1)
        (y * slopes).sum().backward()
        results.append((y.detach(), leaf.grad))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


def test_the_gradient_is_right():
    points = torch.tensor([-3.0, -0.1, 0.1, 2.0, 5.9, 7.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ReLU6()(x * 1), points)


def test_nothing_is_copied():
    inputs = torch.randn(4, 8, requires_grad=True) * 1
    assert ReLU6()(inputs).data_ptr() == inputs.data_ptr()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        result = ReLU6()(torch.randn(4, 8, requires_grad=True) * 1)
    assert kept == [result.data_ptr()]


def test_outside_training_it_is_a_plain_operator():
    act = ReLU6().eval()
    x = torch.randn(4, 8)
    assert torch.equal(act(x.clone()), F.relu6(x))
    assert "Clamp" not in str(torch.export.export(act, (x,)).graph)
