import pytest
import torch
from helpers import TINY
from torch import nn

from fashion.errors import FashionError
from fashion.losses import TripletLoss
from fashion.triplet import TripletModule

LABELS = torch.tensor([0, 0, 1, 1, 1, 2])


class Nothing(nn.Module):
    """A metric loss that asks for nothing."""

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return embeddings.sum() * 0


class Many(nn.Module):
    """A metric loss of each picture."""

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return embeddings.square().sum(dim=1)


class Named(nn.Module):
    """A metric loss under its name."""

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": embeddings.square().sum()}


def step(module: TripletModule, labels: torch.Tensor) -> torch.Tensor:
    module.log = module.log_dict = lambda *args, **options: None
    pictures = torch.randint(0, 256, (len(labels), 3, 64, 64), generator=torch.Generator().manual_seed(0)).float()
    module.eval()  # batch norm as it is, so that a second pass sees the same
    with torch.no_grad():
        module.logits = module(pictures)[1]
    return module.training_step((pictures, labels), 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_cross_entropy_counts_each_picture_by_its_classs_weight(smoothing):
    weights = [2.0, 0.5, 0.25]
    module = TripletModule(TINY, ["a", "b", "c"], loss=Nothing(), label_smoothing=smoothing, class_weights=weights)
    loss = step(module, LABELS)
    expected = 0.0
    for row, label in zip(module.logits.log_softmax(dim=1), LABELS.tolist(), strict=True):
        target = torch.full((3,), smoothing / 3)
        target[label] += 1 - smoothing
        expected -= weights[label] * float(row @ target) / len(LABELS)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_metric_loss_comes_beside_it():
    torch.manual_seed(0)
    module = TripletModule(TINY, ["a", "b", "c"], loss=TripletLoss(margin=0.5), classification=0.5)
    together = step(module, LABELS)
    module.hparams["classification"] = 0.0
    metric = step(module, LABELS)
    module.hparams["classification"] = 1.0
    assert (step(module, LABELS) - metric).item() == pytest.approx(2 * (together - metric).item(), rel=1e-4)


def test_a_loss_of_many_numbers_and_one_of_other_arguments_are_sentences():
    with pytest.raises(FashionError, match=r"loss: Many gives \[6\] numbers for a batch, not one"):
        step(TripletModule(TINY, ["a", "b", "c"], loss=Many()), LABELS)
    with pytest.raises(FashionError, match="loss: Named gives a dict for a batch, not one number"):
        step(TripletModule(TINY, ["a", "b", "c"], loss=Named()), LABELS)
    with pytest.raises(FashionError, match="TripletMarginLoss cannot be called with .* missing a required argument"):
        TripletModule(TINY, ["a", "b"], loss=nn.TripletMarginLoss())


def test_products_are_named_by_their_class():
    module = TripletModule(TINY, ["a", "b"], loss=Nothing(), class_of=[0, 1, 1], label_smoothing=0.0)
    loss = step(module, torch.tensor([0, 1, 2]))
    expected = nn.functional.cross_entropy(module.logits, torch.tensor([0, 1, 1]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_no_loss_reaches_the_axes_of_looks():
    torch.manual_seed(0)
    module = TripletModule(TINY, ["a", "b"])
    step(module, torch.tensor([0, 0, 1, 1])).backward()
    assert module.network.kind.weight.grad.abs().max() > 0
    assert module.network.axes.weight.grad is None


def logged_by_a_step(
    module: TripletModule, labels: torch.Tensor, pictures: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    logged: dict[str, torch.Tensor] = {}
    module.log = lambda *args, **options: None
    module.log_dict = lambda values, **options: logged.update(values)
    if pictures is None:
        pictures = torch.randint(0, 256, (len(labels), 3, 64, 64), generator=torch.Generator().manual_seed(0))
    module.training_step((pictures.float(), labels), 0)
    return logged


def test_what_a_training_logs_is_of_the_mined_triplets():
    torch.manual_seed(0)
    module = TripletModule(TINY, ["a", "b", "c"], loss=TripletLoss(margin=0.2, miner="all"))
    logged = logged_by_a_step(module, torch.tensor([0, 0, 1, 1, 2, 2]))
    positive, negative = module.loss.triplets
    assert logged["train/active"].item() == pytest.approx((positive + 0.2 > negative).float().mean().item())
    assert logged["train/active"] > (positive > negative).float().mean()
    assert logged["train/positive_distance"] == positive.mean()
    assert logged["train/negative_distance"] == negative.mean()


def test_the_spread_is_nothing_where_all_pictures_have_one_kind():
    torch.manual_seed(0)
    module = TripletModule(TINY, ["a", "b"])
    same = torch.full((4, 3, 64, 64), 100)
    module.eval()
    logged = logged_by_a_step(module, torch.tensor([0, 0, 1, 1]), same)
    assert logged["train/spread"].item() == pytest.approx(0, abs=1e-5)
    module.on_train_epoch_end()
    assert module.collapsed
    module.network.parts = lambda _: (torch.eye(4, 32, requires_grad=True), None)  # at right angles: their mean is ½
    logged = logged_by_a_step(module, torch.tensor([0, 0, 1, 1]))
    assert logged["train/spread"].item() == pytest.approx(0.75)


def test_without_a_cross_entropy_what_it_teaches_is_frozen():
    module = TripletModule(TINY, ["a", "b"], classification=0.0)
    frozen = {name for name, value in module.named_parameters() if not value.requires_grad}
    assert frozen == {"network.directions", "network.log_scale", "network.axes.weight", "network.axes.bias"}


def test_an_evaluation_searches_the_second_loader_and_forgets_it():
    torch.manual_seed(0)
    module = TripletModule(TINY, ["a", "b"])
    module.eval()
    logged = {}
    module.log = lambda name, value, **options: logged.__setitem__(name, float(value))
    one, other = torch.full((2, 3, 64, 64), 20.0), torch.full((2, 3, 64, 64), 220.0)
    one[1], other[1] = other[1].clone(), one[1].clone()  # the gallery holds the same two, the other way round
    for truth in ([0, 1], [1, 0]):  # once all are found, once none first
        with torch.no_grad():
            module.validation_step((one, torch.tensor([0, 1])), 0, 0)
            module.validation_step((other, torch.tensor(truth)[[1, 0]]), 0, 1)
        module.log_scores("val")
        assert logged["val/top1"] == float(truth == [0, 1])
