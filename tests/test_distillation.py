"""Imitating a teacher: nothing where they agree, and the slow obvious sum elsewhere."""

import math

import pytest
import torch
from helpers import TINY
from torch.nn import functional as F

from fashion.distillation import Teacher, imitation
from fashion.network import SiameseEncoder


def answers(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return F.normalize(torch.randn(5, 32)), 3 * torch.randn(5, 4)


def test_who_agrees_has_nothing_to_learn():
    assert imitation(answers(0), answers(0)).item() == pytest.approx(0, abs=1e-5)


def test_imitation_is_the_obvious_sum():
    (embeddings, logits), (goal, goal_logits) = answers(0), answers(1)
    total = 0.0
    for row in range(5):
        mine, theirs = (torch.softmax(values[row].double() / 2, 0).tolist() for values in (logits, goal_logits))
        total += 4 * sum(t * (math.log(t) - math.log(m)) for m, t in zip(mine, theirs, strict=True))
        total += 1 - sum(a * b for a, b in zip(embeddings[row].tolist(), goal[row].tolist(), strict=True))
    assert imitation(answers(0), answers(1)).item() == pytest.approx(total / 5, rel=1e-4)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_teacher_answers_without_gradients_and_stays_as_it_is(bf16):
    network = SiameseEncoder(TINY, 4)
    teacher = Teacher(network, ["a", "b", "c", "d"], 64, bf16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    kinds, logits = teacher(torch.rand(6, 3, 64, 64) * 255)
    assert kinds.dtype == logits.dtype == torch.float32
    assert not kinds.requires_grad
    assert kinds.norm(dim=1).tolist() == pytest.approx([1.0] * 6, abs=1e-3)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
