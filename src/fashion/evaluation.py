"""What a model is worth on pictures it was not trained on: naming, and search in both protocols."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.bootstrap import bootstrap_intervals
from fashion.data.arrays import PictureArray
from fashion.encoder import Encoder
from fashion.errors import FashionError
from fashion.files import write_text
from fashion.metrics import classification, confusion_matrix, no_match_threshold
from fashion.protocols import PREFIX, PROTOCOLS, searched
from fashion.quoting import CHOICES, briefly
from fashion.retrieval import Retrieval
from fashion.versions import installed, machine, versions

HEADLINES = ("accuracy", "f1_macro", "gallery/top1", "gallery/top5", "gallery/map", "loo/top1", "loo/top5", "loo/map")
"""Metrics that are shown of a training run; all are in its `metrics.json`."""

CONFUSED = 100
"""Classes up to which `metrics.json` has the confusion matrix, which grows with their square."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on one split.

    class_names: what the numbers in labels and `predicted` and the confusion's rows and columns stand for: the data's
    classes, then those that only the model knows.
    metrics: name → value; search metrics carry their protocol, as in `gallery/top1` and `loo/map`.
    intervals: name → 95% bootstrap interval (over pictures or groups of them) of those that are means over pictures.
    per_class: class → precision, recall, f1, support.  embeddings, predicted, probability: of the
    queries, [Q,64], [Q] and [Q].  gallery: embeddings [G,64] of the gallery, where it was searched.
    """

    split: str
    class_names: tuple[str, ...]
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_class: dict[str, dict[str, float]]
    confusion: NDArray[np.int64]
    retrievals: dict[str, Retrieval]
    embeddings: NDArray[np.float32]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]
    gallery: NDArray[np.float32] | None

    def headlines(self) -> dict[str, float]:
        """The metrics that are shown of a training run, as far as there are such."""
        return {name: self.metrics[name] for name in HEADLINES if name in self.metrics}


def evaluate(
    encoder: Encoder,
    queries: PictureArray,
    gallery: PictureArray,
    *,
    split: str = "validation",
    class_names: Sequence[str] | None = None,
    protocols: Sequence[str] = PROTOCOLS,
    relevance: str = "class",
) -> Evaluation:
    """Name and search every picture of `queries`.

    Args:
        class_names: of the data, where they are not the model's.  Where it does not know all of them, nothing is said
            of naming beyond the confusion: what it takes a stranger for.
        protocols: `gallery` searches the pictures of `gallery`; `leave-one-out` searches the other queries; `filtered`
            searches the gallery's pictures of the class that the query is named.
        relevance: what a search should find: pictures of the same `class`, or of the same value of a column, such as
            `product_id`.

    Raises:
        FashionError: if a label has no name in `class_names`, or a picture has no such column.
    """
    embeddings, probabilities = encoder(queries.pictures)
    if not np.isfinite(embeddings).all():
        raise FashionError(
            f"{encoder.source} gives embeddings that are no numbers: its training diverged; lower task.module.lr."
        )
    truth = queries.labels
    names = tuple(class_names or encoder.class_names)
    if truth.max() >= len(names):
        raise FashionError(
            f"The data has labels beyond the {len(names)} classes {briefly(names, CHOICES)}; check its classes."
        )
    known = set(names) <= set(encoder.class_names)
    names += tuple(name for name in encoder.class_names if name not in names)
    predicted = np.array([names.index(name) for name in encoder.class_names])[probabilities.argmax(axis=1)]
    matrix = confusion_matrix(truth, predicted, len(names))
    scores = classification(matrix) if known else {}
    metrics = {name: value for name, value in scores.items() if isinstance(value, float)}
    in_gallery = None
    if {"gallery", "filtered"} & set(protocols):
        in_gallery = embeddings if gallery is queries else encoder(gallery.pictures)[0]
    retrievals = searched(queries, embeddings, gallery, in_gallery, protocols, relevance, predicted)
    for protocol, found in retrievals.items():
        metrics |= found.summary(f"{PREFIX[protocol]}/")
    return Evaluation(
        split,
        names,
        metrics,
        _intervals(truth == predicted if known else None, retrievals, groups_of(queries)),
        _per_class(scores, matrix, names) if known else {},
        matrix,
        retrievals,
        embeddings,
        predicted.astype(np.int64),
        probabilities.max(axis=1),
        in_gallery,
    )


def _intervals(
    right: NDArray[np.bool_] | None, retrievals: Mapping[str, Retrieval], groups: NDArray[Any] | None
) -> dict[str, tuple[float, float]]:
    """Of the accuracy, from which queries are named right (None: nothing is said of naming), and of each search."""
    found = {} if right is None else bootstrap_intervals({"accuracy": right.astype(float)}, groups=groups)
    for protocol, searches in retrievals.items():
        answered = searches.relevant > 0
        if answered.any():
            values = {f"{PREFIX[protocol]}/{name}": each for name, each in searches.per_query().items()}
            found |= bootstrap_intervals(values, groups=None if groups is None else groups[answered])
    return found


def _per_class(
    scores: Mapping[str, Any], matrix: NDArray[np.int64], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Class → its precision, recall, f1 and support, of the classes that queries have."""
    return {
        name: {kind: float(scores[kind][at]) for kind in ("precision", "recall", "f1")} | {"support": int(support)}
        for at, (name, support) in enumerate(zip(names, matrix.sum(axis=1), strict=True))
        if support
    }


def groups_of(pictures: PictureArray) -> NDArray[Any] | None:
    """What each picture is one of, see `Item.group`: those of one photographer or product are not independent.

    None where no two pictures are of one.
    """
    groups = [item.group for item in pictures.items]
    return np.array(groups) if len(set(groups)) < len(groups) else None


def _no_match(result: Evaluation, precision: float) -> dict[str, float] | None:
    """The score below which the nearest picture of the gallery is no answer, chosen on this split."""
    found = result.retrievals.get("gallery")
    return no_match_threshold(found.nearest, found.figures["top1"], precision) if found else None


def write_metrics(path: Path, result: Evaluation, facts: Mapping[str, Any], match_precision: float) -> None:
    """`metrics.json`: the figures with their intervals, what they were taken on, and with which versions.

    Args:
        match_precision: how often an answer above the no-match threshold should be of the query's class.
    """
    content = {
        **facts,
        "split": result.split,
        "pictures": int(result.confusion.sum()),
        "protocols": list(result.retrievals),
        "metrics": result.metrics,
        "intervals_95": result.intervals,
        "no_match": _no_match(result, match_precision),
        "per_class": result.per_class,
        "class_names": list(result.class_names),
        "confusion": result.confusion.tolist() if len(result.class_names) <= CONFUSED else None,
        "versions": versions("fashion", "numpy", "faiss-cpu") | installed("torch", "torchvision", "pytorch-lightning"),
        "machine": machine(),
    }
    write_text(path, json.dumps(content, indent=2) + "\n")
