"""Triplet losses and miners: pure functions first, one thin module second.

Distances are Euclidean between embeddings of length 1, so they lie between 0 and 2, and a margin above 2 can never
be met.  Mining is inside the batch ("FaceNet", https://arxiv.org/abs/1503.03832; "In Defense of the Triplet Loss",
https://arxiv.org/abs/1703.07737).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fashion.arguments import checked
from fashion.errors import FashionError


class Triplets(NamedTuple):
    """Distances of the mined triplets: positive [T] and negative [T]; the same place is the same triplet."""

    positive: Tensor
    negative: Tensor


def pairwise_distances(embeddings: Tensor) -> Tensor:
    """[N,D] → [N,N] Euclidean distances; the gradient is 0 where two embeddings coincide."""
    # Not by dot products, which cdist would take for larger batches: they lose the digits of small distances.
    exact = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))  # cdist has no shorter floats
    return torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist")


def _masks(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs [N,N] are (anchor, positive), and which (anchor, negative)."""
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return same & ~itself, ~same


def mine_all(distances: Tensor, labels: Tensor) -> Triplets:
    """Every valid triplet of the batch: T = Σ over pairs (anchor, positive) of the number of negatives."""
    positive, negative = _masks(labels)
    triplets = positive.unsqueeze(2) & negative.unsqueeze(1)  # [anchor, positive, negative]
    shape = triplets.shape
    return Triplets(distances.unsqueeze(2).expand(shape)[triplets], distances.unsqueeze(1).expand(shape)[triplets])


def mine_hard(distances: Tensor, labels: Tensor) -> Triplets:
    """For each anchor its farthest positive and its nearest negative; anchors that lack either are left out."""
    positive, negative = _masks(labels)
    usable = positive.any(dim=1) & negative.any(dim=1)
    farthest = distances.masked_fill(~positive, -1).amax(dim=1)
    nearest = distances.masked_fill(~negative, torch.inf).amin(dim=1)
    return Triplets(farthest[usable], nearest[usable])


def mine_semihard(distances: Tensor, labels: Tensor) -> Triplets:
    """For each (anchor, positive) the nearest negative that is farther than the positive.

    Where no negative is farther, the farthest one: the least wrong (as FaceNet's published code does).
    """
    anchors, positives, negative = _pairs(labels)
    to_positive = distances[anchors, positives]
    to_negatives = distances[anchors]
    farther = negative & (to_negatives > to_positive.unsqueeze(1))
    nearest_farther = to_negatives.masked_fill(~farther, torch.inf).amin(dim=1)
    farthest = to_negatives.masked_fill(~negative, -1).amax(dim=1)
    return Triplets(to_positive, torch.where(farther.any(dim=1), nearest_farther, farthest))


def mine_random(distances: Tensor, labels: Tensor) -> Triplets:
    """For each (anchor, positive) one negative, drawn at random from the batch."""
    anchors, positives, negative = _pairs(labels)
    chosen = torch.multinomial(negative.float(), 1) if len(negative) else anchors.new_zeros((0, 1))
    return Triplets(distances[anchors, positives], distances[anchors].gather(1, chosen).squeeze(1))


def _pairs(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors [P] and positives [P] of the pairs whose anchor has a negative, in order; its negatives' mask [P,N].

    A GPU is waited for once, to count the pairs.
    """
    positive, negative = _masks(labels)
    anchors, positives = (positive & negative.any(dim=1, keepdim=True)).nonzero(as_tuple=True)
    return anchors, positives, negative[anchors]


def take_given(distances: Tensor, labels: Tensor) -> Triplets:
    """The triplets that the batch itself lists: a third anchors, a third positives, a third negatives."""
    count = len(labels) // 3
    anchors, positives, negatives = labels[: 3 * count].view(3, count)
    if len(labels) % 3 or not bool(((anchors == positives) & (anchors != negatives)).all()):
        raise FashionError("loss.miner=given needs batches of triplets; set task.batches.mode=explicit.")
    rows = torch.arange(count, device=labels.device)
    return Triplets(distances[rows, rows + count], distances[rows, rows + 2 * count])


MINERS: dict[str, Callable[[Tensor, Tensor], Triplets]] = {
    "random": mine_random,
    "all": mine_all,
    "semihard": mine_semihard,
    "hard": mine_hard,
    "given": take_given,
}


def hinge(triplets: Triplets, margin: float) -> Tensor:
    """Mean of max(0, positive − negative + margin) over the triplets that are active, that is above 0; 0 if none is.

    The satisfied ones are left out of the mean: they would only shrink it, the more the better the network gets.
    """
    losses = (triplets.positive - triplets.negative + margin).relu()
    return losses.sum() / (losses > 0).sum().clamp(min=1)


class TripletLoss(nn.Module):
    """Triplet loss with a miner, of the signature that other libraries' losses share: (embeddings, labels) → scalar.

    After a call, `triplets` holds the mined distances (detached), for logging.

    Args:
        margin: by how much a negative should be farther than a positive, of a distance of at most 2.
        miner: a name in `MINERS`.
    """

    @checked("loss")
    def __init__(self, margin: float = 1.0, miner: str = "semihard"):
        super().__init__()
        if miner not in MINERS:
            raise FashionError(f"loss.miner is {miner!r}; it should be one of {', '.join(MINERS)}.")
        if not 0 < margin <= 2:
            raise FashionError(
                f"loss.margin is {margin}; embeddings of length 1 are at most 2 apart: set 0 < margin ≤ 2."
            )
        self.margin, self.miner = margin, miner
        self.triplets: Triplets | None = None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """[N,D] embeddings and [N] class numbers → scalar."""
        triplets = MINERS[self.miner](pairwise_distances(embeddings), labels)
        self.triplets = Triplets(triplets.positive.detach(), triplets.negative.detach())
        return hinge(triplets, self.margin)
