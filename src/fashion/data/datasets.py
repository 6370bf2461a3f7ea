"""Datasets over decoded pictures: single ones, and triplets."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fashion.data.arrays import PictureArray
from fashion.errors import FashionError

Augment = Callable[[Tensor], Tensor]


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Pictures and labels; whole batches are fetched at once, and augmented on the way if `augment` is given.

    An item is (picture [3,S,S] uint8, label); a batch, from a list of indices, (pictures [B,3,S,S], labels [B]).  With
    `fetch=False` the indices themselves stand in for the pictures, for a GPU that holds them.
    """

    def __init__(self, array: PictureArray, augment: Augment | None = None, fetch: bool = True):
        self.array = array
        self.fetch = fetch
        self.labels = torch.from_numpy(array.labels)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pictures, labels = self.__getitems__([index])
        return pictures[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        rows = torch.tensor(indices)
        if not self.fetch:
            return rows, self.labels[rows]
        pictures = torch.from_numpy(self.array.pictures[rows.numpy()])
        return self.augment(pictures) if self.augment else pictures, self.labels[rows]


class TripletDataset(Dataset[Tensor]):
    """Explicit random triplets: item i is picture i as the anchor, another of its class, and one of another class.

    Positives and negatives are drawn anew at every access, from a generator that is seeded by `seed` and by torch's
    own seed, which differs in each worker process and in a run that goes on.  A batch of B triplets is fetched as
    (pictures [3B,3,S,S], labels [3B]): all anchors, then all positives, then all negatives, so that one forward pass
    serves all three.

    Raises:
        FashionError: if there is one class only, or a class with one picture.
    """

    def __init__(self, images: ImageDataset, seed: int = 0):
        self.images = images
        self.members = members_of(images.array)
        self._by_class = np.concatenate(list(self.members.values()))
        ends = np.cumsum([len(members) for members in self.members.values()])
        self._ends = dict(zip(self.members, ends.tolist(), strict=True))
        self.seed = seed
        self._generator: np.random.Generator | None = None

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, anchors: Sequence[int]) -> NDArray[np.int64]:
        """[3B] indices: the anchors, a positive each, a negative each."""
        random = self._random()
        labels = self.images.array.labels
        positives, negatives = [], []
        for anchor in anchors:
            same = self.members[int(labels[anchor])]
            at = random.integers(len(same) - 1)
            positives.append(same[at] if same[at] != anchor else same[-1])
            other = random.integers(len(labels) - len(same))
            negatives.append(self._outside(int(labels[anchor]), int(other)))
        return np.concatenate([np.asarray(anchors), positives, negatives]).astype(np.int64)

    def _random(self) -> np.random.Generator:
        if self._generator is None:
            self._generator = np.random.default_rng([self.seed, torch.initial_seed()])
        return self._generator

    def _outside(self, label: int, at: int) -> int:
        """The at-th of the pictures in the order of their classes, those of `label` left out."""
        own = len(self.members[label])
        return int(self._by_class[at if at < self._ends[label] - own else at + own])

    def __getitem__(self, index: int) -> Tensor:
        pictures, _ = self.__getitems__([index])
        return pictures

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.images.__getitems__(self.draw(indices).tolist())


def members_of(array: PictureArray) -> dict[int, NDArray[np.int64]]:
    """Class number → indices of its pictures, checked for what triplets need."""
    numbers, counts = np.unique(array.labels, return_counts=True)
    if len(numbers) < 2:
        raise FashionError("Triplets need two classes at least, and the training split has one; add another class.")
    if counts.min() < 2:
        lonely = next(item.label for item, label in zip(array.items, array.labels, strict=True)
                      if label == numbers[counts.argmin()])  # fmt: skip
        raise FashionError(
            f"The class {lonely!r} has one training picture, and a triplet needs two; add one, or leave the class out "
            "with data.classes."
        )
    members = np.split(np.argsort(array.labels, kind="stable"), np.cumsum(counts)[:-1])
    return dict(zip(numbers.tolist(), members, strict=True))
