"""Names of metrics, how well pictures are named, and from which score on a hit is an answer: pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.errors import FashionError

Floats = NDArray[np.float64]


SEARCH = ("top1", "top5", "precision@5", "recall@5", "precision@10", "recall@10", "r_precision", "map", "mrr")
NAMING = ("accuracy", "precision_micro", "recall_micro", "f1_micro", "precision_macro", "recall_macro", "f1_macro")
ALIASES = {"hit@1": "top1", "hit@5": "top5", "map@r": "map"}
"""What others call some of them."""


def no_match_threshold(nearest: Floats, right: Floats, precision: float) -> dict[str, float]:
    """The lowest score from which the nearest item is of the query's class in the share `precision` of cases.

    Args:
        nearest: [Q] score of each query's nearest item.  right: [Q] 1 where that item is relevant, else 0.

    Returns:
        `threshold`, the `precision` of the answers from it on, the share of queries `answered`, and `target`, the
        precision asked for; where no threshold reaches it, the one that comes nearest.
    """
    order = np.argsort(-nearest, kind="stable")
    scores = nearest[order]
    reached = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last = np.append(scores[1:] != scores[:-1], True)  # equal scores are answered together or not at all
    good = np.flatnonzero(last & (reached >= precision))
    at = int(good[-1]) if len(good) else int(np.argmax(np.where(last, reached, -1)))
    return {
        "threshold": float(scores[at]),
        "precision": float(reached[at]),
        "answered": (at + 1) / len(order),
        "target": precision,
    }


def confusion_matrix(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """[classes, classes] counts; rows are the true classes, columns the predicted ones."""
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def classification(matrix: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy, micro and macro precision, recall and F1, and `precision`, `recall`, `f1` [classes] of each class.

    What is undefined (a class never predicted, or never true) is 0.  Macro means run over classes that occur, in
    truth or prediction.
    """
    right, true, named = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    precision = right / np.maximum(named, 1)
    recall = right / np.maximum(true, 1)
    f1 = 2 * right / np.maximum(true + named, 1)
    occurs = (true + named) > 0
    accuracy = float(right.sum() / max(matrix.sum(), 1))
    # With one label a picture, micro precision, recall and F1 all are the accuracy.
    scores: dict[str, Any] = {"accuracy": accuracy}
    for name, values in {"precision": precision, "recall": recall, "f1": f1}.items():
        scores |= {f"{name}_micro": accuracy, f"{name}_macro": float(values[occurs].mean()), name: values}
    return scores


def check_names(names: Sequence[str]) -> None:
    """Raise FashionError for a name that no evaluation can give."""
    for name in names:
        ours = _ours(name)
        if ours not in NAMING and _last(ours).removeprefix("macro_") not in SEARCH:
            raise FashionError(f"metrics names {name!r}; choose from {', '.join((*NAMING, *SEARCH, *ALIASES))}.")


def select(metrics: Mapping[str, float], names: Sequence[str] | None) -> dict[str, float]:
    """Those of `metrics` that `names` asks for, search metrics with their `macro_…`.

    `map` without a protocol means `gallery/map` and `loo/map`.

    Raises:
        FashionError: for a name that is no metric, or that none of `metrics` has.
    """
    if names is None:
        return dict(metrics)
    check_names(names)
    asked_by = {key: _asked_by(key) for key in metrics}
    for name in names:
        if not any(_ours(name) in asking for asking in asked_by.values()):
            raise FashionError(f"metrics names {name!r}, which has no value here; leave it out to see the others.")
    wanted = set(map(_ours, names))
    return {key: value for key, value in metrics.items() if wanted & asked_by[key]}


def _asked_by(key: str) -> set[str]:
    """The names that select a metric: with and without its protocol, and without `macro_`."""
    plain = key.replace("/macro_", "/")
    return {key, _last(key), plain, _last(plain)}


def _ours(name: str) -> str:
    """Our name of a metric, behind its protocol if it has one."""
    last = _last(name)
    return name.removesuffix(last) + ALIASES.get(last, last)


def _last(name: str) -> str:
    """A metric's name without its protocol."""
    return name.rpartition("/")[2]
