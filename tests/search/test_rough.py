import faiss
import numpy as np
import pytest
from helpers import unit

from fashion import FAISSIndex
from fashion.search import numbered, rough
from fashion.search.rough import Rough

COUNT = 20_000


def clustered(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(30, 16))[random.integers(30, size=count)] + 0.1 * random.normal(size=(count, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def one_thread():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def pair(vectors: np.ndarray, ids: np.ndarray | None = None, kind: str = "flat") -> tuple[FAISSIndex, FAISSIndex]:
    """The same index, as it is and quickened."""
    plain, quick = FAISSIndex(vectors.shape[1], kind), FAISSIndex(vectors.shape[1], kind)
    for index in (plain, quick):
        index.build(vectors, ids)
    quick.quicken()
    return plain, quick


def watched(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each first step told enough."""
    told: list[bool] = []
    nearest = Rough.nearest

    def noting(self, *arguments):
        found = nearest(self, *arguments)
        told.append(found is not None)
        return found

    monkeypatch.setattr(Rough, "nearest", noting)
    return told


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("share", [None, 0.5, 0.2, 0.02])
@pytest.mark.parametrize("k", [1, 10, 90])
def test_what_is_found_is_the_same_to_the_bit(k, share, monkeypatch):
    monkeypatch.setattr(numbered, "MANY", 1)
    vectors, queries = clustered(COUNT), clustered(20, 1)
    ids = np.random.default_rng(2).permutation(COUNT) * 3
    allowed = None if share is None else np.random.default_rng(3).random(COUNT) < share
    plain, quick = pair(vectors, ids)
    told = watched(monkeypatch)
    for query in queries:
        for ours, theirs in zip(quick.search(query, k, allowed), plain.search(query, k, allowed), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert (sum(told) >= 18) if share != 0.02 else not told  # so few are copied


@pytest.mark.usefixtures("one_thread")
def test_where_too_many_are_about_as_near_all_are_looked_at(monkeypatch):
    """Near copies of one vector, which differ from it by less than 8 bits tell."""
    monkeypatch.setattr(numbered, "MANY", 1)
    vectors = clustered(COUNT)
    vectors[1000:15000] = vectors[999] + 1e-4 * unit(14000, 1, 16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    plain, quick = pair(vectors)
    told = watched(monkeypatch)
    for ours, theirs in zip(quick.search(vectors[999]), plain.search(vectors[999]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert told
    assert not any(told)


@pytest.mark.usefixtures("one_thread")
def test_ties_at_the_last_place_go_to_the_lowest_ids(monkeypatch):
    monkeypatch.setattr(numbered, "MANY", 1)
    vectors = unit(COUNT)
    copies = np.random.default_rng(5).choice(COUNT, 40, replace=False)
    vectors[copies] = vectors[copies[0]]
    plain, quick = pair(vectors)
    told = watched(monkeypatch)
    _, found = quick.search(vectors[copies[0]], 7)
    assert found.tolist() == np.sort(copies)[:7].tolist() == plain.search(vectors[copies[0]], 7)[1].tolist()
    assert any(told)


def test_no_score_is_off_by_more_than_the_error():
    vectors, queries = clustered(COUNT), clustered(50, 1)
    vectors[: COUNT - 100] = vectors[0]  # which 8 bits hold exactly or nearly
    made = Rough(vectors)
    decoded = made.codes.sq.decode(made.codes.sq.compute_codes(vectors))
    off = np.abs(queries.astype(np.float64) @ (decoded - vectors).T)
    assert off[:, :-100].max() < off.max() <= made.error < 0.05


def test_the_farthest_of_very_many_lose_little():
    vectors = 0.05 * unit(120_000, 0, 16)
    vectors[:, 0] += 1
    vectors[7000 * np.arange(1, 16)] = np.eye(16)[1:]  # each alone at the end of its column
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert Rough(vectors).error < 0.03


@pytest.mark.parametrize("make", [clustered, lambda count, seed: unit(count, seed, 16)])
def test_no_vector_of_a_group_scores_higher_than_the_group_can(make):
    vectors, queries = make(COUNT, 0), make(50, 1)
    made = Rough(vectors)
    lists = made.codes.invlists
    rows = [faiss.rev_swig_ptr(lists.get_ids(at), lists.list_size(at)).copy() for at in range(lists.nlist)]
    assert sorted(np.concatenate(rows)) == list(range(COUNT))
    scores = queries @ vectors.T
    for query, ours in zip(queries, scores, strict=True):
        highest = made.highest(made.centres @ query)
        for group, its in zip(highest, rows, strict=True):
            assert not len(its) or ours[its].max() <= group


def test_most_vectors_are_not_read():
    vectors, queries = clustered(COUNT), clustered(20, 1)
    made = Rough(vectors)
    sizes = np.array([made.codes.invlists.list_size(at) for at in range(made.codes.nlist)])
    for query in queries:
        tenth = np.sort(vectors @ query)[-10]
        assert sizes[made.highest(made.centres @ query) >= tenth].sum() < COUNT / 4


@pytest.mark.usefixtures("one_thread")
def test_a_filter_on_another_kind_is_searched_as_usual(monkeypatch):
    monkeypatch.setattr(numbered, "MANY", 1)
    vectors = clustered(COUNT)
    plain, quick = pair(vectors)
    told = watched(monkeypatch)
    allowed = vectors @ vectors[0] < 0.2
    assert 0.2 < allowed.mean() < 0.95
    for _ in range(2 * rough.PATIENCE):
        for ours, theirs in zip(
            quick.search(vectors[0], 10, allowed), plain.search(vectors[0], 10, allowed), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    assert len(told) == 2 * rough.PATIENCE  # it says nothing of other searches, which go on being faster
    assert not any(told)


@pytest.mark.usefixtures("one_thread")
def test_where_all_are_near_copies_it_is_left_out(monkeypatch):
    monkeypatch.setattr(numbered, "MANY", 1)
    vectors = np.repeat(clustered(4), 5000, axis=0)
    _, quick = pair(vectors)
    told = watched(monkeypatch)
    for _ in range(2 * rough.PATIENCE):
        assert quick.search(vectors[5000], 5)[1].tolist() == [5000, 5001, 5002, 5003, 5004]
    assert len(told) < rough.PATIENCE + 2
    assert not any(told)


def test_vectors_of_other_lengths_are_found_as_well():
    """FAISS's own files may hold such."""
    vectors = unit(COUNT, 0, 16) * np.random.default_rng(1).lognormal(0, 0.3, (COUNT, 1)).astype(np.float32)
    flat = faiss.IndexFlatIP(16)
    flat.add(vectors)
    queries = unit(20, 2, 16)
    for found, expected in zip(Rough(vectors).nearest(queries, 10), flat.search(queries, 10), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_without_groups_the_same_is_found():
    vectors, queries = unit(COUNT, 0, 16), unit(20, 1, 16)
    flat = faiss.IndexFlatIP(16)
    flat.add(vectors)
    for found, expected in zip(Rough(vectors).nearest(queries, 10), flat.search(queries, 10), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_many_threads_search_without_it():
    vectors, before = clustered(COUNT), faiss.omp_get_max_threads()
    index = FAISSIndex(16)
    index.build(vectors)
    try:
        faiss.omp_set_num_threads(8)
        for row in range(2 * numbered.SOON):
            index.search(vectors[row])
    finally:
        faiss.omp_set_num_threads(before)
    assert index._held.rough is None


def test_as_many_as_may_be_found_are_found():
    vectors = clustered(COUNT)
    near = np.argsort(-(vectors @ vectors[0]))[:5]
    scores, rows = Rough(vectors).nearest(vectors[:1], 5, faiss.IDSelectorBatch(near))
    assert rows[0].tolist() == near.tolist()
    assert scores[0, 0] == pytest.approx(1)


@pytest.mark.usefixtures("one_thread")
def test_only_a_large_exact_index_that_is_searched_often_gets_one(monkeypatch, tmp_path):
    monkeypatch.setattr(numbered, "MANY", 1000)
    vectors = clustered(1000)

    def has_one(index: FAISSIndex) -> bool:
        return index._held.rough is not None

    index = FAISSIndex(16)
    index.build(vectors)
    for _ in range(20):
        index.search(vectors[:2])
    for row in range(numbered.SOON - 1):
        index.search(vectors[row])
    assert not has_one(index)
    index.search(vectors[0])
    assert has_one(index)
    index.build(vectors[:999])
    index.quicken()
    assert not has_one(index)  # the old one is gone, and this is too small
    _, graph = pair(vectors, kind="hnsw")
    assert not has_one(graph)
    index.build(vectors)
    index.save(tmp_path / "c.faiss")
    mapped = FAISSIndex.load(tmp_path / "c.faiss", mmap=True)
    mapped.quicken()
    assert not has_one(mapped)


@pytest.mark.usefixtures("one_thread")
def test_nothing_is_lost_where_8_bits_tell_the_nearest_apart_badly(monkeypatch):
    """On a circle hundreds of vectors share their 8 bits, which put them before or after others by their rounding."""
    monkeypatch.setattr(numbered, "MANY", 1)
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, (COUNT, 1))
    plain, quick = pair(np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))
    told = watched(monkeypatch)
    for angle in np.linspace(0, 2 * np.pi, 40):
        query = np.array([np.cos(angle), np.sin(angle)], np.float32)
        assert quick.search(query, 10)[1].tolist() == plain.search(query, 10)[1].tolist()
    assert sum(told) > 20
