"""`index=auto`: the kind of index and its search effort, chosen by the number of items, the memory and the recall."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion.errors import FashionError
from fashion.search.index import FAISSIndex
from fashion.search.milvus import MilvusIndex
from fashion.search.numbered import MANY

log = logging.getLogger(__name__)

EXACT_UP_TO = 1_000_000
"""An exact search of so many items takes 10 to 20 ms on one core; with fewer, no other kind is worth its misses."""

AUTO: dict[str, Any] = {"recall": 0.95, "memory_mb": None}
"""Settings of `index=auto` and their defaults."""

HARDEST = 1024
"""The largest `ef_search` (hnsw) or `nprobe` (ivfpq) tried: beyond it a search is no faster than an exact one."""

GAIN = 0.002
"""Recall that twice the effort should add: where it adds less, what is missed is lost in compressed vectors."""


@dataclass(frozen=True)
class Reusable:
    """An index, and which [N] of the items it has already, with the same embeddings under the same ids."""

    index: FAISSIndex | MilvusIndex
    kept: NDArray[np.bool_]


def build_auto(
    embeddings: ArrayLike,
    ids: ArrayLike,
    dimension: int = 64,
    before: Reusable | None = None,
    *,
    recall: float = 0.95,
    memory_mb: float | None = None,
) -> FAISSIndex:
    """An index of the fastest kind that fits the memory and finds the share `recall` of the true 10 nearest.

    Args:
        before: see `built`.
        recall: 1.0 asks for an exact index.
        memory_mb: what the index may take up; None: no limit.

    Raises:
        FashionError: if no kind fits.
    """
    count = len(ids)  # type: ignore[arg-type]

    def fitting(recall: float) -> list[str]:
        kinds = _preferred(count, recall)
        return [one for one in kinds if memory_mb is None or _size_mb(one, count, dimension) <= memory_mb]

    if not fitting(recall):
        # Rounded up, so that an index fits into what is named.
        sizes = {one: math.ceil(10 * _size_mb(one, count, dimension)) / 10 for one in _preferred(count, recall)}
        lower = f", or lower index.recall, which is {recall:g}" if fitting(0.99 * recall) else ""
        raise FashionError(
            f"No index of {count:,} items at recall {recall:g} fits into {memory_mb:g} MB: "
            f"{', '.join(f'{one} takes {size:,.1f} MB' for one, size in sizes.items())}. Raise index.memory_mb{lower}."
        )
    for kind in fitting(recall):
        index = _of_kind(kind, embeddings, ids, dimension, before)
        if reach(index, embeddings, recall):
            return index
    log.warning(
        "No index within index.memory_mb=%g reaches index.recall=%g: that of %s is %.3f. Raise index.memory_mb.",
        memory_mb, recall, index.kind, index.recall,
    )  # fmt: skip
    return index


def _preferred(count: int, recall: float) -> list[str]:
    """Kinds, best first."""
    if count <= EXACT_UP_TO or recall == 1:
        return ["flat"] if recall == 1 or count < 10_000 else ["flat", "ivfpq"]
    return ["hnsw", "flat", "ivfpq"]


def _size_mb(kind: str, count: int, dimension: int) -> float:
    """Memory of an index with its default settings, ids included."""
    flat = 5 * dimension if count >= MANY else 4 * dimension  # with the 8-bit copy for single searches
    bytes_each = {"flat": flat, "hnsw": 4 * dimension + 2 * 32 * 4 + 8, "ivfpq": 16 + 8}[kind]
    return count * (bytes_each + 8) / 1e6


def reach(index: FAISSIndex, embeddings: ArrayLike, recall: float) -> bool:
    """Double the search effort of an approximate index until it has that recall, or gains none; whether it has it."""
    if index.kind == "flat":
        return True
    name = {"hnsw": "ef_search", "ivfpq": "nprobe"}[index.kind]
    if (index.recall or 0) < recall:
        index.recall = index.measure_recall(embeddings)  # after a change it was measured on few items
    while (index.recall or 0) < recall and (effort := index.settings[name]) < HARDEST:
        before = index.recall or 0
        index.set_search_params(**{name: 2 * effort})
        index.recall = index.measure_recall(embeddings)
        if index.recall < min(recall, before + GAIN):
            index.set_search_params(**{name: effort})
            index.recall = before
            break
    return (index.recall or 0) >= recall


def in_full(index: Mapping[str, Any]) -> dict[str, Any]:
    """The `index` group, `kind` and settings, with defaults filled in.

    Raises:
        FashionError: for an unknown kind or setting, or a value out of its range.
    """
    settings = dict(index)
    kind = settings.pop("kind")
    if kind == "auto":
        return {"kind": kind, **_auto(settings)}
    empty = MilvusIndex(**settings) if kind == "milvus" else FAISSIndex(kind=kind, **settings)
    return {"kind": kind, **empty.settings}


def _auto(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `index=auto`, with defaults filled in; errors as of `in_full`."""
    unknown = [name for name in settings if name not in AUTO]
    if unknown:
        raise FashionError(f"index=auto has no setting {unknown[0]!r}; it has {', '.join(AUTO)}.")
    full = AUTO | dict(settings)
    recall, memory_mb = full["recall"], full["memory_mb"]
    if not isinstance(recall, int | float) or not 0 < recall <= 1:
        raise FashionError(f"index.recall is {recall!r}; it should lie between 0 and 1.")
    if memory_mb is not None and (not isinstance(memory_mb, int | float) or not memory_mb > 0):
        raise FashionError(f"index.memory_mb is {memory_mb!r}; it should be above 0, or null for no limit.")
    return full


def built(
    embeddings: ArrayLike,
    ids: ArrayLike,
    dimension: int,
    kind: str,
    before: Reusable | None = None,
    **settings: Any,
) -> FAISSIndex | MilvusIndex:
    """The index that the `index` group describes, over `embeddings` [N,dimension] and their `ids`.

    Args:
        before: an index of the same settings over most of the embeddings, changed rather than rebuilt where that is as
            good.
    """
    if kind == "auto":
        return build_auto(embeddings, ids, dimension, before, **_auto(settings))
    if kind == "milvus":
        elsewhere = MilvusIndex(dimension, **settings)
        elsewhere.build(embeddings, ids)
        return elsewhere
    return _of_kind(kind, embeddings, ids, dimension, before, **settings)


def _of_kind(
    kind: str,
    embeddings: ArrayLike,
    ids: ArrayLike,
    dimension: int,
    before: Reusable | None,
    **settings: Any,
) -> FAISSIndex:
    if before is not None and isinstance(before.index, FAISSIndex) and before.index.kind == kind:
        kept = before.kept
        if before.index.takes(int(kept.sum()), len(kept)):
            return before.index.changed(embeddings, ids, kept)
    index = FAISSIndex(dimension, kind, **settings)
    index.build(embeddings, ids)
    return index
