"""Nearest rows of a FAISS index, among all of them or among some."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss as typed_faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion.errors import FashionError

faiss: Any = typed_faiss  # its type stubs know nothing of what its Python layer adds

Found = tuple[NDArray[np.float32], NDArray[np.int64]]

GATHERED = 0.3
"""Up to this share of the rows, copying them and searching the copy is faster than passing over the others."""


FEW_THREADS = 4
"""Up to so many threads, fewer queries than threads are faster on one."""


def unit_vectors(embeddings: ArrayLike, dimension: int) -> NDArray[np.float32]:
    """Embeddings [N,dimension] of any length and type as float32 of length 1.

    Raises:
        FashionError: if there are none, they are zero or not finite, or have another dimension.
    """
    vectors = np.ascontiguousarray(embeddings, dtype=np.float32)
    if vectors.ndim != 2 or not len(vectors):
        raise FashionError(f"Embeddings of shape {vectors.shape} cannot be indexed; they should be [N,{dimension}].")
    if vectors.shape[1] != dimension:
        raise FashionError(f"Embeddings have {vectors.shape[1]} dimensions, and the index {dimension}.")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise FashionError("Some embeddings are zero or not finite; the model that made them is broken.")
    # Already of length 1 in most cases; dividing again would only add rounding.
    return vectors if np.abs(lengths - 1).max() < 1e-5 else vectors / lengths


def nearest(index: Any, kind: str, vectors: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None) -> Found:
    """Scores and row numbers [Q,k] of the k nearest to each of `vectors`, best first; row -1 where there are fewer.

    Args:
        index: FAISS's own, of `kind`, without its ids.
        rows: the only ones that may be found, ascending; None: all.
    """
    if kind == "flat" and len(vectors) < faiss.omp_get_max_threads() <= FEW_THREADS:
        with one_thread():
            return _nearest(index, kind, vectors, k, rows)
    return _nearest(index, kind, vectors, k, rows)


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS on one thread inside, as before outside; the number is each thread's own.

    With fewer queries than threads FAISS divides the vectors among the threads, which costs four times the work: one
    query over a million vectors took 10 ms on one of two cores, and 20 ms (39 ms of processor time) on both.  It pays
    where there are many cores.
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _nearest(index: Any, kind: str, vectors: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None) -> Found:
    if rows is None:
        scores, found = index.search(vectors, k)
        return scores, found
    exact = kind in ("flat", "hnsw")
    # HNSW finds too few when most of what it walks past is not allowed: its own vectors are searched instead.
    if exact and (kind == "hnsw" or len(rows) <= GATHERED * index.ntotal):
        scores, found = faiss.knn(vectors, stored(index)[rows], k, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, np.where(found < 0, -1, rows[found])
    bitmap = np.zeros(index.ntotal, np.bool_)
    bitmap[rows] = True
    selector = faiss.IDSelectorBitmap(np.packbits(bitmap, bitorder="little"))
    if exact:
        parameters = faiss.SearchParameters(sel=selector)
    else:  # a filter may have emptied the nearest lists: look into more
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=_probes(index, len(rows) / index.ntotal))
    scores, found = index.search(vectors, k, params=parameters)
    return scores, found


def stored(index: Any) -> NDArray[np.float32]:
    """The vectors [N,dimension] that a flat or HNSW index holds: a view, not a copy."""
    flat = faiss.downcast_index(index.storage) if hasattr(index, "storage") else index
    view: NDArray[np.float32] = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
    return view.reshape(flat.ntotal, flat.d)


def _probes(index: Any, share: float) -> int:
    return int(min(index.nlist, np.ceil(index.nprobe / max(share, 1e-9))))
