"""What is wrong with a dataset: damage, duplicates, leaks between splits, imbalance, labels that look mistaken."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashion.data.arrays import PictureArray
from fashion.data.blocks import SIDE, in_blocks
from fashion.encoder import Encoder

NEAR = 0.95
"""Share of equal bits from which two pictures are near-duplicates: the same photo, saved again, scaled or relit."""

SEEN = 0.5
"""Difference of grey values (of 255) up to which two blocks count as equal: on white, smaller ones are the
file's noise."""

NEAR_SEEN = 0.9
"""Share of equal bits that near-duplicates also have where there is anything to see in either: two products on white
have most bits equal."""

ALIKE = 0.999
"""Cosine of embeddings from which that share is enough.  Alone it says little: a good model finds all white T-shirts of
one photographer so alike."""

FLAT = 2.5
"""Standard deviation of the grey values of a picture's blocks (of 255) below which there is nothing to see."""

SURE = 0.9
"""Probability of another class from which a label is suspicious."""


class Pair(NamedTuple):
    """Two pictures that are (nearly) the same; alike: share of equal bits."""

    path: str
    split: str
    label: str
    other: str
    other_split: str
    other_label: str
    alike: float


@dataclass
class Audit:
    """Findings; pictures are named by their paths.

    unreadable: (path, reason).
    leaked_groups: `group` values on both sides of a split.  balance: split → class → pictures.  suspicious: (path,
    split, label, what the model says, its probability).
    """

    counts: dict[str, int] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    flat: list[str] = field(default_factory=list)
    duplicates: list[Pair] = field(default_factory=list)
    near_duplicates: list[Pair] = field(default_factory=list)
    leaked_groups: list[str] = field(default_factory=list)
    balance: dict[str, dict[str, int]] = field(default_factory=dict)
    shift: dict[str, float] = field(default_factory=dict)
    suspicious: list[tuple[str, str, str, str, float]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Counts of everything, for a run's metrics."""
        across = [pair for pair in (*self.duplicates, *self.near_duplicates) if pair.split != pair.other_split]
        return {
            "pictures": sum(self.counts.values()),
            "unreadable": len(self.unreadable),
            "flat": len(self.flat),
            "duplicates": len(self.duplicates),
            "duplicates_with_different_labels": sum(pair.label != pair.other_label for pair in self.duplicates),
            "near_duplicates": len(self.near_duplicates),
            "across_splits": len(across),
            "leaked_groups": len(self.leaked_groups),
            "suspicious_labels": len(self.suspicious),
            "shift": self.shift,
        }


def audit(splits: Mapping[str, PictureArray], class_names: Sequence[str], encoder: Encoder | None = None) -> Audit:
    """Look through the decoded pictures of all splits.

    Args:
        encoder: sharpens the search for near-duplicates, and names labels that it confidently disagrees with; None:
            neither.
    """
    found = Audit()
    names, split_of, labels = _joined(splits)
    pictures = np.concatenate([np.asarray(array.pictures) for array in splits.values()])
    for split, array in splits.items():
        found.counts[split] = len(array.labels)
        found.unreadable += list(array.skipped)
        counts = np.bincount(array.labels, minlength=len(class_names))
        found.balance[split] = {name: int(count) for name, count in zip(class_names, counts, strict=True)}
    found.shift = {split: _shift(found.balance, split) for split in splits if split != "train" and "train" in splits}
    grey = _grey(pictures)
    flat = grey.std(axis=(1, 2)) < FLAT
    found.flat = [names[at] for at in np.flatnonzero(flat)]
    embeddings = probabilities = None
    if encoder is not None:
        embeddings, probabilities = encoder(pictures)
    exact = _exact(pictures)
    looked_at = np.setdiff1d(np.flatnonzero(~flat), [other for _, other in exact])
    near = {
        (int(looked_at[one]), int(looked_at[other])): likeness
        for (one, other), likeness in _near(
            *difference_hash(grey[looked_at]), None if embeddings is None else embeddings[looked_at]
        ).items()
    }

    def what(at: int) -> tuple[str, str, str]:
        return names[at], split_of[at], class_names[labels[at]]

    for pairs, into in ((exact, found.duplicates), (near, found.near_duplicates)):
        for (one, other), likeness in sorted(pairs.items(), key=lambda pair: -pair[1]):
            if not flat[one]:
                into.append(Pair(*what(one), *what(other), round(likeness, 4)))
    found.leaked_groups = _leaks(splits)
    if probabilities is not None:
        own, best = probabilities[np.arange(len(labels)), labels], probabilities.argmax(axis=1)
        doubtful = np.flatnonzero((best != labels) & (probabilities.max(axis=1) >= SURE))
        for at in doubtful[np.argsort(own[doubtful], kind="stable")]:
            says = class_names[best[at]], round(float(probabilities[at].max()), 4)
            found.suspicious.append((names[at], split_of[at], class_names[labels[at]], *says))
    return found


def copied(splits: Mapping[str, PictureArray]) -> dict[str, int]:
    """How many pictures are copies of one in an earlier split, and how many groups are in more than one.

    Flat pictures, of one colour, are left out, as an audit lists them separately.  These are the figures of an audit's
    summary without near-duplicates.  Their search takes time that grows with the square of the number of pictures;
    this takes some ten seconds for a million.
    """
    first: dict[bytes, str] = {}
    across = 0
    for split, array in splits.items():
        for picture in np.asarray(array.pictures):
            if first.setdefault(_content(picture), split) != split:
                across += bool(_grey(picture[None]).std() >= FLAT)
    pictures = sum(len(array.labels) for array in splits.values())
    return {"pictures": pictures, "across_splits": across, "leaked_groups": len(_leaks(splits))}


def _joined(splits: Mapping[str, PictureArray]) -> tuple[list[str], list[str], NDArray[np.int64]]:
    names = [item.path for array in splits.values() for item in array.items]
    split_of = [split for split, array in splits.items() for _ in array.items]
    return names, split_of, np.concatenate([array.labels for array in splits.values()])


def _grey(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[N,3,S,S] → [N,16,16] means of blocks."""
    means: NDArray[np.float32] = in_blocks(pictures).mean(axis=(1, 3, 5), dtype=np.float32)
    return means


def difference_hash(grey: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[N,16,16] → [N,480] bits: is each block brighter than its left, and its upper, neighbour?  And is it not equal?

    Light and contrast change few of them ("dHash").
    """
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    steps = np.concatenate([one.reshape(len(grey), SIDE * (SIDE - 1)) for one in (across, down)], axis=1)
    return (steps > SEEN).astype(np.float32), (np.abs(steps) > SEEN).astype(np.float32)


def _content(picture: NDArray[np.uint8]) -> bytes:
    """Equal where all pixels are."""
    return hashlib.sha256(picture.tobytes()).digest()


def _exact(pictures: NDArray[np.uint8]) -> dict[tuple[int, int], float]:
    """Pairs of pictures that are the same after decoding."""
    first: dict[bytes, int] = {}
    pairs = {}
    for at, picture in enumerate(pictures):
        key = _content(picture)
        if key in first:
            pairs[first[key], at] = 1.0
        first.setdefault(key, at)
    return pairs


def _near(
    bits: NDArray[np.float32], seen: NDArray[np.float32], embeddings: NDArray[np.float32] | None
) -> dict[tuple[int, int], float]:
    """Pairs that are nearly the same, and how alike their bits are."""
    pairs, chunk = {}, 1024
    for at in range(0, len(bits), chunk):
        rows = slice(at, at + chunk)
        different = bits[rows].sum(axis=1)[:, None] + bits.sum(axis=1) - 2 * bits[rows] @ bits.T
        hit = different <= (1 - NEAR) * bits.shape[1]
        if embeddings is not None:
            hit |= (different <= (1 - NEAR_SEEN) * bits.shape[1]) & (embeddings[rows] @ embeddings.T >= ALIKE)
        hit = np.triu(hit, at + 1)  # each pair once
        for row in np.flatnonzero(hit.any(axis=1)):
            others = np.flatnonzero(hit[row])
            in_either = np.maximum(seen[at + row], seen[others]).sum(axis=1)
            for other in others[different[row, others] <= (1 - NEAR_SEEN) * in_either]:
                pairs[int(at + row), int(other)] = float(1 - different[row, other] / bits.shape[1])
    return pairs


def _shift(balance: Mapping[str, Mapping[str, int]], split: str) -> float:
    """Total variation distance between a split's class shares and training's: 0 the same, 1 nothing in common."""
    train, other = (np.array(list(balance[name].values()), float) for name in ("train", split))
    return round(float(np.abs(train / max(train.sum(), 1) - other / max(other.sum(), 1)).sum() / 2), 4)


def _leaks(splits: Mapping[str, PictureArray]) -> list[str]:
    """Values of `group` that are in more than one split."""
    where: dict[str, set[str]] = defaultdict(set)
    for split, array in splits.items():
        for value in {item.extra.get("group") for item in array.items}:
            if value not in (None, ""):
                where[str(value)].add(split)
    return sorted(value for value, found in where.items() if len(found) > 1)
