"""The network's two heads: what they are made of, and what trains them."""

import weakref

import numpy as np
import pytest
import torch
from helpers import GPU, TINY, write_checkpoint
from torch.nn import functional as F

from fashion.axes import principal_axes
from fashion.checkpoints import load_network
from fashion.classifier import ClassifierModule
from fashion.data.arrays import PictureArray
from fashion.distillation import Teacher
from fashion.errors import FashionError
from fashion.network import EMBEDDING, KIND, SiameseEncoder, precisely
from fashion.tasks.starting import warm_start
from fashion.tasks.training import fit_looks_in


@pytest.mark.parametrize("look", [0.0, 0.25, 1.0])
def test_the_cosine_of_embeddings_weighs_those_of_kinds_and_looks(look):
    torch.manual_seed(0)
    network = SiameseEncoder(TINY, 3, look=look).eval()
    pictures = torch.randint(0, 256, (4, 3, 64, 64))
    with torch.no_grad():
        embeddings, logits = network(pictures)
        kinds, features = network.parts(pictures)
    looks = F.normalize(features @ network.axes.weight.T + network.axes.bias)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(embeddings @ embeddings.T, (1 - look) * kinds @ kinds.T + look * looks @ looks.T)
    cosines = kinds @ F.normalize(network.directions, dim=1).T
    torch.testing.assert_close(logits, network.log_scale.exp() * cosines)
    assert kinds.shape == (4, KIND)


@pytest.mark.parametrize("look", [-0.1, 1.1])
def test_a_share_outside_its_range_is_refused(look):
    with pytest.raises(FashionError, match=r"task\.module\.look is"):
        SiameseEncoder(TINY, 3, look=look)


def test_looks_are_the_half_whitened_principal_components():
    torch.manual_seed(0)
    x = torch.randn(200, 6) @ torch.diag(torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1])) @ torch.randn(6, 6)
    weight, bias = principal_axes(x.split(64), 4)
    looks = x @ weight.T + bias
    torch.testing.assert_close(looks.mean(dim=0), torch.zeros(4), atol=1e-3, rtol=0)
    # Uncorrelated, and each as spread as the root of the component's own spread.
    spreads = torch.linalg.svdvals(x - x.mean(dim=0))[:4] / len(x) ** 0.5
    torch.testing.assert_close(looks.T @ looks / len(x), torch.diag(spreads), atol=1e-3, rtol=1e-3)
    # Slowly: the first component is the direction of largest spread.
    direction = weight[0] / weight[0].norm()
    others = F.normalize(torch.randn(500, 6))
    assert (x @ direction).std() >= (x @ others.T).std(dim=0).max()


def test_components_of_batches_are_those_of_the_whole_and_no_batch_is_kept():
    torch.manual_seed(0)
    x = torch.randn(320, 6) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1]) + 1000  # a mean far from 0
    alive = weakref.WeakSet()
    most = 0

    def batches():
        nonlocal most
        for at in range(0, 320, 32):
            batch = x[at : at + 32].clone()
            alive.add(batch)
            most = max(most, len(alive))
            yield batch
            del batch

    weight, bias = principal_axes(batches(), 4)
    variances, axes = torch.linalg.eigh(torch.cov(x.double().T, correction=0))
    expected = (axes * variances**-0.25).T.flip(0)[:4]
    expected *= (expected * weight).sum(dim=1, keepdim=True).sign()
    torch.testing.assert_close(weight.double(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(bias.double(), -expected @ x.double().mean(dim=0), atol=1e-3, rtol=1e-6)
    assert most <= 2


def test_components_that_are_not_there_are_zeros():
    x = torch.arange(3.0).unsqueeze(1) * torch.tensor([1.0, 2.0, 0.0])  # three pictures on one line
    weight, bias = principal_axes([x], 5)
    assert weight.shape == (5, 3)
    assert weight[0].abs().min() == 0
    assert weight[0].abs().max() > 0
    assert not weight[1:].any()
    assert not bias[1:].any()


def test_fitted_looks_find_a_picture_of_no_class_again():
    torch.manual_seed(0)
    network = SiameseEncoder(TINY, 3, look=1.0).eval()
    pictures = torch.randint(0, 256, (40, 3, 4, 4)).repeat_interleave(16, 2).repeat_interleave(16, 3).float()
    network.fit_looks(pictures.split(16))
    with torch.no_grad():
        embeddings, again = network(pictures)[0], network(pictures * 0.95 + 3)[0]
    assert (again @ embeddings.T).argmax(dim=1).tolist() == list(range(40))


def test_a_picture_may_be_no_square():
    embeddings, _ = SiameseEncoder(TINY, 3).eval()(torch.zeros(2, 3, 64, 128))
    assert embeddings.shape == (2, 64)


@pytest.mark.parametrize("taught", [False, True])
def test_a_classifier_leaves_the_axes_of_looks_alone(taught):
    torch.manual_seed(0)
    teacher = Teacher([SiameseEncoder(TINY, 2)]) if taught else None
    module = ClassifierModule(TINY, ["a", "b"], mixup=0.0, teacher=teacher)
    module.log = lambda *arguments, **options: None
    module.training_step((torch.randint(0, 256, (8, 3, 64, 64)), torch.tensor([0, 1] * 4)), 0).backward()
    assert module.network.kind.weight.grad is not None
    assert module.network.axes.weight.grad is None


def test_the_margin_is_taken_from_the_cosine_to_the_picture_s_own_class():
    torch.manual_seed(0)
    module = ClassifierModule(TINY, ["a", "b", "c"], label_smoothing=0.0, margin=0.2).eval()
    pictures, labels = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8), torch.tensor([0, 1, 2, 2, 1])
    kinds, _ = module.network.parts(pictures)
    cosines = kinds @ torch.nn.functional.normalize(module.network.directions).T
    slow = []
    for row, label in zip(cosines, labels, strict=True):
        scores = [16 * (cosine - 0.2 if at == label else cosine) for at, cosine in enumerate(row)]
        slow.append(-torch.log_softmax(torch.stack(scores), dim=0)[label])
    module.log = lambda *args, **options: None
    assert torch.allclose(module.training_step((pictures, labels), 0), torch.stack(slow).mean(), atol=1e-4)


def test_a_warm_start_brings_both_heads_whatever_the_classes(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "three.ckpt")
    network = SiameseEncoder(TINY, 5)
    warm_start(network, checkpoint, ["a", "b", "c", "d", "e"])
    trained, _ = load_network(checkpoint)
    assert torch.equal(network.kind.weight, trained.kind.weight)
    assert torch.equal(network.axes.weight, trained.axes.weight)
    assert network.directions.shape == (5, KIND)


@pytest.mark.parametrize("old", ["embed", "look", "axes"])
def test_a_checkpoint_of_other_embeddings_is_told_apart(tmp_path, old):
    checkpoint = write_checkpoint(tmp_path / "old.ckpt")
    saved = torch.load(checkpoint, weights_only=True)
    saved["state_dict"][f"network.{old}.weight"] = torch.zeros(64, 64)
    torch.save(saved, checkpoint)
    with pytest.raises(FashionError, match="made by an earlier version, of other embeddings; train it again"):
        load_network(checkpoint)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_a_runs_checkpoint_gets_the_axes_of_its_training_pictures(tmp_path, device):
    checkpoint = write_checkpoint(tmp_path / "run.ckpt")
    saved = torch.load(checkpoint, weights_only=True)
    torch.save({**saved, "looks_fitted": False}, checkpoint)  # as a training leaves it that is killed
    before, _ = load_network(checkpoint)
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (70, 3, 64, 64), dtype=np.uint8)
    fit_looks_in(checkpoint, PictureArray(pictures, np.zeros(70, np.int64), (), (), ""), torch.device(device))
    after, hparams = load_network(checkpoint)
    with torch.no_grad():
        weight, bias = principal_axes([before.parts(torch.from_numpy(pictures))[1]], EMBEDDING - KIND)
    torch.testing.assert_close(after.axes.bias, bias, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(after.axes.weight, weight, atol=1e-3, rtol=1e-3)
    assert torch.equal(after.kind.weight, before.kind.weight)
    assert hparams["class_names"] == ["dress", "hat", "shoes"]
    assert hparams["looks_fitted"]
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert {value.device.type for value in state.values()} == {"cpu"}


def test_digits_are_kept_for_a_while_and_other_settings_are_as_they_were():
    cudnn = torch.backends.cudnn

    def settings() -> tuple[bool, bool, str]:
        return cudnn.deterministic, cudnn.allow_tf32, torch.get_float32_matmul_precision()

    with cudnn.flags(enabled=True, deterministic=True):
        torch.set_float32_matmul_precision("high")
        try:
            with precisely(torch.device("cuda")):
                assert settings() == (True, False, "highest")
            assert settings() == (True, True, "high")
        finally:
            torch.set_float32_matmul_precision("highest")
