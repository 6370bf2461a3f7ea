"""What searches find, and how well: pure functions of labels, embeddings and ranks.

Definitions differ between libraries.  Ours: R is the number of relevant gallery items of a query (its own class,
itself excluded); map is mean over queries of Σ_{i≤R} P(i)·rel(i) / R ("A Metric Learning Reality Check",
https://arxiv.org/abs/2003.08505).  Everything is computed from ranks, never from the scores' values.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fashion.errors import FashionError
from fashion.metrics import SEARCH, Floats

ENTRIES = 5_000_000
"""Scores held at once; what is computed of each takes up about 60 bytes at its peak."""


@dataclass(frozen=True)
class Retrieval:
    """What each query found; arrays of one value a query [Q].

    labels: the queries' classes.  relevant: R.  nearest: the first item's score.  figures: metric → values, which are
    0 and mean nothing where R is 0.  top1, top5: any relevant item among the first.  precision@k, recall@k: relevant
    among the first k, over k and over R.  r_precision, map: at R, the latter the average precision.  mrr: 1 / rank of
    the first relevant item.
    """

    labels: NDArray[np.int64]
    relevant: NDArray[np.int64]
    nearest: Floats
    figures: dict[str, Floats]

    def per_query(self) -> dict[str, Floats]:
        """Metric → one value for each query that has anything to find (R > 0)."""
        return {name: values[self.relevant > 0] for name, values in self.figures.items()}

    def summary(self, prefix: str = "") -> dict[str, float]:
        """Metric → mean over queries, and `macro_…`: mean over classes of the class means.

        Queries with nothing to find are left out and counted as `unanswerable`; where all are, there are no figures.
        """
        _, number, count = np.unique(self.labels[self.relevant > 0], return_inverse=True, return_counts=True)
        found: dict[str, float] = {}
        for name, values in self.per_query().items():
            if not len(values):
                continue
            found[f"{prefix}{name}"] = float(values.mean())
            found[f"{prefix}macro_{name}"] = float((np.bincount(number, values) / count).mean())
        found[f"{prefix}unanswerable"] = float((self.relevant == 0).sum())
        return found


def retrieval(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int64],
    gallery: NDArray[np.float32],
    gallery_labels: NDArray[np.int64],
    *,
    exclude: NDArray[np.int64] | None = None,
    only: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    chunk: int | None = None,
) -> Retrieval:
    """Search each query in the gallery by cosine, and say what was found.

    Equal scores rank in gallery order.  Memory grows with chunk × gallery, not with queries × gallery.

    Args:
        queries: [Q,D] of length 1.  gallery: [G,D] of length 1.
        exclude: for leave-one-out, [Q] or [Q,E]: the gallery rows that are the query itself, or -1 for none.
        only: (query_classes [Q], gallery_classes [G]): a query finds items of its class alone, as with a filter; R
            stays that of the whole gallery, so what the filter hides counts as missed.
        chunk: queries searched at once; None: as many as keep memory below about half a gigabyte.

    Raises:
        FashionError: if the gallery or the queries are empty or hold NaN or infinity, or their dimensions differ.
    """
    if not len(queries) or not len(gallery):
        raise FashionError(f"There are {len(queries)} queries and {len(gallery)} gallery pictures; both are needed.")
    if queries.shape[1] != gallery.shape[1]:
        raise FashionError(f"Queries have {queries.shape[1]} dimensions and the gallery has {gallery.shape[1]}.")
    for what, vectors in (("queries", queries), ("gallery", gallery)):
        if not np.isfinite([vectors.min(), vectors.max()]).all():  # without a copy: a gallery may be large
            raise FashionError(
                f"Embeddings of the {what} hold NaN or infinity, which have no rank; the training of the model that "
                "gave them diverged: lower its learning rate."
            )
    chunk = chunk or int(np.clip(ENTRIES // len(gallery), 1, 256))
    parts = [
        _search_chunk(
            queries[at : at + chunk],
            query_labels[at : at + chunk],
            gallery,
            gallery_labels,
            None if exclude is None else exclude[at : at + chunk],
            None if only is None else (only[0][at : at + chunk], only[1]),
        )
        for at in range(0, len(queries), chunk)
    ]
    relevant, nearest, figures = zip(*parts, strict=True)
    joined = {name: np.concatenate([part[name] for part in figures]) for name in SEARCH}
    return Retrieval(query_labels, np.concatenate(relevant), np.concatenate(nearest), joined)


def leave_one_out(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> Retrieval:
    """Search each of the vectors [N,D] among the others."""
    return retrieval(vectors, labels, vectors, labels, exclude=np.arange(len(labels)))


def _search_chunk(
    queries: NDArray[np.float32],
    labels: NDArray[np.int64],
    gallery: NDArray[np.float32],
    gallery_labels: NDArray[np.int64],
    exclude: NDArray[np.int64] | None,
    only: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
) -> tuple[NDArray[np.int64], Floats, dict[str, Floats]]:
    """Of some queries: how many items are relevant, the nearest one's score, and the figures."""
    scores = queries @ gallery.T
    same = labels[:, None] == gallery_labels[None, :]
    if exclude is not None:
        exclude = exclude.reshape(len(queries), -1)
        own = exclude >= 0
        rows, columns = np.nonzero(own)[0], exclude[own]
        scores[rows, columns] = -np.inf  # ranks last, and is not relevant
        same[rows, columns] = False
    total = same.sum(axis=1)
    if only is not None:
        hidden = only[0][:, None] != only[1][None, :]
        scores[hidden] = -np.inf
        same &= ~hidden
    depth = min(max(int(total.max(initial=0)), 10), scores.shape[1])
    relevant = np.take_along_axis(same, _first(scores, depth), axis=1)
    found = relevant.cumsum(axis=1)
    place = np.arange(1, depth + 1)
    within = relevant & (place <= total[:, None])
    share = np.maximum(total, 1)
    among_first = {k: found[:, min(k, depth) - 1] for k in (1, 5, 10)}
    figures: dict[str, Floats] = {f"top{k}": (among_first[k] > 0).astype(np.float64) for k in (1, 5)}
    for k in (5, 10):
        figures |= {f"precision@{k}": among_first[k] / k, f"recall@{k}": among_first[k] / share}
    figures["r_precision"] = within.sum(axis=1) / share
    figures["map"] = (found / place * within).sum(axis=1) / share
    rank = relevant.argmax(axis=1) + 1
    far = same.any(axis=1) & ~relevant.any(axis=1)
    rank[far] = _first_rank(scores[far], same[far])
    figures["mrr"] = np.where(same.any(axis=1), 1 / rank, 0.0)
    return total, scores.max(axis=1).astype(np.float64), figures


def _first(scores: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
    """[Q,depth] columns of the highest scores, best first, equal ones in column order."""
    if depth < scores.shape[1] // 4:
        # Everything at least as good as the depth-th score, then sorted: cheaper than sorting whole rows.
        threshold = np.partition(scores, -depth, axis=1)[:, -depth]
        ordered = np.empty((len(scores), depth), dtype=np.int64)
        for row, (line, bar) in enumerate(zip(scores, threshold, strict=True)):
            candidates = np.flatnonzero(line >= bar)
            ordered[row] = candidates[np.argsort(-line[candidates], kind="stable")[:depth]]
        return ordered
    return np.argsort(-scores, axis=1, kind="stable")[:, :depth]


def _first_rank(scores: NDArray[np.float32], same: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[Q] rank of the first relevant item, by counting what is ahead of it."""
    best = np.where(same, scores, -np.inf)
    at = best.argmax(axis=1)  # the first of equal ones
    top = best[np.arange(len(scores)), at][:, None]
    ahead = (scores > top) | ((scores == top) & (np.arange(scores.shape[1]) < at[:, None]))
    return ahead.sum(axis=1) + 1
