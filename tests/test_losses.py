import math
from collections import Counter

import pytest
import torch
from torch.nn import functional as F

from fashion.errors import FashionError
from fashion.losses import MINERS, TripletLoss, Triplets, hinge, mine_semihard, pairwise_distances


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return F.normalize(torch.randn(12, 8)), torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3])


def distance(embeddings, a, b):
    return (embeddings[a] - embeddings[b]).norm().item()


def triplets_by_hand(embeddings, labels, miner):
    """[(positive distance, negative distance)] with plain loops."""
    found = []
    count = range(len(labels))
    for a in count:
        positives = [p for p in count if p != a and labels[p] == labels[a]]
        negatives = [n for n in count if labels[n] != labels[a]]
        if miner == "hard" and positives and negatives:
            found.append((max(distance(embeddings, a, p) for p in positives),
                          min(distance(embeddings, a, n) for n in negatives)))  # fmt: skip
        for p in positives if miner != "hard" else []:
            to_positive = distance(embeddings, a, p)
            to_negatives = [distance(embeddings, a, n) for n in negatives]
            if miner == "all":
                found += [(to_positive, d) for d in to_negatives]
            elif miner == "semihard":
                farther = [d for d in to_negatives if d > to_positive]
                found.append((to_positive, min(farther) if farther else max(to_negatives)))
    return sorted(found)


@pytest.mark.parametrize("miner", ["all", "hard", "semihard"])
def test_miners_agree_with_loops(batch, miner):
    embeddings, labels = batch
    mined = MINERS[miner](pairwise_distances(embeddings), labels)
    ours = sorted(zip(mined.positive.tolist(), mined.negative.tolist(), strict=True))
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(triplets_by_hand(embeddings, labels, miner)))


def test_a_negative_as_near_as_the_positive_is_not_semihard():
    distances = torch.tensor([[0, 1, 1, 1.5], [1, 0, 1, 1.5], [1, 1, 0, 2], [1.5, 1.5, 2, 0]])
    mined = mine_semihard(distances, torch.tensor([0, 0, 1, 2]))
    assert mined.negative.tolist() == [1.5, 1.5]


def test_random_gives_each_pair_one_of_its_negatives(batch):
    embeddings, labels = batch
    distances = pairwise_distances(embeddings)
    mined = MINERS["random"](distances, labels)
    pairs = [(a, p) for a in range(12) for p in range(12) if a != p and labels[a] == labels[p]]
    assert len(mined.positive) == len(pairs)
    for (a, p), positive, negative in zip(pairs, mined.positive, mined.negative, strict=True):
        assert positive == distances[a, p]
        assert negative in distances[a][labels != labels[a]]


def test_random_draws_all_of_the_negatives():
    torch.manual_seed(0)
    embeddings, classes = F.normalize(torch.randn(6, 8)), torch.tensor([0, 0, 1, 1, 2, 2])
    distances = pairwise_distances(embeddings)
    drawn = Counter(MINERS["random"](distances, classes).negative[0].item() for _ in range(200))
    assert set(drawn) == set(distances[0, 2:].tolist())
    assert min(drawn.values()) > 20  # of 50 that each would get


def test_given_takes_thirds_as_anchors_positives_and_negatives():
    torch.manual_seed(0)
    embeddings = F.normalize(torch.randn(6, 4))
    mined = MINERS["given"](pairwise_distances(embeddings), torch.tensor([0, 1, 0, 1, 2, 0]))
    torch.testing.assert_close(mined.positive, (embeddings[:2] - embeddings[2:4]).norm(dim=1))
    torch.testing.assert_close(mined.negative, (embeddings[:2] - embeddings[4:]).norm(dim=1))


@pytest.mark.parametrize("classes", [[0, 1, 0, 1, 2, 0, 2], [0, 1, 0, 1, 0, 2], [0, 1, 1, 1, 2, 0]])
def test_given_refuses_what_are_no_triplets(classes):
    """A picture too many; a negative of the anchor's class; a positive of another."""
    embeddings = F.normalize(torch.randn(len(classes), 4))
    with pytest.raises(FashionError, match="task.batches.mode=explicit"):
        MINERS["given"](pairwise_distances(embeddings), torch.tensor(classes))


def test_hinge_averages_over_active_triplets_only():
    loss = hinge(Triplets(torch.tensor([1.0, 0.2, 0.5]), torch.tensor([0.5, 1.9, 0.5])), margin=0.5)
    assert loss.item() == pytest.approx((1.0 + 0.5) / 2)


def test_given_agrees_with_torchs_own_loss():
    embeddings = F.normalize(torch.randn(9, 4))
    ours = TripletLoss(margin=2.0, miner="given")(embeddings, torch.tensor([0, 1, 2, 0, 1, 2, 1, 2, 0]))
    theirs = F.triplet_margin_loss(*embeddings.chunk(3), margin=2.0)  # at margin 2 every triplet is active
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("miner", ["random", "all", "semihard", "hard"])
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_batches_without_triplets_give_zero_and_a_gradient(miner, labels):
    embeddings = F.normalize(torch.randn(4, 8)).requires_grad_()
    loss = TripletLoss(miner=miner)(embeddings, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0


def test_the_triplets_for_logging_keep_no_graph():
    loss = TripletLoss()
    loss(F.normalize(torch.randn(6, 8)).requires_grad_(), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert not loss.triplets.positive.requires_grad
    assert not loss.triplets.negative.requires_grad


@pytest.mark.parametrize("miner", ["random", "all", "semihard", "hard"])
def test_gradients_are_zero_where_embeddings_coincide(miner):
    embeddings = torch.full((8, 4), 0.5, requires_grad=True)
    loss = TripletLoss(miner=miner)(embeddings, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]))
    loss.backward()
    assert (embeddings.grad == 0).all()
    assert loss.item() == pytest.approx(1.0, abs=1e-3)  # stuck at the margin


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_embeddings_may_have_any_precision(dtype):
    embeddings = F.normalize(torch.randn(8, 4, dtype=torch.float64)).to(dtype).requires_grad_()
    expected = (embeddings[:, None] - embeddings).double().norm(dim=2)
    torch.testing.assert_close(pairwise_distances(embeddings).double(), expected, atol=1e-2, rtol=1e-2)
    TripletLoss()(embeddings, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])).backward()
    assert embeddings.grad.dtype == dtype
    assert embeddings.grad.isfinite().all()


def test_a_large_batch_keeps_no_difference_of_two_embeddings():
    """Of 600 embeddings of 32 numbers these would be 46 MB."""
    torch.manual_seed(0)
    embeddings = F.normalize(torch.randn(600, 32))
    embeddings[1] = embeddings[0]
    exact = embeddings.double().requires_grad_()
    embeddings.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.numel()) or one, lambda one: one):
        distances = pairwise_distances(embeddings)
    assert max(kept) <= 600**2
    expected = (exact.unsqueeze(1) - exact).norm(dim=2)
    torch.testing.assert_close(distances.double(), expected, atol=2e-6, rtol=0)
    weights = torch.randn(600, 600)
    (distances * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(embeddings.grad.double(), exact.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("miner", ["random", "all", "semihard", "hard"])
def test_training_on_the_loss_separates_classes(miner):
    torch.manual_seed(1)
    points = torch.randn(12, 8, requires_grad=True)
    labels = torch.arange(12) % 3
    optimizer = torch.optim.Adam([points], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        TripletLoss(miner=miner)(F.normalize(points), labels).backward()
        optimizer.step()
    distances = pairwise_distances(F.normalize(points.detach()))
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    assert distances[same].max() < distances[~same].min()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"miner": "esay"}, "loss.miner")]
    + [({"margin": margin}, "loss.margin") for margin in (0.0, -0.5, 2.1, math.nan)],
)
def test_bad_settings_are_refused(options, words):
    with pytest.raises(FashionError, match=words):
        TripletLoss(**options)
