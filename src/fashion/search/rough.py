"""An exact search in two steps: through all vectors in 8 bits a number, then the best of them as they are.

One query after another is as slow as memory is read; a quarter of the bytes takes less than half of the time.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.search.searching import Found, faiss, searched

WIDER = 8
"""Times as many as are asked for are looked at exactly, ..."""

LEAST = 128
"""... and at least so many: among 100,000 crops of photos of garments 64 were enough for each of 341 queries."""

SHARE = 50
"""Among fewer vectors than so many times those that are looked at exactly the first step saves too little."""

BLOCK = 4096

ROUNDING = float(np.finfo(np.float32).eps)
"""Times the dimension: how far float32 can be off in two products of vectors of length 1."""

LONGER = 1 + 1e-5
"""What counts as length 1 in `unit_vectors`."""


class Rough:
    """What says sooner which of `vectors` [N,dimension], of length 1, can be the nearest, and when it cannot say.

    The 8 bits of each number divide the range between the smallest and the largest in its column.
    """

    def __init__(self, vectors: NDArray[np.float32]):
        dimension = vectors.shape[1]
        self.vectors = vectors
        self.codes = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        self.codes.train(vectors)
        self.codes.add(vectors)
        self.error = self._farthest() * LONGER + ROUNDING * dimension
        """A score of the first step is off by so much at most: by what a vector lost, times the query's length of 1."""

    def _farthest(self) -> float:
        """The longest difference between a vector and its codes."""
        farthest = 0.0
        for at in range(0, len(self.vectors), BLOCK):
            block = self.vectors[at : at + BLOCK]
            lost = self.codes.reconstruct_n(at, len(block)) - block
            farthest = max(farthest, float(np.linalg.norm(lost, axis=1).max()))
        return farthest

    def nearest(self, queries: NDArray[np.float32], k: int, among: Any = None) -> Found | None:
        """Scores and rows [Q,k] of the k nearest, best first, just as a search through the vectors gives them.

        Args:
            queries: [Q,dimension], of length 1.
            k: from 1 to as many as may be found.
            among: FAISS's selector of those; None: all.

        Returns:
            None where the codes do not tell enough: k is too large, or too many are about as near.
        """
        width = max(WIDER * k, LEAST)
        if width * SHARE > len(self.vectors):
            return None
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        for at, query in enumerate(queries[:, None]):
            about, candidates = searched(self.codes, query, width, faiss.SearchParameters(sel=among))
            candidates = np.sort(candidates[candidates >= 0])  # as many as may be found, where they are less than width
            exact, found = faiss.knn(query, self.vectors[candidates], k, metric=faiss.METRIC_INNER_PRODUCT)
            if exact[0, -1] <= about[0, -1] + self.error:  # one that was not looked at could be as near
                return None
            scores[at], rows[at] = exact[0], candidates[found[0]]
        return scores, rows
