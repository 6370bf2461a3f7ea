"""The network's two heads: what they are made of, and what trains them."""

import pytest
import torch
from helpers import TINY, write_checkpoint
from torch.nn import functional as F

from fashion.classifier import ClassifierModule
from fashion.distillation import Teacher
from fashion.errors import FashionError
from fashion.network import KIND, KIND_SHARE, SiameseEncoder, load_network, quarters
from fashion.tasks.training import warm_start


@pytest.mark.parametrize("sides", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (4, 7), (1, 2)])
def test_quarters_are_those_of_adaptive_pooling(sides):
    features = torch.randn(2, 3, *sides)
    torch.testing.assert_close(quarters(features), F.adaptive_avg_pool2d(features, 2))


def test_the_cosine_of_embeddings_weighs_those_of_kinds_and_looks():
    torch.manual_seed(0)
    network = SiameseEncoder(TINY, 3).eval()
    pictures = torch.randint(0, 256, (4, 3, 64, 64))
    with torch.no_grad():
        embeddings, logits = network(pictures)
        kinds, looks = network.parts(pictures)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    expected = KIND_SHARE * kinds @ kinds.T + (1 - KIND_SHARE) * looks @ looks.T
    torch.testing.assert_close(embeddings @ embeddings.T, expected)
    cosines = kinds @ F.normalize(network.directions, dim=1).T
    torch.testing.assert_close(logits, network.log_scale.exp() * cosines)
    assert kinds.shape == (4, KIND)


def test_a_picture_may_be_no_square():
    embeddings, _ = SiameseEncoder(TINY, 3).eval()(torch.zeros(2, 3, 64, 128))
    assert embeddings.shape == (2, 64)


@pytest.mark.parametrize("taught", [False, True])
def test_a_classifier_leaves_looks_alone_unless_a_teacher_shows_it_some(taught):
    torch.manual_seed(0)
    teacher = Teacher(SiameseEncoder(TINY, 2), ["a", "b"], 64) if taught else None
    module = ClassifierModule(TINY, ["a", "b"], mixup=0.0, teacher=teacher)
    module.log = lambda *arguments, **options: None
    module.training_step((torch.randint(0, 256, (8, 3, 64, 64)), torch.tensor([0, 1] * 4)), 0).backward()
    assert module.network.kind.weight.grad is not None
    assert (module.network.look.weight.grad is not None) == taught


def test_a_warm_start_brings_both_heads_whatever_the_classes(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "three.ckpt")
    network = SiameseEncoder(TINY, 5)
    warm_start(network, checkpoint)
    trained, _ = load_network(checkpoint)
    assert torch.equal(network.kind.weight, trained.kind.weight)
    assert torch.equal(network.look.weight, trained.look.weight)
    assert network.directions.shape == (5, KIND)


def test_a_checkpoint_of_one_part_is_told_apart(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "old.ckpt")
    saved = torch.load(checkpoint, weights_only=True)
    saved["state_dict"]["network.embed.weight"] = torch.zeros(64, 64)
    torch.save(saved, checkpoint)
    with pytest.raises(FashionError, match="made before embeddings had two parts; train it again"):
        load_network(checkpoint)
