"""`FAISSIndex` by itself, as who has no catalogue uses it: its files, what it refuses, and threads."""

import subprocess
import sys
import threading
from pathlib import Path

import faiss
import numpy as np
import pytest
from helpers import unit

from fashion import FAISSIndex
from fashion.errors import FashionError

QUICK = {
    "flat": {},
    "hnsw": {"m": 8, "ef_construction": 40, "ef_search": 30},
    "ivf": {"lists": 20, "nprobe": 4},
    "ivfpq": {"lists": 20, "nprobe": 4, "subquantizers": 8, "bits": 4},
}
"""Every kind, with settings that are not the defaults and train soon."""


def built(vectors, kind: str = "flat", ids=None, **settings) -> FAISSIndex:
    index = FAISSIndex(64, kind, **settings)
    index.build(vectors, ids)
    return index


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """kind.faiss, an index of each kind over 800 vectors."""
    folder = tmp_path_factory.mktemp("indexes")
    for kind, settings in QUICK.items():
        built(unit(800), kind, **settings).save(folder / f"{kind}.faiss")
    return folder


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("kind", QUICK)
def test_a_file_says_which_kind_of_index_it_holds_and_its_settings(kind, mmap, files):
    index, allowed = built(unit(800), kind, **QUICK[kind]), np.arange(800) % 3 == 0
    loaded = FAISSIndex.load(files / f"{kind}.faiss", mmap=mmap)
    assert (loaded.kind, loaded.settings, loaded.dimension) == (kind, QUICK[kind], 64)
    assert loaded.recall is None
    for mask in (None, allowed):
        for ours, theirs in zip(index.search(unit(9, 1), 5, mask), loaded.search(unit(9, 1), 5, mask), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("other", QUICK)
def test_an_index_is_not_loaded_as_one_of_another_kind(kind, other, files):
    if kind == other:
        assert FAISSIndex.load(files / f"{kind}.faiss", kind).kind == kind
        return
    with pytest.raises(FashionError, match=f"{kind}.faiss holds an index of kind {kind}, not {other}; load it as"):
        FAISSIndex.load(files / f"{kind}.faiss", other)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("hnsw", {"m": 32}, "was built with m=8, not 32; leave m out"),
        ("ivf", {"lists": 30}, "was built with lists=20, not 30"),
        ("ivfpq", {"bits": 8}, "was built with bits=4, not 8"),
        ("ivf", {"m": 8}, "no setting 'm'"),
        ("hnsw", {"ef_search": 0}, "index.ef_search is 0"),
    ],
)
def test_settings_that_contradict_the_file_are_refused(kind, settings, words, files):
    with pytest.raises(FashionError, match=words):
        FAISSIndex.load(files / f"{kind}.faiss", **settings)


def test_settings_of_a_search_and_automatic_lists_may_be_named_when_loading(files):
    assert FAISSIndex.load(files / "ivf.faiss", lists="auto", nprobe=9).settings == {"lists": "auto", "nprobe": 9}
    assert FAISSIndex.load(files / "hnsw.faiss", ef_search=99).settings == QUICK["hnsw"] | {"ef_search": 99}


@pytest.mark.parametrize(
    ("what", "metric"),
    [
        ("Flat", faiss.METRIC_INNER_PRODUCT),  # without ids
        ("IVF4,Flat", faiss.METRIC_INNER_PRODUCT),
        ("LSH", faiss.METRIC_L2),
        ("IDMap,LSH", faiss.METRIC_L2),
        ("IDMap,Flat", faiss.METRIC_L2),
        ("IDMap,HNSW8,Flat", faiss.METRIC_L2),
        ("IDMap,HNSW8,SQ8", faiss.METRIC_INNER_PRODUCT),
    ],
)
def test_a_faiss_index_of_others_is_refused(what, metric, tmp_path):
    foreign = faiss.index_factory(64, what, metric)
    foreign.train(unit(200))
    if "IDMap" in what:
        foreign.add_with_ids(unit(200), np.arange(200))
    else:
        foreign.add(unit(200))
    faiss.write_index(foreign, str(tmp_path / "theirs.faiss"))
    with pytest.raises(FashionError, match="theirs.faiss is another FAISS index than"):
        FAISSIndex.load(tmp_path / "theirs.faiss")


DAMAGED = """
import resource, sys
from fashion import FAISSIndex
from fashion.errors import FashionError
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
try:
    FAISSIndex.load(sys.argv[1])
except FashionError as error:
    print(error)
"""


def test_a_file_that_asks_for_more_memory_than_there_is_is_a_sentence(tmp_path):
    built(unit(50)).save(tmp_path / "c.faiss")
    content = bytearray((tmp_path / "c.faiss").read_bytes())
    content[-408:-400] = (1 << 33).to_bytes(8, "little")  # the number of ids, before 50 ids of 8 bytes
    (tmp_path / "c.faiss").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED, str(tmp_path / "c.faiss")], check=True, capture_output=True, text=True
    )
    assert "c.faiss is damaged or" in done.stdout


def test_paths_below_the_home_folder_are_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    built(unit(5)).save("~/c.faiss")
    assert [path.name for path in tmp_path.iterdir()] == ["c.faiss"]
    assert len(FAISSIndex.load("~/c.faiss")) == 5


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (np.array([1, 2, 3]), r"allowed has shape \(3,\) and type int64; it should be \(30,\) and bool"),
        (np.ones(10, bool), r"allowed has shape \(10,\)"),
        (np.ones(31, bool), r"allowed has shape \(31,\)"),
        (np.ones((30, 1), bool), r"allowed has shape \(30, 1\)"),
        (np.ones(30), "type float64"),
        (True, r"allowed has shape \(\)"),
    ],
)
def test_what_is_allowed_is_a_truth_value_for_each_item(allowed, words):
    with pytest.raises(FashionError, match=words):
        built(unit(30)).search(unit(1), 3, allowed)


def test_what_is_allowed_may_be_a_list():
    assert built(unit(4)).search(unit(4)[2], 3, [False, True, True, False])[1].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (np.arange(5) + 0.5, "type float64; they should be whole numbers"),
        ([f"a{number}" for number in range(5)], "type <U2; they should be whole numbers"),
        (np.arange("2020", "2025", dtype="datetime64[Y]"), "whole numbers"),
        (np.arange(5)[:, None], r"shape \(5, 1\)"),
        (7, r"shape \(\)"),
        (np.arange(5, dtype=np.uint64) + 2**63, "from 9223372036854775808 to"),
        ([-(2**63), 1, 2, 3, 4], "from -9223372036854775808 to 4"),  # stands for a row that no search finds
        ([1, 2, 3], "5 embeddings and 3 different ids"),
    ],
)
def test_ids_are_whole_numbers_that_fit(ids, words):
    with pytest.raises(FashionError, match=words):
        built(unit(5), ids=ids)


def test_ids_may_be_negative_or_of_another_type():
    for ids in ([-7, 0, 3], np.array([250, 1, 2], np.uint8), [2**63 - 1, 1, 2]):
        assert built(unit(3), ids=ids).search(unit(3)[0], 1)[1].tolist() == [ids[0]]


def test_an_index_is_as_it_was_once_ids_are_refused():
    index = built(unit(5))
    with pytest.raises(FashionError, match="whole numbers"):
        index.build(unit(9, 1), ["a"] * 9)
    assert len(index) == 5
    assert index.search(unit(5)[3], 1)[1].tolist() == [3]


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("hnsw", {"efsearch": 3}, "index=hnsw has no setting 'efsearch'; it has ef_search"),
        ("hnsw", {"m": 3}, "no setting 'm'"),  # of the graph, which is built
        ("hnsw", {"ef_search": 0}, "index.ef_search is 0"),
        ("hnsw", {"ef_search": 2**31}, "index.ef_search is 2147483648; it should be 2147483647 at most"),
        ("ivf", {"nprobe": 2.5}, "index.nprobe is 2.5"),
        ("flat", {"ef_search": 3}, "index=flat has no setting 'ef_search'; it has none"),
    ],
)
def test_search_params_are_checked_as_when_building(kind, settings, words, files):
    index = FAISSIndex.load(files / f"{kind}.faiss")
    with pytest.raises(FashionError, match=words):
        index.set_search_params(**settings)
    assert index.settings == QUICK[kind]


@pytest.mark.parametrize(
    "use",
    [
        lambda index: index.set_search_params(ef_search=3),
        lambda index: index.measure_recall(unit(3)),
        lambda index: index.changed(unit(3), np.arange(3), np.zeros(3, bool)),
    ],
)
def test_an_empty_index_says_so(use):
    index = FAISSIndex(64, "hnsw")
    with pytest.raises(FashionError, match="The index is empty; build it"):
        use(index)
    assert not index.takes(0, 3)


@pytest.mark.parametrize("dimension", [0, -3, 64.0, "64", None, True])
def test_a_dimension_is_a_whole_number(dimension):
    with pytest.raises(FashionError, match=r"dimension is .*; it should be a whole number above 0"):
        FAISSIndex(dimension)


@pytest.mark.parametrize("m", [1, True])
def test_a_graph_that_would_crash_faiss_is_refused(m):
    with pytest.raises(FashionError, match=f"index.m is {m}; it should be a whole number above 1"):
        FAISSIndex(64, "hnsw", m=m)


def test_numbers_may_be_numpys():
    index = FAISSIndex(np.int64(64), "hnsw", m=np.int32(4), ef_search=np.uint8(20))
    index.build(unit(50))
    assert index.search(unit(50)[3], np.int64(4))[1][0] == 3
    assert [type(value) for value in (index.dimension, *index.settings.values())] == [int] * 4


@pytest.mark.parametrize("k", [2.5, "3", None, True, -1])
def test_k_is_a_whole_number(k):
    index = built(unit(5))
    with pytest.raises(FashionError, match=f"k is {k!r}; it should be a whole number above 0"):
        index.search(unit(1), k)
    with pytest.raises(FashionError, match=f"k is {k!r}; it should be a whole number above 0"):
        index.measure_recall(unit(5), k)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (3.0, r"shape \(\); it should be \(N, 64\)"),
        (np.zeros((0, 64)), r"shape \(0, 64\); it should be \(N, 64\), N above 0"),
        (np.ones((1, 1, 64)), r"shape \(1, 1, 64\)"),
        (np.ones(32), "32 dimensions, and the index 64"),
        ("a picture.jpg", "no array of numbers .*'a picture.jpg'"),
        ([[1, 2], [3]], "no array of numbers"),
        (np.full(64, np.inf), "not finite"),
        (np.full(64, 1e-22), "zero"),  # whose length float32 tells wrongly
    ],
)
def test_unusable_queries_and_embeddings_are_refused(query, words):
    with pytest.raises(FashionError, match=words):
        built(unit(5)).search(query)
    with pytest.raises(FashionError, match=words):
        FAISSIndex(64).build([query] if getattr(query, "ndim", 0) == 1 else query)


def test_vectors_may_lie_in_any_order_and_be_of_any_type():
    vectors = unit(40)
    for others in (
        vectors.astype(np.float64),
        vectors.tolist(),
        np.asfortranarray(vectors),
        np.repeat(vectors, 2, 1)[:, ::2],
    ):
        scores, ids = built(others).search(others, 3)
        np.testing.assert_array_equal(ids, built(vectors).search(vectors, 3)[1])
        np.testing.assert_allclose(scores[:, 0], 1, atol=1e-6)


def test_vectors_that_need_a_gradient_are_refused_as_torch_says():
    torch = pytest.importorskip("torch")
    with pytest.raises(FashionError, match="requires grad"):
        built(unit(5)).search(torch.from_numpy(unit(1)).requires_grad_())


def test_an_index_from_the_disk_can_be_built_anew_and_changed_then(files):
    index = FAISSIndex.load(files / "hnsw.faiss", mmap=True)
    assert not index.takes(800, 801)
    index.build(unit(300))
    assert index.takes(300, 301)


def test_recall_is_measured_with_the_vectors_that_are_indexed():
    index = built(unit(50), "hnsw")
    for vectors in (unit(50)[:20], unit(80)):
        with pytest.raises(FashionError, match=f"{len(vectors)} embeddings for an index of 50"):
            index.measure_recall(vectors)


def test_searches_go_on_while_the_index_is_built_anew():
    """Each is of the old vectors or of the new ones; FAISS would crash where those it searches are gone."""
    many, few, queries = unit(30_000), unit(3000), unit(40, 1)
    index, found, errors, done = built(many), [], [], threading.Event()

    def search() -> None:
        while not done.is_set():
            try:
                found.append(index.search(queries, 10)[1])
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(40):
        vectors = many if turn % 2 else few
        index.build(vectors, np.arange(len(vectors)) + len(vectors))
    done.set()
    for thread in threads:
        thread.join()
    assert found
    assert not errors
    assert all((ids < 30_000).all() or (ids >= 30_000).all() for ids in found)
