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
from fashion.retrieval import Retrieval, leave_one_out, retrieval
from fashion.versions import installed, machine, versions

PROTOCOLS = ("gallery", "leave-one-out")
PREFIX = {"gallery": "gallery", "leave-one-out": "loo", "filtered": "filtered"}


HEADLINES = ("accuracy", "f1_macro", "gallery/top1", "gallery/top5", "gallery/map", "loo/top1", "loo/top5", "loo/map")
"""What is shown of a training run, as far as there are such figures; everything is in its `metrics.json`."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on one split.

    class_names: what labels, `predicted` and the confusion's rows and columns number: the data's classes, then those
    that only the model knows.
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
            f"The data has labels beyond the {len(names)} classes {', '.join(names)}; check its classes."
        )
    known = set(names) <= set(encoder.class_names)
    names += tuple(name for name in encoder.class_names if name not in names)
    predicted = np.array([names.index(name) for name in encoder.class_names])[probabilities.argmax(axis=1)]
    matrix = confusion_matrix(truth, predicted, len(names))
    scores = classification(matrix)
    groups = groups_of(queries)
    metrics = {name: value for name, value in scores.items() if known and isinstance(value, float)}
    right = (truth == predicted).astype(float)
    intervals = bootstrap_intervals({"accuracy": right}, groups=groups) if known else {}
    wanted, gallery_wanted = relevant_numbers(queries, gallery, relevance)
    themselves = rows_in(queries, gallery)
    searched = encoder(gallery.pictures)[0] if {"gallery", "filtered"} & set(protocols) else None
    retrievals: dict[str, Retrieval] = {}
    for protocol in protocols:
        if protocol == "leave-one-out":
            found = leave_one_out(embeddings, wanted)
        else:
            assert searched is not None
            only = (predicted, gallery.labels) if protocol == "filtered" else None
            found = retrieval(embeddings, wanted, searched, gallery_wanted, exclude=themselves, only=only)
        retrievals[protocol] = found
        metrics |= found.summary(f"{PREFIX[protocol]}/")
        answered = found.relevant > 0
        own = None if groups is None else groups[answered]
        if answered.any():
            values = {f"{PREFIX[protocol]}/{name}": each for name, each in found.per_query().items()}
            intervals |= bootstrap_intervals(values, groups=own)
    support = matrix.sum(axis=1)
    per_class = {
        name: {kind: float(scores[kind][at]) for kind in ("precision", "recall", "f1")} | {"support": int(support[at])}
        for at, name in enumerate(names)
        if known and support[at]
    }
    return Evaluation(
        split,
        names,
        metrics,
        intervals,
        per_class,
        matrix,
        retrievals,
        embeddings,
        predicted.astype(np.int64),
        probabilities.max(axis=1),
        searched,
    )


def groups_of(pictures: PictureArray) -> NDArray[Any] | None:
    """What each picture is one of, see `Item.group`: those of one photographer or product are not independent.

    None where no two pictures are of one.
    """
    groups = [item.group for item in pictures.items]
    return np.array(groups) if len(set(groups)) < len(groups) else None


def rows_in(queries: PictureArray, gallery: PictureArray) -> NDArray[np.int64]:
    """[Q] the gallery's row of each query, where it is in there too, else -1: no picture is to find itself."""
    rows = {(item.path, item.box): at for at, item in enumerate(gallery.items)}
    return np.array([rows.get((item.path, item.box), -1) for item in queries.items], np.int64)


def relevant_numbers(
    queries: PictureArray, gallery: PictureArray, relevance: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers that are equal where one picture is what a search for another should find.

    Raises:
        FashionError: if a picture lacks the column.
    """
    if relevance == "class":
        return queries.labels, gallery.labels
    values = [item.extra.get(relevance) for item in (*queries.items, *gallery.items)]
    if any(value in (None, "") for value in values):
        raise FashionError(f"relevance is {relevance!r}, and some pictures have no such column; set relevance=class.")
    _, numbers = np.unique(np.array(values, dtype=str), return_inverse=True)
    return numbers[: len(queries.items)].astype(np.int64), numbers[len(queries.items) :].astype(np.int64)


def _no_match(result: Evaluation, precision: float) -> dict[str, float] | None:
    """When the nearest picture of the gallery is no answer; taken on this split, as everything here is."""
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
        "confusion": result.confusion.tolist(),
        "versions": versions("fashion", "numpy", "faiss-cpu") | installed("torch", "torchvision", "pytorch-lightning"),
        "machine": machine(),
    }
    write_text(path, json.dumps(content, indent=2) + "\n")
