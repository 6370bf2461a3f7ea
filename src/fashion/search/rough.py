"""An exact search in two steps: through all vectors in 8 bits a number, then the best of them as they are.

A search of one query is as slow as the vectors are read from memory.  A quarter of the bytes takes about half the time.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.search.searching import LENGTH, Found, faiss, searched

WIDER = 8
"""Candidates for each vector that is asked for, ..."""

LEAST = 128
"""... and at least so many: among 100,000 crops of photos of garments 64 were enough for each of 341 queries."""

SHARE = 150
"""The first step pays where there are so many times as many vectors as candidates, of which FAISS keeps a heap."""

PATIENCE = 20
"""So many more searches than it helped the first step may be in vain, as where each vector has hundreds of copies."""

BLOCK = 4096

ROUNDING = float(np.finfo(np.float32).eps)
"""Times the dimension: how far float32 can be off in two products of vectors of length 1."""


class Rough:
    """Finds the nearest of `vectors` [N,dimension], of length 1, in two steps, or says that it cannot.

    The 8 bits of each number divide the range between the smallest and the largest in its column.
    """

    def __init__(self, vectors: NDArray[np.float32]):
        dimension = vectors.shape[1]
        self.vectors = vectors
        self.codes = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        self.codes.train(vectors)
        self.codes.add(vectors)
        self.error = self._farthest() * (1 + LENGTH) + ROUNDING * dimension
        """A score of the first step is off by so much at most: by what a vector lost, times the query's length of 1."""
        self.vain = 0
        """Searches in which the first step was in vain, less those in which it helped."""

    def _farthest(self) -> float:
        """The longest difference between a vector and its codes."""
        farthest = 0.0
        for at in range(0, len(self.vectors), BLOCK):
            block = self.vectors[at : at + BLOCK]
            lost = np.asarray(self.codes.reconstruct_n(at, len(block))) - block  # a tensor, with FAISS's torch_utils
            farthest = max(farthest, float(np.linalg.norm(lost, axis=1).max()))
        return farthest

    def worth(self, k: int) -> bool:
        """Whether a search for k is probably faster with the first step than without."""
        return max(WIDER * k, LEAST) * SHARE <= len(self.vectors) and self.vain <= PATIENCE

    def nearest(self, queries: NDArray[np.float32], k: int, among: Any = None) -> Found | None:
        """Scores and rows [Q,k] of the k nearest, best first, just as a search through the vectors gives them.

        Args:
            queries: [Q,dimension], of length 1.
            k: from 1 to as many as may be found.
            among: FAISS's selector of those; None: all.

        Returns:
            None where the codes do not tell enough, because too many are about as near.
        """
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        for at, query in enumerate(queries[:, None]):
            about, found = searched(self.codes, query, max(WIDER * k, LEAST), faiss.SearchParameters(sel=among))
            candidates = found[found >= 0]  # as many as may be found, where they are fewer
            exact, order = faiss.knn(query, self.vectors[candidates], k, metric=faiss.METRIC_INNER_PRODUCT)
            if exact[0, -1] <= about[0, -1] + self.error:  # one that was not looked at could be as near
                self.vain += 1
                return None
            scores[at], rows[at] = exact[0], candidates[order[0]]
        self.vain = max(self.vain - 1, 0)
        return scores, rows
