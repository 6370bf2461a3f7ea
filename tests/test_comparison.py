"""Paired tests against what they must say, and against slow obvious versions."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from fashion.bootstrap import resampled_means
from fashion.comparison import mcnemar, paired_bootstrap
from fashion.retrieval import retrieval
from fashion.tasks.compare import compared


def test_mcnemar_is_the_sum_over_all_coin_tosses():
    first = np.array([True] * 9 + [False] * 3 + [True] * 5)
    second = np.array([False] * 9 + [True] * 3 + [True] * 5)
    tosses = [sum(outcome) for outcome in product((0, 1), repeat=12)]
    expected = np.mean([min(heads, 12 - heads) <= 3 for heads in tosses])
    found = mcnemar(first, second)
    assert (found["only_first"], found["only_second"]) == (9, 3)
    assert found["p"] == pytest.approx(expected)
    assert mcnemar(first, first)["p"] == 1


def bootstrapped(first: np.ndarray, second: np.ndarray, **options) -> dict[str, float]:
    return paired_bootstrap({"one": first}, {"one": second}, **options)["one"]


def test_the_bootstrap_sees_a_difference_that_is_there_and_none_that_is_not():
    random = np.random.default_rng(0)
    hard = random.random(400)
    first, better = (hard < 0.7).astype(float), (hard < 0.8).astype(float)
    found = bootstrapped(first, better)
    assert found["difference"] == pytest.approx((better - first).mean())
    assert found["low"] > 0
    assert found["p"] < 0.01
    shuffled = random.permutation(first)
    assert bootstrapped(first, shuffled)["p"] > 0.05


def test_no_difference_is_certain():
    found = bootstrapped(np.zeros(50), np.ones(50), samples=999)
    assert found["p"] == pytest.approx(2 / 1000)


def test_groups_that_stand_or_fall_together_widen_the_interval():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 20).astype(str)
    gain = np.repeat(random.normal(0.05, 0.3, 20), 20)
    alone, grouped = bootstrapped(np.zeros(400), gain), bootstrapped(np.zeros(400), gain, groups=groups)
    assert grouped["high"] - grouped["low"] > 2 * (alone["high"] - alone["low"])
    assert grouped["difference"] == pytest.approx(alone["difference"])


def test_a_query_without_an_answer_leaves_the_groups_of_the_others():
    random = np.random.default_rng(0)
    labels = np.array([*(np.arange(199) % 2), 2])  # nothing else is of class 2
    groups = np.repeat(np.arange(20), 10).astype(str)
    results = []
    for worse in (False, True):
        vectors = np.eye(2)[labels % 2] + random.normal(size=(200, 2)) * 0.01
        if worse:  # some photographers' pictures all lie where the other class does
            vectors[:80] = vectors[:80, ::-1]
        embeddings = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        found = retrieval(embeddings, labels, embeddings, labels, exclude=np.arange(200))
        results.append(SimpleNamespace(retrievals={"gallery": found, "leave-one-out": found}))
    rights = [np.ones(200, bool)] * 2
    grouped, alone = (compared(results, rights, one)["gallery/map"] for one in (groups, None))
    assert grouped["high"] - grouped["low"] > 1.3 * (alone["high"] - alone["low"])


def test_figures_of_the_same_queries_get_the_same_draws_once(monkeypatch):
    random = np.random.default_rng(0)
    labels = np.append(np.arange(59) % 2, 2)  # in the gallery, nothing is of class 2
    results = []
    for _ in range(2):
        vectors = random.normal(size=(60, 8)).astype(np.float32)
        found = {"gallery": retrieval(vectors, labels, vectors[:59], labels[:59]),
                 "leave-one-out": retrieval(vectors, labels, vectors, labels)}  # fmt: skip
        results.append(SimpleNamespace(retrievals=found))
    rights = [random.random(60) < 0.8, random.random(60) < 0.7]
    draws = []

    def counted(values, *others, **options):
        draws.append(len(values))
        return resampled_means(values, *others, **options)

    monkeypatch.setattr("fashion.comparison.resampled_means", counted)
    table = compared(results, rights, None)
    assert draws == [4, 3]  # of all queries, and of those that the gallery has an answer for
    figures = ("top1", "top5", "map")
    assert list(table) == ["accuracy", *(f"{protocol}/{name}" for protocol in ("gallery", "loo") for name in figures)]
    for prefix, protocol in (("gallery", "gallery"), ("loo", "leave-one-out")):
        for name in figures:
            one, other = (result.retrievals[protocol].per_query()[name] for result in results)
            alone = bootstrapped(one, other) | {"a": one.mean(), "b": other.mean()}
            assert table[f"{prefix}/{name}"] == pytest.approx(alone, abs=1e-12)


def test_which_model_comes_first_changes_the_sign_alone():
    random = np.random.default_rng(0)
    worse, better = random.random(60), random.random(60) + 0.1
    one, other = bootstrapped(worse, better, samples=500), bootstrapped(better, worse, samples=500)
    assert one["p"] == other["p"] < 0.5
    assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))


def test_no_difference_at_all_is_no_sign_of_one():
    assert bootstrapped(np.ones(30), np.ones(30), samples=200)["p"] == 1


def test_the_interval_is_that_of_a_normal_mean():
    gain = np.random.default_rng(0).normal(size=400)
    found = bootstrapped(np.zeros(400), gain, samples=4000)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * gain.std() / 20, rel=0.08)
