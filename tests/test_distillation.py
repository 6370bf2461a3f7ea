"""Imitating teachers: nothing where they agree, and the slow obvious sum elsewhere."""

import math

import pytest
import torch
from helpers import TINY

from fashion.distillation import Teacher, distillation_loss, fused
from fashion.network import SiameseEncoder


def answers(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return 3 * torch.randn(5, 4)


def softened(logits: torch.Tensor) -> torch.Tensor:
    return (logits / 2).softmax(dim=1).log()


def test_who_agrees_has_nothing_to_learn():
    assert distillation_loss(answers(0), softened(answers(0))).item() == pytest.approx(0, abs=1e-5)


def test_imitation_is_the_obvious_sum():
    logits, goal = answers(0), answers(1)
    total = 0.0
    for row in range(5):
        mine, theirs = (torch.softmax(values[row].double() / 2, 0).tolist() for values in (logits, goal))
        total += 4 * sum(t * (math.log(t) - math.log(m)) for m, t in zip(mine, theirs, strict=True))
    assert distillation_loss(logits, softened(goal)).item() == pytest.approx(total / 5, rel=1e-4)


def seasoned(backbone: dict, seed: int = 0) -> SiameseEncoder:
    """A network whose batch norms have seen something."""
    torch.manual_seed(seed)
    network = SiameseEncoder(backbone, 4)
    for _ in range(3):
        network(torch.rand(4, 3, 64, 64) * 255)
    return network


@pytest.mark.parametrize("bf16", [False, True])
def test_teachers_say_their_mean_without_gradients_and_stay_as_they_are(bf16):
    networks = [seasoned(TINY, seed) for seed in (0, 1)]
    before = [{name: value.clone() for name, value in one.state_dict().items()} for one in networks]
    pictures = torch.rand(6, 3, 64, 64) * 255
    said = Teacher(networks, bf16)(pictures)
    assert said.dtype == torch.float32
    assert not said.requires_grad
    assert all(
        torch.equal(old[name], value)
        for one, old in zip(networks, before, strict=True)
        for name, value in one.state_dict().items()
    )
    expected = sum((one.eval()(pictures)[1] / 2).softmax(dim=1) for one in networks) / 2
    torch.testing.assert_close(said.exp(), expected.detach(), atol=0.05 if bf16 else 1e-4, rtol=0)


@pytest.mark.parametrize("name", ["tiny", "resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_a_folded_network_says_the_same(name):
    network = seasoned(TINY if name == "tiny" else {"name": name})
    pictures = torch.rand(3, 3, 64, 64) * 255
    said, folded = network.eval()(pictures), fused(network)(pictures)
    for one, other in zip(said, folded, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in fused(network).modules()) == 0
