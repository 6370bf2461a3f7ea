"""An exact search that reads little memory: it skips groups that are too far away, and reads others in 8 bits a number.

A search of one query is as slow as the vectors are read from memory.  Of an encoder's embeddings most lie far from a
query, together with others of their kind; and of the rest 8 bits a number say which few are to be compared as they are.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.search.searching import LENGTH, Found, faiss, searched

GROUPS = 64
"""Among 100,000 crops of photos of garments a search reads 17% of them, and with 1024 groups hardly less."""

FIRST = 3
"""Groups that are searched before others are ruled out."""

FEW = 0.005
"""A k of up to this share of the vectors is searched in this way; measured, also with vectors that form no groups."""

MANY = 0.1
"""Above this share of candidates, as where all vectors are about the same, a search through all takes no longer."""

PATIENCE = 20
"""Given up once searches that fell back to the full search outnumber those that did not by this many."""

BLOCK = 4096

ROUNDING = float(np.finfo(np.float32).eps)
"""Times the dimension: how far float32 can be off in two products of vectors of length 1."""


class Rough:
    """Finds the nearest of `vectors` [N,dimension], of length 1, or says that all are to be searched.

    Each vector is in the group of the centre that is nearest to it.  The 8 bits of each number divide the range between
    the smallest and the largest in its column.
    """

    def __init__(self, vectors: NDArray[np.float32]):
        dimension = vectors.shape[1]
        self.vectors = vectors
        count = min(GROUPS, len(vectors))
        means = faiss.Kmeans(dimension, count, niter=10, spherical=True, min_points_per_centroid=1)
        means.train(vectors)
        self.centres: NDArray[np.float32] = means.centroids
        centres = faiss.IndexFlatIP(dimension)
        centres.add(self.centres)
        self.codes = faiss.IndexIVFScalarQuantizer(
            centres, dimension, count, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
        )
        self.codes.sq.train(vectors)  # on all: FAISS's own training samples 100,000, and clips others' values
        self.codes.is_trained = True
        cosines, groups = searched(centres, vectors, 1, None)
        self.codes.add_core(len(vectors), faiss.swig_ptr(vectors), None, faiss.swig_ptr(groups))
        off = max(LENGTH, float(np.abs(np.sqrt(np.einsum("nd,nd->n", vectors, vectors)) - 1).max()))
        self.slack = LENGTH + off + ROUNDING * dimension
        """How far a cosine can be off, as lengths are only about 1."""
        lowest = np.ones(count)
        np.minimum.at(lowest, groups[:, 0], cosines[:, 0])
        self.radii = np.arccos(np.maximum(lowest - self.slack, -1))
        """[groups]: no vector of a group is at a larger angle to its centre."""
        self.error = self._farthest() * (1 + LENGTH) + ROUNDING * (dimension + 1) * (1 + off)
        """A score by the codes is off by so much at most: by what a vector lost, times the query's length of 1."""
        self.vain = 0
        """Searches that fell back to the full search, less those that did not; never below 0."""

    def _farthest(self) -> float:
        """The longest difference between a vector and its codes."""
        farthest = 0.0
        for at in range(0, len(self.vectors), BLOCK):
            block = self.vectors[at : at + BLOCK]
            lost = self.codes.sq.decode(self.codes.sq.compute_codes(block)) - block
            farthest = max(farthest, float(np.linalg.norm(lost, axis=1).max()))
        return farthest

    def worth(self, k: int) -> bool:
        """Whether a search for k is probably faster so than through all."""
        return k <= FEW * len(self.vectors) and self.vain < PATIENCE

    def nearest(self, queries: NDArray[np.float32], k: int, among: Any = None) -> Found | None:
        """Scores and rows [Q,k] of the k nearest, best first, just as a search through all gives them.

        Args:
            queries: [Q,dimension], of length 1.
            k: from 1 to as many as may be found.
            among: FAISS's selector of those; None: all.

        Returns:
            None where the groups tell too little: the first hold fewer than k, or too many are about as near.
        """
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        for at, query in enumerate(queries[:, None]):
            candidates = self._candidates(query, k, among)
            if candidates is None or len(candidates) > MANY * len(self.vectors):
                self.vain += candidates is not None or among is None  # a filter says nothing of other searches
                return None
            candidates = np.sort(candidates)  # so that equal scores come as they do in a search through all
            scores[at], order = faiss.knn(query, self.vectors[candidates], k, metric=faiss.METRIC_INNER_PRODUCT)
            rows[at] = candidates[order[0]]
        self.vain = max(self.vain - 1, 0)
        return scores, rows

    def _candidates(self, query: NDArray[np.float32], k: int, among: Any) -> NDArray[np.int64] | None:
        """The rows that may be among the k nearest; None if the first groups have not k."""
        cosines = self.centres @ query[0]
        best = self._best(np.argsort(-cosines)[:FIRST], query, k, among)
        if best is None:  # as with a filter on another kind of item: all would be candidates
            return None
        least = best - self.error  # k are surely as near as that
        reached = np.flatnonzero(self.highest(cosines) >= least)
        return self._above(least - self.error, reached, query, among)

    def highest(self, cosines: NDArray[np.float32]) -> NDArray[np.float64]:
        """Upper bounds [groups] of the scores in each group, from its centre's, by the triangle inequality."""
        angles = np.arccos(np.minimum(cosines + self.slack, 1)) - self.radii
        return np.cos(np.maximum(angles, 0)) + self.slack

    # FAISS's Python wrappers of both take no selector, and only the index's own `nprobe`, which threads share.

    def _best(self, groups: NDArray[np.int64], query: NDArray[np.float32], k: int, among: Any) -> float | None:
        """The k-th best score by the codes of these groups; None if they have fewer."""
        scores, rows = np.empty(k, np.float32), np.empty(k, np.int64)
        self.codes.search_preassigned_c(
            1, faiss.swig_ptr(query), k, faiss.swig_ptr(groups), faiss.swig_ptr(_UNUSED), faiss.swig_ptr(scores),
            faiss.swig_ptr(rows), False, faiss.SearchParametersIVF(sel=among, nprobe=len(groups)),
        )  # fmt: skip
        return None if rows[-1] < 0 else float(scores[-1])

    def _above(
        self, score: float, groups: NDArray[np.int64], query: NDArray[np.float32], among: Any
    ) -> NDArray[np.int64]:
        """The rows of these groups whose score by the codes is higher."""
        found = faiss.RangeSearchResult(1)
        self.codes.range_search_preassigned_c(
            1, faiss.swig_ptr(query), score, faiss.swig_ptr(groups), faiss.swig_ptr(_UNUSED), found, False,
            faiss.SearchParametersIVF(sel=among, nprobe=len(groups)),
        )  # fmt: skip
        rows: NDArray[np.int64] = faiss.rev_swig_ptr(found.labels, int(faiss.rev_swig_ptr(found.lims, 2)[1]))
        return rows.copy()  # they go with `found`


_UNUSED = np.zeros(GROUPS, np.float32)
"""The centres' scores, which FAISS reads only where codes are of differences from the centre (`by_residual`)."""
