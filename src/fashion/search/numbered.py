"""A FAISS index with an id for each of its rows, as it is searched."""

import itertools
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion.errors import FashionError
from fashion.search import kinds, searching
from fashion.search.rough import Rough
from fashion.search.searching import Found

REMOVED = np.iinfo(np.int64).min
"""Stands for the id of a row that no search finds."""

MANY = 20_000
"""Vectors from which on a second, rough copy makes an exact search faster; fewer stay in the processor's cache."""

SOON = 50
"""Searches with one query after which that copy is made: making it takes about as long as they did."""

WIDER = 100
"""So many are fetched to see which share the last place; where all of them do, a pass through all takes less time."""


class Numbered:
    """FAISS's own index, `whole`, of `kind`, with an id for each row; `mapped` where its vectors stay on the disk.

    Its rows never change, and a search holds on to it: another thread may put another in its place meanwhile.
    Items stand in the order of its rows, or by id once some were removed.
    """

    def __init__(self, whole: Any, kind: str, mapped: bool = False):
        self.whole, self.kind, self.mapped = whole, kind, mapped
        self.ids = ids_in(whole)
        self.rough: Rough | None = None
        self._asked = itertools.count(1)  # atomic, as threads share it
        live = np.flatnonzero(self.ids != REMOVED)
        self.rows: NDArray[np.int64] | None = None  # of the items in their order; None: all rows, as they come
        self.live: Any = None  # what keeps FAISS from finding removed rows; None: none is
        if len(live) < whole.ntotal:
            self.rows = live[np.argsort(self.ids[live])]
            self.live = searching.selector(whole.ntotal, live)

    def __len__(self) -> int:
        return len(self.ids if self.rows is None else self.rows)

    @property
    def inner(self) -> Any:
        """FAISS's own index, without the ids around it; it lives as long as `whole`."""
        return faiss.downcast_index(self.whole.index)

    def quicken(self) -> None:
        """Make single searches of a large flat index faster, for up to half more memory and two seconds a million."""
        if self.rough is None and self.kind == "flat" and not self.mapped and len(self) >= MANY:
            self.rough = Rough(searching.stored(self.inner))

    def rows_of(self, allowed: ArrayLike) -> NDArray[np.int64]:
        """The rows, ascending, of the items that `allowed` [N] says True of.

        Raises:
            FashionError: if it says something else than True or False, or not of each item.
        """
        mask = np.asarray(allowed)
        if mask.dtype != np.bool_ or mask.shape != (len(self),):
            raise FashionError(
                f"allowed has shape {mask.shape} and type {mask.dtype}; it should be ({len(self)},) and bool, True for "
                "each item that may be found."
            )
        return np.flatnonzero(mask) if self.rows is None else np.sort(self.rows[mask])

    def best(self, vectors: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None) -> Found:
        """Scores and ids [Q,k] of the k nearest among `rows` (None: all), of all there are where there are fewer."""
        most = len(self) if rows is None else len(rows)
        exact = self.kind == "flat" or (self.kind == "hnsw" and rows is not None)
        k, fetch = min(k, most), min(k + exact, most)
        if rows is None and searching.singly(len(vectors)) and next(self._asked) == SOON:
            self.quicken()
        if not k:
            return np.zeros((len(vectors), 0), np.float32), np.zeros((len(vectors), 0), np.int64)
        scores, ids = self._ranked(vectors, fetch, rows)
        # Where the last place is shared by equal scores, all that share it must be seen to take the lowest ids.
        tied = np.flatnonzero((scores[:, k - 1] == scores[:, -1]) & (fetch < most) & exact)
        scores, ids = scores[:, :k], ids[:, :k]
        if len(tied):
            fetch = min(max(4 * fetch, WIDER), most)
            more, numbers = self._ranked(vectors[tied], fetch, rows)
            scores[tied], ids[tied] = more[:, :k], numbers[:, :k]
            tied = tied[(more[:, k - 1] == more[:, -1]) & (fetch < most)]
        for at in tied:
            scores[at], ids[at] = self._lowest(vectors[at : at + 1], float(scores[at, -1]), k, rows)
        return scores, ids

    def _lowest(self, vector: NDArray[np.float32], least: float, k: int, rows: NDArray[np.int64] | None) -> Found:
        """Scores and ids [k] of the k nearest to a vector [1,dimension], among all that score `least` or more."""
        # A little less, as FAISS rounds otherwise where it searches for many at once.
        scores, found = searching.above(self.inner, self.kind, vector, least - searching.LENGTH, rows)
        ids = self.ids[found]
        order = np.lexsort((ids, -scores))[:k]
        return scores[order], ids[order]

    def _ranked(self, vectors: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None) -> Found:
        scores, found = searching.nearest(self.inner, self.kind, vectors, k, rows, self.live, self.rough)
        ids = self.ids[found]
        order, queries = np.lexsort((ids, -scores), axis=1), np.arange(len(ids))[:, None]
        return scores[queries, order], ids[queries, order]

    def recall(self, vectors: NDArray[np.float32], k: int = 10, sample: int = 1000) -> float:
        """As `FAISSIndex.measure_recall`, of `vectors` [N,dimension], its own."""
        some = vectors[np.random.default_rng(0).permutation(len(vectors))[:sample]]
        truth = faiss.knn(some, vectors, min(k + 1, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT)[1]
        truth = truth if self.rows is None else self.rows[truth]
        found = searching.nearest(self.inner, self.kind, some, truth.shape[1], None, self.live)[1]
        return float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in zip(truth, found, strict=True)]))


def ids_in(whole: Any) -> NDArray[np.int64]:
    """The ids [rows] in FAISS's index: a view, which lives as long as the index and until rows are added."""
    ids: NDArray[np.int64] = faiss.rev_swig_ptr(whole.id_map.data(), whole.ntotal)
    return ids


def checked_ids(ids: ArrayLike, count: int) -> NDArray[np.int64]:
    """`ids` for `count` vectors.

    Raises:
        FashionError: if they are no whole numbers, repeat, or are not as many.
    """
    numbers = np.asarray(ids)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise FashionError(
            f"The ids have shape {numbers.shape} and type {numbers.dtype}; they should be whole numbers [N]."
        )
    if len(numbers) != count or len(np.unique(numbers)) != count:
        raise FashionError(f"There are {count} embeddings and {len(np.unique(numbers))} different ids for them.")
    if not REMOVED < int(numbers.min()) <= int(numbers.max()) < 2**63:
        raise FashionError(f"The ids go from {numbers.min()} to {numbers.max()}; they should lie within ±(2^63 - 1).")
    return numbers.astype(np.int64)


def read(path: Path, mmap: bool) -> Numbered:
    """The index in the file.

    Raises:
        FashionError: if it is missing, damaged, or none that `FAISSIndex.save` writes.
    """
    if not path.is_file():
        raise FashionError(f"{path}: no such index; build it first.")
    try:
        whole: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mmap else 0)
    except RuntimeError as error:
        raise FashionError(f"{path} is damaged or no FAISS index; build it again.") from error
    except MemoryError as error:
        raise FashionError(
            f"{path} is damaged or larger than memory; build it again, or map it (mmap=True)."
        ) from error
    kind = kinds.kind_of(faiss.downcast_index(whole.index)) if isinstance(whole, faiss.IndexIDMap) else None
    if kind is None:
        raise FashionError(f"{path} is another FAISS index than `FAISSIndex.save` writes; build one by `FAISSIndex`.")
    if {whole.id_map.size(), whole.index.ntotal} != {whole.ntotal}:
        raise FashionError(f"{path} is damaged: it has {whole.id_map.size()} ids for {whole.ntotal} vectors.")
    return Numbered(whole, kind, mmap)
