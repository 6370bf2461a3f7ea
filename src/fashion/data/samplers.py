"""The order of training pictures: shuffled, or in batches of P classes × K pictures, whose triplets losses mine."""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler, RandomSampler, Sampler

from fashion.errors import FashionError


class PKBatchSampler(Sampler[list[int]]):
    """Each batch holds `classes` different classes and `pictures` pictures of each.

    Classes, and pictures within a class, are drawn without replacement until exhausted, then shuffled anew: every
    class comes equally often, and no picture of a class comes again before all others of it.  A class with fewer
    than `pictures` therefore repeats some within a batch, and only such a class does.

    Args:
        members: class number → indices of its pictures.
        classes: P.
        pictures: K, at least 2, so that every anchor has a positive.
        seed: draws differ by seed and from one pass to the next, and are the same on every machine.
        rank, world: of `world` processes, process `rank` gets every world-th batch; all get equally many.
        passes: how many were made before, by the run that this one goes on with.

    Raises:
        FashionError: if P is larger than the number of classes, or P or K smaller than 2.
    """

    def __init__(
        self,
        members: Mapping[int, NDArray[np.int64]],
        classes: int,
        pictures: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        passes: int = 0,
    ):
        if classes > len(members):
            raise FashionError(
                f"task.batches.classes_per_batch is {classes}, and the training split has {len(members)} classes; "
                f"set it to {len(members)} or less."
            )
        if classes < 2 or pictures < 2:
            raise FashionError(
                f"task.batches: {classes} classes × {pictures} pictures a batch; triplets need two of each at least."
            )
        self.members = dict(members)
        self.classes, self.pictures = classes, pictures
        self.seed, self.rank, self.world = seed, rank, world
        self.passes = passes

    def __len__(self) -> int:
        total = sum(len(indices) for indices in self.members.values())
        return max(total // (self.classes * self.pictures * self.world), 1)

    def __iter__(self) -> Iterator[list[int]]:
        self.passes += 1
        mine = islice(self._batches(self.passes), self.rank, None, self.world)
        return islice(mine, len(self))

    def _batches(self, number: int) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, number])
        numbers = _Deck(np.array(sorted(self.members)), random)
        decks = {number: _Deck(indices, random) for number, indices in sorted(self.members.items())}
        while True:
            chosen = numbers.deal(self.classes)
            yield [int(index) for number in chosen for index in decks[int(number)].deal(self.pictures)]


class _Deck:
    """Cards dealt without replacement; a new shuffle when they run out, avoiding repeats within one hand."""

    def __init__(self, cards: NDArray[np.int64], random: np.random.Generator):
        self.cards, self.random = cards, random
        self.left: list[int] = []

    def deal(self, count: int) -> list[int]:
        hand: list[int] = []
        while len(hand) < count:
            if not self.left:
                fresh = self.random.permutation(self.cards).tolist()
                # What is in the hand already goes to the bottom, to be dealt again only if nothing else is left.
                self.left = [card for card in fresh if card in hand] + [card for card in fresh if card not in hand]
            hand.append(self.left.pop())
        return hand


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def shuffled(dataset: Any) -> Sampler[int]:
    """All indices in a new random order each epoch, divided among the processes of a distributed run."""
    rank, world = rank_and_world_size()
    if world > 1:
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # where Lightning keeps it, the same for all processes
        return DistributedSampler(dataset, world, rank, shuffle=True, seed=seed, drop_last=True)
    return RandomSampler(dataset)
