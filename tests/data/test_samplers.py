from collections import Counter
from itertools import chain, islice

import numpy as np
import pytest

from fashion.data import samplers
from fashion.data.samplers import PKBatchSampler, shuffled
from fashion.errors import FashionError


def members(*counts: int) -> dict[int, np.ndarray]:
    edges = np.cumsum([0, *counts])
    return {label: np.arange(edges[label], edges[label + 1]) for label in range(len(counts))}


def label_of(index: int, groups: dict[int, np.ndarray]) -> int:
    return next(label for label, indices in groups.items() if index in indices)


@pytest.mark.parametrize(("counts", "classes"), [((20, 30, 40, 50), 2), ((20, 30, 40, 50), 4), ((9, 9), 2)])
def test_each_batch_holds_p_classes_and_k_of_each(counts, classes):
    groups = members(*counts)
    batches = list(PKBatchSampler(groups, classes, 4))
    assert batches
    for batch in batches:
        labels = Counter(label_of(index, groups) for index in batch)
        assert len(labels) == classes
        assert set(labels.values()) == {4}
        assert len(set(batch)) == len(batch)


def test_pictures_are_drawn_without_replacement_until_exhausted():
    groups = members(12, 12, 12)
    drawn = Counter(chain.from_iterable(PKBatchSampler(groups, 3, 4)))
    assert set(drawn.values()) == {1}
    assert len(drawn) == 36


@pytest.mark.parametrize("seed", range(10))
def test_a_new_shuffle_repeats_nothing_within_a_batch(seed):
    """Seven pictures and three classes are no multiples of what a batch takes of them."""
    for batch in islice(PKBatchSampler(members(7, 7, 7), 2, 4, seed=seed)._batches(1), 20):
        assert len(set(batch)) == 8
        assert len({index // 7 for index in batch}) == 2


def test_classes_come_equally_often_whatever_their_size():
    groups = members(8, 100, 12, 60)
    seen = Counter(label_of(batch[at], groups) for batch in PKBatchSampler(groups, 2, 4) for at in (0, 4))
    assert max(seen.values()) - min(seen.values()) <= 1


def test_a_class_smaller_than_k_repeats_only_its_own():
    groups = members(2, 20)
    for batch in PKBatchSampler(groups, 2, 4):
        repeated = {index for index, times in Counter(batch).items() if times > 1}
        assert repeated == {0, 1}


def test_the_batches_of_all_ranks_together_are_those_of_one():
    groups = members(16, 16, 16)
    alone = list(islice(PKBatchSampler(groups, 2, 4, seed=3), 6))
    shared = [list(PKBatchSampler(groups, 2, 4, seed=3, rank=rank, world=2)) for rank in range(2)]
    assert [len(batches) for batches in shared] == [3, 3]
    assert [shared[at % 2][at // 2] for at in range(6)] == alone


def test_a_run_that_goes_on_draws_what_comes_next():
    members = {label: np.arange(12 * label, 12 * label + 12) for label in range(3)}
    whole = PKBatchSampler(members, 3, 2)
    passes = [list(whole) for _ in range(3)]
    assert list(PKBatchSampler(members, 3, 2, passes=2)) == passes[2]


def test_passes_differ_and_seeds_repeat():
    sampler, again = PKBatchSampler(members(16, 16), 2, 4, seed=5), PKBatchSampler(members(16, 16), 2, 4, seed=5)
    first = list(sampler)
    assert list(again) == first
    assert list(sampler) != first


def test_seeds_draw_other_batches():
    one, other = (list(PKBatchSampler(members(16, 16), 2, 4, seed=seed)) for seed in (0, 1))
    assert one != other


@pytest.mark.parametrize(
    ("classes", "pictures", "words"), [(3, 4, "set it to 2 or less"), (1, 4, "two"), (2, 1, "two")]
)
def test_impossible_batches_are_refused(classes, pictures, words):
    with pytest.raises(FashionError, match=words):
        PKBatchSampler(members(5, 5), classes, pictures)


def test_processes_share_out_one_shuffle(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    parts = []
    for rank in range(2):
        monkeypatch.setattr(samplers, "rank_and_world_size", lambda rank=rank: (rank, 2))
        parts.append(list(shuffled(range(37))))
    assert [len(part) for part in parts] == [18, 18]  # as many steps in each process, or the last would wait for ever
    assert not set(parts[0]) & set(parts[1])
    assert parts[0] + parts[1] != sorted(parts[0] + parts[1])
