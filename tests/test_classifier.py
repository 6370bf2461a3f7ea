"""What a classifier's loss is, against the obvious sums."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from fashion.classifier import ClassifierModule, mix
from fashion.distillation import distillation_loss
from fashion.errors import FashionError

NAMES = ("dress", "hat", "shoes")
BACKBONE = {"name": "tiny", "stem": 8, "blocks": [[1, 8, 1, 2], [2, 16, 1, 2], [2, 24, 1, 2]]}
SAID = torch.tensor([0.7, 0.2, 0.1]).log()


def teacher(pictures):
    """One that says the same of every picture."""
    return SAID.expand(len(pictures), -1)


def loss_and_logits(batch, **settings):
    """Of one training step, and what the network answered there."""
    torch.manual_seed(0)
    module = ClassifierModule(BACKBONE, NAMES, 32, **settings)
    module.log = lambda *args, **options: None
    seen = SimpleNamespace(logits=None)
    answer = module.network.logits

    def noting(kinds):
        seen.logits = answer(kinds)
        return seen.logits

    module.network.logits = noting
    return module.training_step(batch, 0), seen.logits


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (6, 3, 32, 32), generator=random, dtype=torch.uint8), torch.tensor([0, 0, 0, 1, 1, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_are_those_of_the_pictures_own_classes(batch, smoothing):
    weights = [0.5, 1.0, 3.0]
    loss, logits = loss_and_logits(batch, margin=0, label_smoothing=smoothing, class_weights=weights)
    slowly = 0.0
    for row, label in zip(logits.log_softmax(dim=1).tolist(), batch[1].tolist(), strict=True):
        wanted = [smoothing / 3 + (1 - smoothing) * (at == label) for at in range(3)]
        slowly -= weights[label] * sum(share * value for share, value in zip(wanted, row, strict=True)) / 6
    assert loss.item() == pytest.approx(slowly, rel=1e-5)


def test_weights_and_smoothing_leave_a_common_class_likeliest_for_its_own_pictures():
    """The answer that minimises the loss of a picture is the smoothed target, whatever its class weighs."""
    module = ClassifierModule(BACKBONE, NAMES, 32, margin=0, label_smoothing=0.3, class_weights=[0.2, 1.0, 30.0])
    module.log = lambda *args, **options: None
    logits = torch.zeros(1, 3, requires_grad=True)
    module.network.logits = lambda kinds: logits
    module.training_step((torch.zeros(1, 3, 32, 32), torch.tensor([0])), 0).backward()
    wanted = torch.tensor([0.8, 0.1, 0.1])
    torch.testing.assert_close(-logits.grad[0] / 0.2, wanted - 1 / 3)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_a_network_of_another_precision_learns_the_same(batch, kind):
    """As trainer.precision=64-true and bf16-true make it, with its class weights, and not the batch."""
    losses = []
    for dtype in (torch.float32, kind):
        torch.manual_seed(0)
        module = ClassifierModule(BACKBONE, NAMES, 32, class_weights=[0.5, 1.0, 3.0]).to(dtype)
        module.log = lambda *args, **options: None
        losses.append(module.training_step(batch, 0).item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize("teaching", [0.0, 0.8, 1.0])
def test_teaching_is_the_share_of_imitation(batch, teaching):
    loss, logits = loss_and_logits(batch, margin=0, label_smoothing=0, teacher=teacher, teaching=teaching)
    named, imitated = F.cross_entropy(logits, batch[1]), distillation_loss(logits, teacher(logits))
    assert loss.item() == pytest.approx(((1 - teaching) * named + teaching * imitated).item(), rel=1e-5)


def test_a_teacher_sees_what_the_student_sees_and_maybe_larger():
    pictures = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    seen = []
    module = ClassifierModule(
        BACKBONE, NAMES, 32, mixup=1.0, teacher=lambda shown: seen.append(shown) or teacher(shown)
    )
    module.log = lambda *args, **options: None
    parts = module.network.parts
    module.network.parts = lambda shown: seen.append(shown) or parts(shown)
    torch.manual_seed(0)
    module.training_step((pictures, torch.tensor([0, 1, 2, 0])), 0)
    (own, its) = seen
    assert own.shape == (4, 3, 32, 32)
    assert its.shape == (4, 3, 64, 64)
    assert not torch.equal(its, pictures.float())  # mixed
    torch.testing.assert_close(own.mean(dim=(1, 2, 3)), its.mean(dim=(1, 2, 3)), atol=1.0, rtol=0)


def test_a_margin_makes_the_own_class_harder_to_name(batch):
    loss, logits = loss_and_logits(batch, margin=0.3, label_smoothing=0)
    assert loss.item() > F.cross_entropy(logits, batch[1]).item() + 0.1


def test_a_teacher_is_imitated_without_the_margin(batch):
    loss, logits = loss_and_logits(batch, margin=0.3, teacher=teacher, teaching=1.0)
    assert loss.item() == pytest.approx(distillation_loss(logits, teacher(logits)).item(), rel=1e-5)


@pytest.mark.parametrize("chances", [(1.0, 0.0), (0.0, 1.0)], ids=["mixup", "cutmix"])
@pytest.mark.parametrize("seed", range(5))
def test_targets_are_mixed_as_the_pictures_are(chances, seed):
    """Picture n is full of n: its mean says how much of which picture it holds, and so do its targets."""
    torch.manual_seed(seed)
    pictures = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 16, 16)
    mixed, targets = mix(pictures, torch.eye(4), *chances)
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), targets @ torch.arange(4.0))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
    assert mixed.shape == pictures.shape


def test_mixup_blends_whole_pictures_and_cutmix_patches_them():
    pictures = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 16, 16)
    torch.manual_seed(0)
    blended = torch.stack([mix(pictures, torch.eye(4), 1.0, 0.0)[0] for _ in range(10)])
    assert (blended.amax(dim=(2, 3, 4)) - blended.amin(dim=(2, 3, 4)) < 1e-5).all()
    patched = torch.stack([mix(pictures, torch.eye(4), 0.0, 1.0)[0] for _ in range(10)])
    assert set(patched.unique().tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert (patched.amax(dim=(2, 3, 4)) > patched.amin(dim=(2, 3, 4))).any()


def test_mixup_and_cutmix_share_out_the_batches():
    pictures, kinds = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 16, 16), []
    torch.manual_seed(0)
    for _ in range(300):
        mixed, _ = mix(pictures, torch.eye(4), 0.2, 0.5)
        kinds.append("none" if mixed is pictures else "cutmix" if (mixed == mixed.round()).all() else "mixup")
    assert 60 < kinds.count("none") < 120  # 0.3 of 300
    assert 110 < kinds.count("cutmix") < 190
    with pytest.raises(FashionError, match="mixup 0.6 and cutmix 0.5 are probabilities of one or the other"):
        ClassifierModule(BACKBONE, NAMES, 32, mixup=0.6, cutmix=0.5)


def test_nothing_is_mixed_where_nothing_is_asked_for():
    pictures, targets = torch.rand(4, 3, 8, 8), torch.eye(4)
    assert mix(pictures, targets, 0.0, 0.0) == (pictures, targets)
