import subprocess
import sys
import tracemalloc
from unittest.mock import Mock

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from fashion.bootstrap import bootstrap_intervals
from fashion.data.arrays import PictureArray, rows_of
from fashion.data.sources import Item
from fashion.errors import FashionError
from fashion.metrics import check_names, classification, confusion_matrix, no_match_threshold, select
from fashion.protocols import searched
from fashion.retrieval import leave_one_out, retrieval


def unit(count: int, seed: int, dim: int = 8) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def labels(count: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(classes, size=count)


def by_hand(query, label, gallery, gallery_labels, itself=-1):
    """All metrics of one query with plain loops, from their definitions."""
    order = sorted((-float(query @ vector), at) for at, vector in enumerate(gallery) if at != itself)
    relevant = [bool(gallery_labels[at] == label) for _, at in order]
    total = sum(relevant)
    found = {}
    for k in (1, 5):
        found[f"top{k}"] = float(any(relevant[:k]))
    for k in (5, 10):
        found[f"precision@{k}"] = sum(relevant[:k]) / k
        found[f"recall@{k}"] = sum(relevant[:k]) / total if total else 0
    found["map"] = sum(sum(relevant[: i + 1]) / (i + 1) for i in range(total) if relevant[i]) / total if total else 0
    found["r_precision"] = sum(relevant[:total]) / total if total else 0
    found["mrr"] = 1 / (relevant.index(True) + 1) if total else 0
    return found, total


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize(("gallery_size", "classes"), [(60, 4), (60, 40), (400, 30), (7, 3)])
def test_retrieval_agrees_with_loops(gallery_size, classes, leave_one_out):
    gallery, gallery_labels = (
        np.round(unit(gallery_size, 1), 1),
        labels(gallery_size, classes, 2),
    )  # rounding makes ties
    queries, truth = (gallery, gallery_labels) if leave_one_out else (np.round(unit(33, 3), 1), labels(33, classes, 4))
    exclude = np.arange(len(queries)) if leave_one_out else None
    found = retrieval(queries, truth, gallery, gallery_labels, exclude=exclude, chunk=10)
    for at in range(len(queries)):
        scores = queries @ gallery.T  # the very scores, so that ties are the same ties
        expected, total = by_hand(np.eye(len(gallery))[0], truth[at],
                                  np.c_[scores[at], np.zeros((len(gallery), len(gallery) - 1))],
                                  gallery_labels, at if leave_one_out else -1)  # fmt: skip
        assert found.relevant[at] == total
        assert {name: values[at] for name, values in found.figures.items()} == pytest.approx(expected)


@pytest.mark.parametrize("protocol", ["gallery", "leave-one-out", "filtered"])
def test_a_picture_with_several_labels_finds_none_of_its_rows(protocol):
    random = np.random.default_rng(0)
    items = [
        Item(f"{at}.jpg", "", "train", {"bbox": box})
        for at in random.integers(12, size=40)
        for box in (None, "0 0 5 5")
    ]
    embeddings = random.integers(-3, 4, (80, 4)).astype(np.float32)  # whole numbers, so that ties are ties
    array = PictureArray(np.zeros((80, 3, 1, 1), np.uint8), labels(80, 3, 1), tuple(items), (), "")
    named = labels(80, 3, 2)
    queries = rows_of(array, np.arange(50))
    searched_in = queries if protocol == "leave-one-out" else array
    found = searched(queries, embeddings[:50], array, embeddings, [protocol], "class", named[:50])[protocol]
    for at, item in enumerate(queries.items):
        others = [row for row, one in enumerate(searched_in.items) if (one.path, one.box) != (item.path, item.box)]
        only = (named[at : at + 1], array.labels[others]) if protocol == "filtered" else None
        alone = retrieval(embeddings[at : at + 1], array.labels[at : at + 1], embeddings[others], array.labels[others],
                          only=only)  # fmt: skip
        assert found.relevant[at] == alone.relevant[0]
        assert found.nearest[at] == alone.nearest[0]
        expected = {name: values[0] for name, values in alone.figures.items()}
        assert {name: values[at] for name, values in found.figures.items()} == pytest.approx(expected)


def test_an_example_worked_by_hand():
    gallery = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], np.float32)
    found = retrieval(np.array([[1, 0]], np.float32), np.array([1]), gallery, np.array([0, 1, 0, 1])).summary()
    # Ranked: 0, 1, 0, 1.  R = 2, so map = (0 + 1/2) / 2, and one of the first two is relevant.
    assert (found["top1"], found["top5"], found["mrr"]) == (0, 1, 0.5)
    assert (found["map"], found["r_precision"]) == (0.25, 0.5)


@pytest.mark.parametrize("same_source", [False, True])
def test_retrieval_agrees_with_pytorch_metric_learning(same_source):
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    gallery, gallery_labels = unit(300, 1), labels(300, 6, 2)
    queries, truth = (gallery, gallery_labels) if same_source else (unit(80, 3), labels(80, 6, 4))
    theirs = AccuracyCalculator(k="max_bin_count", device=torch.device("cpu")).get_accuracy(
        torch.tensor(queries), torch.tensor(truth), torch.tensor(gallery), torch.tensor(gallery_labels),
        ref_includes_query=same_source,
    )  # fmt: skip
    ours = retrieval(queries, truth, gallery, gallery_labels, exclude=np.arange(300) if same_source else None).summary()
    assert ours["top1"] == pytest.approx(theirs["precision_at_1"])
    assert ours["r_precision"] == pytest.approx(theirs["r_precision"])
    assert ours["map"] == pytest.approx(theirs["mean_average_precision_at_r"])


def test_chunks_change_nothing():
    gallery, gallery_labels, queries, truth = unit(200, 1), labels(200, 5, 2), unit(50, 3), labels(50, 5, 4)
    summaries = [retrieval(queries, truth, gallery, gallery_labels, chunk=chunk).summary() for chunk in (1, 7, 500)]
    assert summaries[0] == pytest.approx(summaries[1])
    assert summaries[0] == pytest.approx(summaries[2])


def test_queries_with_nothing_to_find_are_left_out_and_counted():
    gallery = unit(20, 1)
    found = retrieval(gallery[:2], np.array([0, 9]), gallery, np.zeros(20, dtype=np.int64)).summary()
    assert found["top1"] == 1
    assert found["unanswerable"] == 1
    nothing = retrieval(gallery[:2], np.array([8, 9]), gallery, np.zeros(20, dtype=np.int64)).summary()
    assert nothing == {"unanswerable": 2}


def test_macro_means_weigh_classes_equally():
    gallery = np.eye(3, dtype=np.float32)
    queries = gallery[[0, 0, 0, 1]]
    found = retrieval(queries, np.array([0, 0, 0, 2]), gallery, np.array([0, 1, 2])).summary()
    assert found["top1"] == 0.75
    assert found["macro_top1"] == 0.5


def test_the_nearest_items_score_is_the_highest_that_is_not_the_query_itself():
    vectors, truth = unit(60, 1), labels(60, 4, 2)
    scores = vectors @ vectors.T
    assert retrieval(vectors[:9], truth[:9], vectors, truth).nearest == pytest.approx(scores[:9].max(axis=1))
    np.fill_diagonal(scores, -2)
    assert leave_one_out(vectors, truth).nearest == pytest.approx(scores.max(axis=1))


def test_memory_does_not_grow_with_the_number_of_queries():
    gallery, gallery_labels = unit(2000, 1), labels(2000, 10, 2)

    def peak(count: int) -> int:
        queries, truth = unit(count, 3), labels(count, 10, 4)
        tracemalloc.start()
        retrieval(queries, truth, gallery, gallery_labels, chunk=64)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(1024) < 1.3 * peak(128)


def test_empty_and_mismatched_inputs_are_refused():
    with pytest.raises(FashionError, match="0 queries"):
        retrieval(unit(0, 1), labels(0, 2, 1), unit(3, 1), labels(3, 2, 1))
    with pytest.raises(FashionError, match="4 dimensions"):
        retrieval(unit(2, 1, dim=4), labels(2, 2, 1), unit(3, 1), labels(3, 2, 1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["queries", "gallery"])
def test_embeddings_that_are_no_numbers_are_refused(where, value):
    embeddings = {"queries": unit(4, 1), "gallery": unit(9, 2)}
    embeddings[where][2, 3] = value
    with pytest.raises(FashionError, match=f"Embeddings of the {where} hold NaN or infinity"):
        retrieval(embeddings["queries"], labels(4, 2, 1), embeddings["gallery"], labels(9, 2, 2))


def test_classification_agrees_with_scikit_learn():
    truth, predicted = labels(200, 5, 1), labels(200, 4, 2)  # class 4 is never predicted
    scores = classification(confusion_matrix(truth, predicted, 5))
    for average in ("micro", "macro"):
        theirs = precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
        assert [scores[f"{name}_{average}"] for name in ("precision", "recall", "f1")] == pytest.approx(theirs[:3])
    each = precision_recall_fscore_support(truth, predicted, zero_division=0)
    for name, values in zip(("precision", "recall", "f1"), each, strict=False):
        np.testing.assert_allclose(scores[name], values)


def test_macro_means_count_a_class_that_is_only_predicted():
    scores = classification(confusion_matrix(np.array([0, 0, 1]), np.array([0, 2, 1]), 4))  # 3 never occurs
    assert scores["recall_macro"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert scores["precision_macro"] == pytest.approx((1 + 1 + 0) / 3)


def interval(values: np.ndarray, **options) -> tuple[float, float]:
    return bootstrap_intervals({"one": values}, **options)["one"]


@pytest.mark.parametrize("groups", [None, np.arange(60) // 7])
def test_intervals_of_several_metrics_are_those_of_each(groups):
    random = np.random.default_rng(0)
    metrics = {"top1": (random.random(60) < 0.8).astype(float), "map": random.random(60)}
    found = bootstrap_intervals(metrics, groups=groups, samples=200, seed=4)
    members = [[at] for at in range(60)] if groups is None else [np.flatnonzero(groups == one) for one in range(9)]
    for name, values in metrics.items():
        draws = np.random.default_rng(4)
        means = []
        for _ in range(200):
            drawn = draws.integers(len(members), size=len(members))
            means.append(np.concatenate([values[members[one]] for one in drawn]).mean())
        assert found[name] == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-12)
        assert found[name] == pytest.approx(interval(values, groups=groups, samples=200, seed=4), abs=1e-12)


def test_intervals_of_many_metrics_draw_no_more_often_than_those_of_one(monkeypatch):
    random = Mock(wraps=np.random.default_rng(0))
    monkeypatch.setattr("numpy.random.default_rng", lambda seed: random)
    bootstrap_intervals(dict(enumerate(random.random((10, 60)))), samples=100)
    assert random.integers.call_count == 100


def test_intervals_cover_the_mean_shrink_with_more_and_widen_with_groups():
    random = np.random.default_rng(0)
    values = (random.random(400) < 0.8).astype(float)
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.16 / 400), rel=0.15)
    grouped = np.repeat(values[:40], 10)
    wide = interval(grouped, groups=np.repeat(np.arange(40), 10))
    narrow = interval(grouped)
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_metrics_are_selected_by_name():
    metrics = {"accuracy": 0.9, "gallery/map": 0.5, "loo/map": 0.4, "gallery/top1": 0.8}
    assert select(metrics, ["map"]) == {"gallery/map": 0.5, "loo/map": 0.4}
    assert select(metrics, ["accuracy", "loo/map"]) == {"accuracy": 0.9, "loo/map": 0.4}
    assert select(metrics, None) == metrics
    assert select(metrics, ["map@r", "gallery/hit@1"]) == select(metrics, ["map", "gallery/top1"])
    macro = metrics | {"gallery/macro_map": 0.6, "loo/macro_map": 0.3}
    assert set(select(macro, ["loo/map"])) == {"loo/map", "loo/macro_map"}
    assert set(select(macro, ["macro_map"])) == {"gallery/macro_map", "loo/macro_map"}
    check_names(["hit@5", "loo/map@r", "macro_mrr", "accuracy"])
    with pytest.raises(FashionError, match="metrics names 'macro_accuracy'"):
        check_names(["macro_accuracy"])
    with pytest.raises(FashionError, match="'mpa'.*map"):
        select(metrics, ["mpa"])


def test_others_names_of_metrics_mean_ours():
    metrics = {"loo/top1": 0.1, "loo/top5": 0.2, "loo/map": 0.3}
    for name, ours in {"hit@1": "top1", "hit@5": "top5", "map@r": "map"}.items():
        assert select(metrics, [name]) == {f"loo/{ours}": metrics[f"loo/{ours}"]}


def test_the_no_match_threshold_is_the_lowest_that_is_precise_enough():
    random = np.random.default_rng(0)
    for _ in range(20):
        nearest = np.round(random.random(60), 2)
        right = (random.random(60) < nearest).astype(float)
        found = no_match_threshold(nearest, right, precision=0.9)
        reached = {t: right[nearest >= t].mean() for t in nearest}
        good = [t for t, precision in reached.items() if precision >= 0.9]
        if good:
            assert found["threshold"] == min(good)
        else:
            assert found["precision"] == max(reached.values())
        assert found["precision"] == pytest.approx(reached[found["threshold"]])
        assert found["answered"] == pytest.approx((nearest >= found["threshold"]).mean())


def test_where_no_threshold_is_precise_enough_equal_scores_count_together_too():
    found = no_match_threshold(np.array([0.9, 0.9, 0.8]), np.array([1.0, 0.0, 0.0]), precision=0.9)
    assert found == {"threshold": 0.9, "precision": 0.5, "answered": pytest.approx(2 / 3), "target": 0.9}


def test_a_filtered_search_misses_what_the_filter_hides():
    random = np.random.default_rng(3)
    queries, gallery = unit(40, 1), unit(90, 2)
    truth, gallery_labels = random.integers(0, 3, 40), random.integers(0, 3, 90)
    named = np.where(random.random(40) < 0.7, truth, (truth + 1) % 3)
    found = retrieval(queries, truth, gallery, gallery_labels, only=(named, gallery_labels))
    right = named == truth
    assert (found.figures["top1"] == right).all()  # a query that is named right sees nothing but its own class
    assert (found.figures["map"][right] == 1).all()
    assert (found.figures["map"][~right] == 0).all()
    assert (found.figures["mrr"][~right] == 0).all()
    assert (found.figures["recall@10"][~right] == 0).all()
    unfiltered = retrieval(queries, truth, gallery, gallery_labels)
    assert (found.relevant == unfiltered.relevant).all()
    halves = np.where(np.arange(90) % 2, 0, 1)  # a filter on something else than what is relevant
    mixed = retrieval(queries, truth, gallery, gallery_labels, only=(np.zeros(40, int), halves))
    shown = np.flatnonzero(halves == 0)
    for row in range(40):
        order = shown[np.argsort(-(gallery[shown] @ queries[row]), kind="stable")]
        relevant = gallery_labels[order] == truth[row]
        total = (gallery_labels == truth[row]).sum()
        places = np.arange(1, len(order) + 1)
        expected = ((relevant.cumsum() / places) * relevant)[:total].sum() / total
        assert mixed.figures["map"][row] == pytest.approx(expected)


def test_a_filtered_search_in_chunks_is_the_same():
    queries, gallery, truth, theirs = unit(40, 1), unit(90, 2), labels(40, 3, 3), labels(90, 3, 4)
    named = labels(40, 3, 5)
    one, many = (retrieval(queries, truth, gallery, theirs, only=(named, theirs), chunk=chunk) for chunk in (40, 7))
    for name, values in one.figures.items():
        np.testing.assert_array_equal(many.figures[name], values)


@pytest.mark.slow
def test_memory_stays_flat_as_the_gallery_grows():
    """100,000 embeddings to search: what 300 queries need at their peak is what 10,000 would."""
    script = """
import numpy as np
from fashion.protocols import searched
from fashion.retrieval import retrieval
random = np.random.default_rng(0)
gallery = random.standard_normal((100_000, 64), dtype=np.float32)
gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
queries, labels = gallery[:300], random.integers(0, 10, 100_000)
retrieval(queries, labels[:300], gallery, labels)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1024 * 1024  # KiB
