"""What a model is worth on pictures it was not trained on: naming, and search in both protocols."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.data.datasets import PictureArray
from fashion.encoder import Encoder
from fashion.errors import FashionError
from fashion.files import write_text
from fashion.metrics import (
    Retrieval,
    bootstrap_interval,
    classification,
    confusion_matrix,
    no_match_threshold,
    retrieval,
)

PROTOCOLS = ("gallery", "leave-one-out")
PREFIX = {"gallery": "gallery", "leave-one-out": "loo"}


HEADLINES = ("accuracy", "f1_macro", "gallery/top1", "gallery/top5", "gallery/map", "loo/top1", "loo/top5", "loo/map")
"""What is shown of a training run; everything is in its `metrics.json`."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on one split.

    metrics: name → value; search metrics carry their protocol, as in `gallery/top1` and `loo/map`.
    intervals: name → 95% bootstrap interval (over pictures) of those that are means over pictures.
    per_class: class → precision, recall, f1, support.
    """

    split: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_class: dict[str, dict[str, float]]
    confusion: NDArray[np.int64]
    retrievals: dict[str, Retrieval]


def evaluate(
    encoder: Encoder,
    queries: PictureArray,
    gallery: PictureArray,
    *,
    split: str = "validation",
    protocols: Sequence[str] = PROTOCOLS,
) -> Evaluation:
    """Name and search every picture of `queries`.

    Protocol `gallery` searches the pictures of `gallery`; `leave-one-out` searches the other queries.

    Raises:
        FashionError: if the pictures' classes are not the encoder's.
    """
    embeddings, probabilities = encoder(queries.pictures)
    truth = queries.labels
    if probabilities.shape[1] != len(encoder.class_names) or truth.max() >= len(encoder.class_names):
        raise FashionError("The data has more classes than the model knows; choose the data it was trained on.")
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(truth, predicted, len(encoder.class_names))
    scores = classification(matrix)
    metrics = {name: value for name, value in scores.items() if isinstance(value, float)}
    intervals = {"accuracy": bootstrap_interval((truth == predicted).astype(float))}
    retrievals: dict[str, Retrieval] = {}
    for protocol in protocols:
        if protocol == "gallery":
            found = retrieval(embeddings, truth, encoder(gallery.pictures)[0], gallery.labels)
        else:
            found = retrieval(embeddings, truth, embeddings, truth, exclude=np.arange(len(truth)))
        retrievals[protocol] = found
        metrics |= found.summary(f"{PREFIX[protocol]}/")
        for name, values in found.per_query().items():
            intervals[f"{PREFIX[protocol]}/{name}"] = bootstrap_interval(values)
    support = matrix.sum(axis=1)
    per_class = {
        name: {kind: float(scores[kind][at]) for kind in ("precision", "recall", "f1")} | {"support": int(support[at])}
        for at, name in enumerate(encoder.class_names)
    }
    return Evaluation(split, metrics, intervals, per_class, matrix, retrievals)


def _no_match(result: Evaluation, precision: float) -> dict[str, float] | None:
    """When the nearest picture of the gallery is no answer; taken on this split, as everything here is."""
    found = result.retrievals.get("gallery")
    return no_match_threshold(found.nearest, found.hit[1], precision) if found else None


def write_metrics(path: Path, result: Evaluation, facts: Mapping[str, Any], match_precision: float = 0.9) -> None:
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
        "confusion": result.confusion.tolist(),
        "versions": {name: version(name) for name in ("fashion", "numpy", "faiss-cpu")},
        "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
    }
    write_text(path, json.dumps(content, indent=2) + "\n")
