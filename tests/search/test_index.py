import subprocess
import sys
import tracemalloc
from typing import Any

import faiss
import numpy as np
import pytest
from helpers import unit

from fashion import FAISSIndex
from fashion.errors import FashionError
from fashion.search import searching
from fashion.search.kinds import SETTINGS


def built(vectors: np.ndarray, kind: str = "flat", ids: np.ndarray | None = None, **settings) -> FAISSIndex:
    index = FAISSIndex(vectors.shape[1], kind, **settings)
    index.build(vectors, ids)
    return index


def recall(index: FAISSIndex, vectors: np.ndarray, queries: np.ndarray, k: int = 10) -> float:
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :k]
    found = index.search(queries, k)[1]
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(truth, found, strict=True)]))


def test_flat_search_is_brute_force():
    vectors, queries = unit(500), unit(20, 1)
    scores, ids = built(vectors).search(queries, k=10)
    truth = queries @ vectors.T
    order = np.argsort(-truth, axis=1)[:, :10]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(scores, np.take_along_axis(truth, order, axis=1), atol=1e-5)


def test_one_query_gives_one_row_and_ids_are_kept():
    vectors = unit(50)
    scores, ids = built(vectors, ids=np.arange(50) * 1000 + 7).search(vectors[3], k=4)
    assert scores.shape == ids.shape == (4,)
    assert ids[0] == 3007
    assert scores[0] == pytest.approx(1)


@pytest.mark.parametrize(("threads", "count", "used"), [(2, 1, 1), (2, 2, 2), (4, 3, 1), (16, 1, 16)])
def test_few_queries_use_one_of_few_threads(threads, count, used, monkeypatch):
    vectors = unit(500)
    index, before, seen = built(vectors), faiss.omp_get_max_threads(), []

    def watched(*arguments):
        seen.append(faiss.omp_get_max_threads())
        raise RuntimeError("the search fails")

    monkeypatch.setattr(searching, "_exact", watched)
    try:
        faiss.omp_set_num_threads(threads)
        with pytest.raises(RuntimeError, match="the search fails"):
            index.search(vectors[:count], 5)
        assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)
    assert seen == [used]


@pytest.mark.parametrize("kind", SETTINGS)
def test_round_trips_through_a_file(kind, tmp_path):
    vectors, queries = unit(2000), unit(5, 1)
    index = built(vectors, kind)
    index.save(tmp_path / "c.faiss")
    loaded = FAISSIndex.load(tmp_path / "c.faiss", kind)
    assert len(loaded) == 2000
    for ours, theirs in zip(index.search(queries), loaded.search(queries), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("kind", "more", "less"), [("hnsw", {"ef_search": 200}, {"ef_search": 10}), ("ivf", {"nprobe": 40}, {"nprobe": 1})]
)
def test_approximate_indexes_find_more_when_they_look_longer(kind, more, less):
    vectors, queries = unit(3000), unit(50, 1)
    assert recall(built(vectors), vectors, queries) == 1
    better, worse = (recall(built(vectors, kind, **settings), vectors, queries) for settings in (more, less))
    assert better > 0.9
    assert worse < better


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "ivfpq"])
def test_an_approximate_index_is_scored_as_it_is_built(kind, capfd):
    vectors = unit(3000)
    index = built(vectors, kind)
    assert capfd.readouterr() == ("", "")  # FAISS warns of few vectors otherwise
    assert index.recall == pytest.approx(recall(index, vectors, vectors[:500]), abs=0.08)
    assert built(vectors).recall is None


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("share", [0.01, 0.2, 0.9])
def test_a_restricted_search_finds_the_best_of_what_is_allowed(kind, share):
    vectors, queries = unit(3000), unit(8, 1)
    allowed = np.random.default_rng(2).random(3000) < share
    ids = np.arange(3000) * 3
    index = built(vectors, kind, ids, **({"nprobe": 64} if "ivf" in kind else {}))
    scores, found = index.search(queries, k=7, allowed=allowed)
    assert allowed[found // 3].all()
    assert (np.diff(scores, axis=1) <= 0).all()
    truth = np.argsort(-np.where(allowed, queries @ vectors.T, -2), axis=1)[:, :7]
    agreement = np.mean([len(np.intersect1d(a, b // 3)) / 7 for a, b in zip(truth, found, strict=True)])
    assert agreement == 1 if kind != "ivfpq" else agreement > 0.4


@pytest.mark.parametrize(("kind", "settings"), [("hnsw", {}), ("ivf", {"nprobe": 1})])
def test_as_many_are_found_as_there_are_where_the_lists_near_the_query_hold_too_few(kind, settings):
    """Two families far apart: a filter allows the one that the queries are not of."""
    family = np.arange(2000) % 2
    vectors = unit(2000) + 6 * unit(2, 1)[family]
    index = built(vectors, kind, **settings)
    scores, found = index.search(vectors[family == 0][:20], 10, family == 1)
    assert (family[found] == 1).all()
    assert (found >= 0).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (np.sort(index.search(vectors[:3], 2000)[1], axis=1) == np.arange(2000)).all()


def test_a_filter_that_allows_nearly_all_copies_no_vectors():
    vectors = unit(2000)
    index, allowed = built(vectors, "hnsw"), np.arange(2000) > 0
    tracemalloc.start()
    _, found = index.search(vectors[7], 5, allowed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[0] == 7
    assert peak < vectors.nbytes / 4


def test_a_restricted_search_gives_fewer_where_fewer_are_allowed():
    index, vectors = built(unit(30)), unit(30)
    for count in (0, 1, 3):
        scores, found = index.search(vectors[:2], k=5, allowed=np.arange(30) < count)
        assert scores.shape == found.shape == (2, count)


def test_equal_scores_at_the_last_place_go_to_the_lowest_ids():
    vectors = np.concatenate([unit(40, 3), np.repeat(unit(1), 60, axis=0)])
    ids = np.random.default_rng(0).permutation(100)
    _, found = built(vectors, ids=ids).search(unit(1)[0], k=7)
    assert found.tolist() == np.sort(ids[40:])[:7].tolist()


def test_the_exact_search_behind_a_filter_gives_ties_to_the_lowest_ids_too():
    vectors = np.concatenate([unit(40, 3), np.repeat(unit(1), 60, axis=0)])
    ids = np.random.default_rng(0).permutation(100)
    allowed = np.arange(100) >= 5
    _, found = built(vectors, "hnsw", ids).search(unit(1)[0], 7, allowed)
    assert found.tolist() == np.sort(ids[40:])[:7].tolist()


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@pytest.mark.parametrize("share", [1, 0.9, 0.2])
def test_of_many_equal_scores_the_lowest_ids_are_found_in_one_pass(kind, share, monkeypatch):
    """As where a third of a shop's pictures is one placeholder."""
    random = np.random.default_rng(0)
    vectors = unit(6000)
    vectors[random.permutation(6000)[:4500]] = vectors[0]
    ids, allowed = random.permutation(6000), random.random(6000) < share
    index = built(vectors, kind, ids, **({"m": 4, "ef_construction": 8} if kind == "hnsw" else {}))
    most: list[int] = []
    real = searching.nearest
    monkeypatch.setattr(
        searching, "nearest", lambda *given, **more: most.append(given[3] * len(given[2])) or real(*given, **more)
    )
    queries = np.concatenate([vectors[:1], unit(40, 1), vectors[:1]])
    mask = allowed if share < 1 or kind == "hnsw" else None
    scores, found = index.search(queries, 7, mask)
    same = np.sort(ids[(vectors == vectors[0]).all(axis=1) & allowed])[:7]
    assert found[0].tolist() == found[-1].tolist() == same.tolist()
    assert (scores[0] == scores[0, 0]).all()
    assert max(most) <= 42 * 8  # not thousands, and not for those without ties
    for at in (0, 20):
        alone = index.search(queries[at], 7, mask)
        np.testing.assert_array_equal(alone[1], found[at])
        np.testing.assert_allclose(alone[0], scores[at], atol=1e-6)


def test_a_mapped_index_answers_as_one_in_memory(tmp_path):
    vectors, queries = unit(2000), unit(5, 1)
    index = built(vectors, "flat")
    index.save(tmp_path / "c.faiss")
    mapped = FAISSIndex.load(tmp_path / "c.faiss", mmap=True)
    allowed = np.arange(2000) % 7 == 0
    for mask in (None, allowed):
        for ours, theirs in zip(index.search(queries, 5, mask), mapped.search(queries, 5, mask), strict=True):
            np.testing.assert_array_equal(ours, theirs)


QUICK: dict[str, dict[str, Any]] = {"hnsw": {}, "ivf": {"lists": "auto"}, "ivfpq": {"lists": "auto", "bits": 4}}
"""Approximate kinds, with settings by which they are trained sooner."""


def changed(index: FAISSIndex, vectors: np.ndarray, ids: np.ndarray, kept: np.ndarray) -> FAISSIndex:
    assert index.takes(int(kept.sum()), len(kept))
    return index.changed(vectors, ids, kept)


def check_same_as_anew(old: FAISSIndex, new: FAISSIndex, vectors, ids, kept, folder) -> None:
    """`new` finds what an index built anew finds, also when loaded again; `old` is as it was."""
    queries, allowed = unit(20, 1), np.arange(len(ids)) % 3 == 0
    anew = built(vectors, new.kind, ids, **QUICK[new.kind])
    assert len(new) == len(anew) == len(ids)
    assert new.recall == pytest.approx(anew.recall, abs=0.05)
    if new.kind != "ivfpq" and not kept.all():  # ivfpq finds itself by a compressed copy only
        assert new.search(vectors[~kept], 1)[1].ravel().tolist() == ids[~kept].tolist()
    assert set(new.search(queries, 300)[1].ravel()) <= set(ids)
    assert set(new.search(queries, 300, allowed)[1].ravel()) <= set(ids[allowed])
    if new.kind == "hnsw":  # which searches exactly where a filter leaves some out
        np.testing.assert_array_equal(new.search(queries, 10, allowed)[1], anew.search(queries, 10, allowed)[1])
    assert sorted(new.search(queries[0], len(ids) + 1)[1]) == sorted(ids)
    new.save(folder / "d.faiss")
    loaded = FAISSIndex.load(folder / "d.faiss", new.kind)
    for mask in (None, allowed):
        for ours, theirs in zip(new.search(queries, 10, mask), loaded.search(queries, 10, mask), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert len(loaded) == len(ids)
    assert len(old) == 2900


@pytest.mark.parametrize(
    ("kind", "change"),
    [("hnsw", "add"), ("hnsw", "remove"), ("hnsw", "replace"), *((kind, "all three") for kind in QUICK)],
)
def test_a_changed_index_finds_what_one_built_anew_finds(kind, change, tmp_path):
    vectors, ids = unit(3000), 2 * np.arange(3000) + 5
    built(vectors[:2900], kind, ids[:2900], **QUICK[kind]).save(tmp_path / "c.faiss")
    old = FAISSIndex.load(tmp_path / "c.faiss", kind, **QUICK[kind])
    before = old.search(unit(20, 1))
    stays, kept = np.arange(3000) < 2900, np.arange(3000) < 2900
    if change in ("add", "all three"):
        stays[2900:] = True
    if change in ("remove", "all three"):
        stays[:290] = np.arange(290) % 2
    if change in ("replace", "all three"):
        vectors[1000:1100], kept[1000:1100] = unit(100, 2), False
    new = changed(old, vectors[stays], ids[stays], kept[stays])
    check_same_as_anew(old, new, vectors[stays], ids[stays], kept[stays], tmp_path)
    for ours, theirs in zip(old.search(unit(20, 1)), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_index_is_changed_again_after_it_was_changed(tmp_path):
    vectors, ids, everything = unit(800), np.arange(800), np.ones(800, bool)
    index = built(vectors, "hnsw", ids, m=8)
    for gone in (3, 700, 12):
        stays = everything & (ids != gone)
        index = changed(index, vectors[stays], ids[stays], everything[stays])
        assert gone not in index.search(vectors[gone], 50)[1]
        index.save(tmp_path / "c.faiss")
        index = FAISSIndex.load(tmp_path / "c.faiss", "hnsw", m=8)
        index = changed(index, vectors, ids, stays)  # and there it is again
        assert index.search(vectors[gone], 1)[1] == gone
    assert len(index) == 800


def test_a_graph_that_grows_item_by_item_stays_a_good_one(tmp_path):
    vectors = unit(600)
    index = built(vectors[:500], "hnsw", m=8)
    for count in range(520, 601, 20):
        index.save(tmp_path / "c.faiss")
        index = FAISSIndex.load(tmp_path / "c.faiss", "hnsw", m=8)
        index = changed(index, vectors[:count], np.arange(count), np.arange(count) < count - 20)
    assert index.recall == pytest.approx(built(vectors, "hnsw", m=8).recall, abs=0.02)


def test_an_index_is_built_anew_where_changing_it_would_harm(tmp_path):
    vectors = unit(3000)
    ivf, hnsw, fixed = built(vectors, "ivf"), built(vectors, "hnsw"), built(vectors, "ivf", lists=20)
    assert [ivf.takes(3000, count) for count in (3001, 3100, 4000)] == [True, True, False]
    assert not fixed.takes(3000, 3001)  # who knows how many it was trained on
    assert fixed.takes(2999, 2999)
    assert [hnsw.takes(kept, kept) for kept in (2999, 2400, 2399)] == [True, True, False]
    assert [hnsw.takes(kept, 3000) for kept in (2999, 2300, 2200)] == [True, True, False]
    assert not built(vectors).takes(3000, 3001)
    ivf.save(tmp_path / "c.faiss")
    assert not FAISSIndex.load(tmp_path / "c.faiss", "ivf", mmap=True).takes(3000, 3001)


def test_search_settings_can_change_when_loading(tmp_path):
    vectors, queries = unit(3000), unit(50, 1)
    built(vectors, "ivf", nprobe=1).save(tmp_path / "c.faiss")
    loaded = FAISSIndex.load(tmp_path / "c.faiss", "ivf", nprobe=1000)
    assert recall(loaded, vectors, queries) == 1


def test_k_larger_than_the_index_gives_all_there_are():
    scores, ids = built(unit(3)).search(unit(2, 1), k=10)
    assert scores.shape == (2, 3)
    assert sorted(ids[0]) == [0, 1, 2]


def test_equal_scores_come_in_order_of_id():
    vectors = np.repeat(unit(1), 5, axis=0)
    _, ids = built(vectors, ids=np.array([9, 3, 7, 1, 5])).search(vectors[0], k=5)
    assert ids.tolist() == [1, 3, 5, 7, 9]


def test_vectors_of_other_lengths_are_normalised():
    vectors = unit(20)
    scores, ids = built(vectors * 7).search(vectors[4] * 3, k=1)
    assert ids[0] == 4
    assert scores[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("embeddings", "words"),
    [
        (np.zeros((0, 64)), "shape"),
        (np.ones((3, 32)), "32 dimensions, and the index 64"),
        (np.full((3, 64), np.nan), "not finite"),
        (np.zeros((3, 64)), "zero"),
        (np.ones(64), "shape"),
    ],
)
def test_unusable_embeddings_are_refused(embeddings, words):
    with pytest.raises(FashionError, match=words):
        FAISSIndex(64).build(embeddings)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FAISSIndex(64, "falt"), "index.kind is 'falt'"),
        (lambda: FAISSIndex(64, "hnsw", nprobe=3), "no setting 'nprobe'"),
        (lambda: FAISSIndex(64, "ivf", nprobe=0), "index.nprobe is 0"),
        (lambda: built(unit(5)).search(unit(1), k=0), "k is 0"),
        (lambda: FAISSIndex(64).search(unit(1)), "is empty"),
        (lambda: FAISSIndex(64).save("never.faiss"), "is empty"),
        (lambda: built(unit(5), ids=np.array([1, 1, 2, 3, 4])), "4 different ids"),
        (lambda: built(unit(5), "ivf"), "use index=flat"),
        (lambda: built(unit(100), "ivfpq"), "use index=flat"),
        (lambda: FAISSIndex.load("nowhere.faiss"), "no such index"),
    ],
)
def test_mistakes_get_one_sentence(make, words):
    with pytest.raises(FashionError, match=words):
        make()


def test_a_damaged_file_is_refused(tmp_path):
    built(unit(50)).save(tmp_path / "c.faiss")
    (tmp_path / "c.faiss").write_bytes((tmp_path / "c.faiss").read_bytes()[:100])
    with pytest.raises(FashionError, match="damaged"):
        FAISSIndex.load(tmp_path / "c.faiss")


SEARCHES = """
import warnings
import faiss.contrib.torch_utils
import numpy as np
from fashion import FAISSIndex
vectors = np.random.default_rng(0).normal(size=(400, 64))
for kind in ("flat", "hnsw", "ivf"):
    index = FAISSIndex(64, kind)
    index.build(vectors)
    for allowed in (None, np.arange(400) > 10):
        assert index.search(vectors[20], 3, allowed)[1][0] == 20
warnings.simplefilter("error")
vectors = np.random.default_rng(0).normal(size=(20_000, 16)).astype(np.float32)
index = FAISSIndex(16)
index.build(vectors)
index.quicken()
assert index.search(vectors[20], 3)[1][0] == 20
"""


def test_others_may_load_what_replaces_faisss_search():
    subprocess.run([sys.executable, "-c", SEARCHES], check=True)


def test_an_index_that_lost_items_looks_as_far_as_before():
    vectors, stays = unit(3000), np.arange(3000) != 1500
    old = built(vectors, "hnsw", m=4, ef_search=400)
    new = old.changed(vectors[stays], np.flatnonzero(stays), stays[stays])
    assert new.recall == pytest.approx(old.recall, abs=0.02)


def test_a_search_without_ties_asks_once_for_one_more(monkeypatch):
    index, asked = built(unit(500)), []
    nearest = searching.nearest

    def noting(inner, kind, vectors, k, *others):
        asked.append(k)
        return nearest(inner, kind, vectors, k, *others)

    monkeypatch.setattr(searching, "nearest", noting)
    index.search(unit(3, 1), 10)
    assert asked == [11]


def test_items_that_are_added_one_by_one_stand_on_several_levels_of_a_graph(tmp_path):
    vectors, path = unit(140), tmp_path / "c.faiss"
    built(vectors[:100], "hnsw", m=4).save(path)
    for count in range(101, 141):
        index = FAISSIndex.load(path, "hnsw", m=4)
        changed(index, vectors[:count], np.arange(count), np.arange(count) < count - 1).save(path)
    whole: Any = faiss.read_index(str(path))
    levels = faiss.vector_to_array(faiss.downcast_index(whole.index).hnsw.levels)  # type: ignore[attr-defined]
    assert 2 <= (levels[100:] > 1).sum() <= 20  # a quarter stand above the lowest
