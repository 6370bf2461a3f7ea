"""The optimiser: orthogonal steps beside a singular value decomposition, AdamW beside torch's, its state on a disk."""

import io

import torch
from torch import nn

from fashion.muon import Muon, newton_schulz


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1, bias=False)).double()


def optimizer(net: nn.Module, scale: float = 2.0, lr: float = 0.01) -> Muon:
    mixing = [p for p in net.parameters() if p.ndim == 4]
    others = [p for p in net.parameters() if p.ndim != 4]
    return Muon(
        [{"params": mixing, "orthogonal": True, "scale": scale, "weight_decay": 0.1}, {"params": others}], lr=lr
    )


def gradients(net: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    net(torch.rand(4, 3, 6, 6, dtype=torch.float64)).square().mean().backward()


def test_orthogonal_keeps_directions_and_levels_their_sizes() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 6, 20, dtype=torch.float64) * torch.tensor([1e-6, 1.0, 1e6]).view(3, 1, 1)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    levelled = u.mT @ newton_schulz(matrices) @ v.mT  # in the matrix's own axes
    sizes = levelled.diagonal(dim1=1, dim2=2)
    assert ((sizes > 0.6) & (sizes < 1.3)).all()
    assert (levelled - torch.diag_embed(sizes)).abs().max() < 1e-6  # no axis is mixed with another
    torch.testing.assert_close(newton_schulz(matrices.mT), newton_schulz(matrices).mT)
    assert newton_schulz(torch.zeros(1, 2, 3)).abs().max() == 0


def test_bfloat16_takes_nearly_the_same_steps() -> None:
    full, half = network().float(), network().float()
    before = full[2].weight.detach().clone()
    for net, bf16 in ((full, False), (half, True)):
        optimise = Muon([{"params": [net[0].weight, net[2].weight], "orthogonal": True}], lr=0.01, bf16=bf16)
        torch.manual_seed(0)
        net(torch.rand(4, 3, 6, 6)).square().mean().backward()
        optimise.step()
    step, rounded = full[2].weight - before, half[2].weight - before
    assert 0 < (step - rounded).norm() < 0.02 * step.norm()
    assert rounded.dtype == torch.float32


def test_steps_of_a_matrix_are_what_the_definition_says() -> None:
    net, lr, scale = network(), 0.01, 2.0
    optimise = optimizer(net, scale, lr)
    weight = net[2].weight
    momentum = torch.zeros(4, 8, dtype=torch.float64)
    for seed in range(3):
        optimise.zero_grad()
        gradients(net, seed)
        before, gradient = weight.detach().clone(), weight.grad.view(4, 8).clone()
        optimise.step()
        momentum = 0.9 * momentum + gradient
        step = newton_schulz((gradient + 0.9 * momentum)[None])[0]
        expected = before.view(4, 8) * (1 - lr * 0.1) - lr * scale * 8**0.5 * step
        torch.testing.assert_close(weight.detach().view(4, 8), expected)
        rms = (step * 8**0.5).square().mean().sqrt()
        assert 0.6 < rms < 1.3  # so that lr · scale is how far a number moves


def test_other_parameters_move_as_with_adamw() -> None:
    ours, theirs = network(), network()
    one = optimizer(ours)
    other = torch.optim.AdamW(theirs[1].parameters(), lr=0.01, weight_decay=0.0)
    for seed in range(5):
        for net in (ours, theirs):
            net.zero_grad()
            gradients(net, seed)
        theirs[0].load_state_dict(ours[0].state_dict())
        theirs[2].load_state_dict(ours[2].state_dict())
        for parameter, same in zip(theirs[1].parameters(), ours[1].parameters(), strict=True):
            parameter.grad = same.grad.clone()
        one.step()
        other.step()
        for parameter, same in zip(theirs[1].parameters(), ours[1].parameters(), strict=True):
            torch.testing.assert_close(parameter, same)


def test_a_loaded_state_is_where_the_parameters_are() -> None:
    saved = optimizer(network())
    for group in saved.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    saved.step()
    away = optimizer(network().to("meta"))  # a device as good as any to tell from the CPU
    away.load_state_dict(saved.state_dict())
    assert {value.device.type for state in away.state.values() for value in state.values()} == {"meta"}


def test_a_saved_state_goes_on_as_if_never_saved() -> None:
    net = network()
    optimise = optimizer(net)
    gradients(net, 0)
    optimise.step()
    file = io.BytesIO()
    torch.save([net.state_dict(), optimise.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    resumed = network()
    resumed.load_state_dict(weights)
    again = optimizer(resumed)
    again.load_state_dict(state)
    for one, its in ((net, optimise), (resumed, again)):
        its.zero_grad()
        gradients(one, 1)
        its.step()
    for one, other in zip(net.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_what_has_no_gradient_stays() -> None:
    net = network()
    optimise = optimizer(net)
    before = [p.detach().clone() for p in net.parameters()]
    assert optimise.step(lambda: 3.0) == 3.0
    for one, other in zip(before, net.parameters(), strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=0, atol=0)


def test_each_group_has_its_own_decay_and_betas_which_may_change() -> None:
    """A schedule moves the betas of the groups, as `one_cycle` does."""
    torch.manual_seed(0)
    start, weight = torch.randn(5), torch.nn.Parameter(torch.randn(4, 6))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    one = Muon([{"params": [ours], "weight_decay": 0.1}, {"params": [weight], "orthogonal": True}], lr=0.01)
    other = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    momentum = torch.zeros(4, 6)
    for beta in (0.95, 0.9, 0.8):
        for group in (*one.param_groups, *other.param_groups):
            group["betas"] = (beta, 0.999)
        ours.grad, weight.grad = torch.randn(5), torch.randn(4, 6)
        theirs.grad = ours.grad.clone()
        before = weight.detach().clone()
        one.step()
        other.step()
        torch.testing.assert_close(ours, theirs)
        momentum = beta * momentum + weight.grad
        step = newton_schulz((weight.grad + beta * momentum)[None])[0]
        torch.testing.assert_close(weight.detach(), before - 0.01 * 2 * 6**0.5 * step)
