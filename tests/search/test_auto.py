"""Which index `index=auto` takes, and that it reaches the recall it was asked for."""

from unittest.mock import Mock

import numpy as np
import pytest
from helpers import unit

from fashion import FAISSIndex
from fashion.errors import FashionError
from fashion.search import auto
from fashion.search.auto import build_auto, built, in_full, reach


def clustered(count: int) -> np.ndarray:
    """As embeddings are: around a few centres."""
    vectors = unit(20, 3)[np.arange(count) % 20] + 0.5 * unit(count, 4)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_small_catalogue_is_searched_exactly():
    assert build_auto(unit(500), np.arange(500)).kind == "flat"


def test_a_large_one_gets_a_graph_that_reaches_the_recall(monkeypatch):
    monkeypatch.setattr(auto, "EXACT_UP_TO", 1000)
    vectors = clustered(5000)
    index = build_auto(vectors, np.arange(5000), recall=0.9)
    assert index.kind == "hnsw"
    assert index.recall >= 0.9
    assert build_auto(vectors, np.arange(5000), recall=1).kind == "flat"


def test_an_index_looks_harder_until_it_finds_enough():
    vectors = unit(5000)  # without structure: the hardest case
    index = FAISSIndex(64, "hnsw", m=6, ef_construction=16, ef_search=10)
    index.build(vectors, np.arange(5000))
    assert index.recall < 0.9
    assert reach(index, vectors, 0.9)
    assert index.recall >= 0.9
    assert index.settings["ef_search"] > 10


def test_an_index_that_finds_enough_looks_no_harder_for_a_change_that_seemed_to_miss():
    vectors = clustered(2000)
    index = FAISSIndex(64, "hnsw")
    index.build(vectors, np.arange(2000))
    before = dict(index.settings)
    index.recall = 0.89  # of the few vectors that a change is scored by
    assert reach(index, vectors, 0.9)
    assert index.settings == before
    assert index.recall > 0.9


def test_what_does_not_fit_is_compressed_or_refused(caplog):
    vectors = clustered(12_000)  # 3.2 MB flat
    index = build_auto(vectors, np.arange(12_000), recall=0.3, memory_mb=1)
    assert index.kind == "ivfpq"
    assert not caplog.text
    with pytest.raises(FashionError, match=r"into 0\.01 MB: flat takes 0\.2 MB\. Raise index\.memory_mb\.$"):
        build_auto(unit(500), np.arange(500), memory_mb=0.01)
    assert build_auto(unit(500), np.arange(500), memory_mb=0.2).kind == "flat"
    with pytest.raises(FashionError, match=r"flat takes 3\.2 MB\. Raise index\.memory_mb, or lower index\.recall"):
        build_auto(vectors, np.arange(12_000), recall=1, memory_mb=1)
    with pytest.raises(FashionError, match=r"flat takes 3\.2 MB, ivfpq takes 0\.4 MB\. Raise index\.memory_mb\.$"):
        build_auto(vectors, np.arange(12_000), memory_mb=0.1)


@pytest.mark.slow
def test_a_recall_that_compressed_vectors_cannot_reach_is_said_and_not_searched_for(caplog):
    vectors = clustered(12_000)
    index = build_auto(vectors, np.arange(12_000), memory_mb=1)
    assert index.recall < 0.9
    said = f"within index.memory_mb=1 reaches index.recall=0.95: that of ivfpq is {index.recall:.3f}"
    assert said in caplog.text
    assert index.settings["nprobe"] < 200
    assert index.recall == index.measure_recall(vectors)  # of the effort that stayed


@pytest.mark.parametrize(
    "settings", [{"recall": 0}, {"recall": 2}, {"recall": "all"}, {"memory_mb": -1}, {"memory_mb": "2 GB"}, {"ef": 3}]
)
def test_bad_settings_are_named_before_anything_is_embedded(settings):
    words = f"index.{next(iter(settings))} is|index=auto has no setting 'ef'; it has recall, memory_mb"
    with pytest.raises(FashionError, match=words):
        built(unit(100), np.arange(100), 64, "auto", **settings)
    with pytest.raises(FashionError, match=words):
        in_full({"kind": "auto", **settings})  # what a sync asks first


def test_a_bug_while_an_index_is_built_is_not_taken_for_a_setting(monkeypatch):
    monkeypatch.setattr(auto, "_of_kind", Mock(side_effect=TypeError("a bug")))
    with pytest.raises(TypeError, match="a bug"):
        built(unit(100), np.arange(100), 64, "auto")
