"""Nearest rows of a FAISS index, among all of them or among some."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import faiss as typed_faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion.errors import FashionError

if TYPE_CHECKING:
    from fashion.search.rough import Rough

faiss: Any = typed_faiss  # its type stubs know nothing of what its Python layer adds

Found = tuple[NDArray[np.float32], NDArray[np.int64]]

GATHERED = 0.3
"""Up to this share of the rows, copying them and searching the copy is faster than passing over the others."""

GATHERED_ROUGH = 0.05
"""The same where the search is `rough`."""

FEW_THREADS = 4
"""With up to so many threads, a batch of fewer queries than threads is faster on one."""


LENGTH = 1e-5
"""How far from 1 a length may be that counts as 1."""

SHORTEST = 1e-18
"""A vector that is shorter counts as zero: float32 cannot tell its length."""


def numbers(embeddings: ArrayLike) -> NDArray[np.float32]:
    """Embeddings of any type as float32.

    Raises:
        FashionError: if they are no numbers, such as text.
    """
    try:
        return np.asarray(embeddings, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: torch's, for a tensor that requires grad
        raise FashionError(f"The embeddings are no array of numbers ({error}).") from error


def unit_vectors(embeddings: ArrayLike, dimension: int) -> NDArray[np.float32]:
    """Embeddings [N,dimension] of any length and type as float32 of length 1.

    Raises:
        FashionError: if there are none, they are zero, not finite or no numbers, or have another dimension.
    """
    vectors = numbers(embeddings)
    if vectors.ndim != 2 or not len(vectors):
        raise FashionError(f"The embeddings have shape {vectors.shape}; it should be (N, {dimension}), N above 0.")
    if vectors.shape[1] != dimension:
        raise FashionError(f"Embeddings have {vectors.shape[1]} dimensions, and the index {dimension}.")
    vectors = np.ascontiguousarray(vectors)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or lengths.min() < SHORTEST:
        raise FashionError("Some embeddings are zero or not finite; the model that made them is broken.")
    # Already of length 1 in most cases; dividing again would only add rounding.
    return vectors if np.abs(lengths - 1).max() < LENGTH else vectors / lengths


def nearest(
    index: Any,
    kind: str,
    vectors: NDArray[np.float32],
    k: int,
    rows: NDArray[np.int64] | None,
    live: Any = None,
    rough: "Rough | None" = None,
) -> Found:
    """Scores and row numbers [Q,k] of the k nearest to each of `vectors`, best first.

    Args:
        index: FAISS's own, of `kind`, without its ids.
        k: from 1 to as many as may be found.
        rows: the only ones that may be found, ascending; None: all that are live.
        live: a `selector` of most rows, of an index other than flat; None: all are.
        rough: of the vectors of a flat index.
    """
    if kind == "hnsw" and rows is None:
        return _walked(index, vectors, k, live)
    if kind == "hnsw":  # finds too few when most of what it walks past is not allowed: its vectors are searched instead
        index, kind = faiss.downcast_index(index.storage), "flat"
    if kind != "flat":
        return _probed(index, vectors, k, rows, live)
    if singly(len(vectors)):
        with one_thread():
            return _exact(index, vectors, k, rows, rough)
    return _exact(index, vectors, k, rows)


def above(index: Any, kind: str, vector: NDArray[np.float32], score: float, rows: NDArray[np.int64] | None) -> Found:
    """Scores and row numbers of all that score higher with `vector` [1,dimension], in any order; flat and hnsw only.

    Args:
        index, kind, rows: as for `nearest`.
    """
    flat = faiss.downcast_index(index.storage) if kind == "hnsw" else index
    search = getattr(flat, "range_search_numpy", flat.range_search)
    _, scores, found = search(vector, score, params=faiss.SearchParameters(sel=selector(index.ntotal, rows)))
    return scores, found


def singly(count: int) -> bool:
    """Whether so many queries are searched on one thread, each by itself: fewer than there are threads, or one."""
    return count < max(faiss.omp_get_max_threads(), 2) <= FEW_THREADS


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


def _exact(
    index: Any, vectors: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None, rough: "Rough | None" = None
) -> Found:
    """`nearest` in a flat index."""
    if rough and rough.worth(k) and (rows is None or len(rows) > GATHERED_ROUGH * index.ntotal):
        quickly = rough.nearest(vectors, k, selector(index.ntotal, rows))
        if quickly:
            return quickly
    if rows is not None and len(rows) <= GATHERED * index.ntotal:
        scores, found = faiss.knn(vectors, stored(index)[rows], k, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, rows[found]
    return searched(index, vectors, k, faiss.SearchParameters(sel=selector(index.ntotal, rows)))


def _walked(index: Any, vectors: NDArray[np.float32], k: int, live: Any) -> Found:
    """`nearest` along the graph of an HNSW index; exactly for queries from which it reaches too few."""
    parameters = None if live is None else faiss.SearchParametersHNSW(sel=live, efSearch=index.hnsw.efSearch)
    scores, found = searched(index, vectors, k, parameters)
    short = _short(found)
    if short.any():
        storage = faiss.downcast_index(index.storage)
        scores[short], found[short] = searched(storage, vectors[short], k, faiss.SearchParameters(sel=live))
    return scores, found


def _probed(index: Any, vectors: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None, live: Any) -> Found:
    """`nearest` in the lists of an IVF index: in more of them where a filter leaves some out, or they hold too few."""
    among, allowed = (live, index.ntotal) if rows is None else (selector(index.ntotal, rows), len(rows))
    probes = min(index.nlist, math.ceil(index.nprobe * index.ntotal / allowed))
    scores, found = searched(index, vectors, k, faiss.SearchParametersIVF(sel=among, nprobe=probes))
    # What is allowed may all lie in far lists, such as those of another kind of garment.
    while probes < index.nlist and (short := _short(found)).any():
        probes = min(index.nlist, 4 * probes)
        parameters = faiss.SearchParametersIVF(sel=among, nprobe=probes)
        scores[short], found[short] = searched(index, vectors[short], k, parameters)
    return scores, found


def searched(index: Any, vectors: NDArray[np.float32], k: int, parameters: Any) -> Found:
    """FAISS's own search, which its `torch_utils` (pytorch-metric-learning loads them) rename to `search_numpy`."""
    search = getattr(index, "search_numpy", index.search)
    scores, found = search(vectors, k, params=parameters)
    return scores, found


def _short(found: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For which queries [Q] FAISS found fewer than k rows [Q,k]: the last of them are -1."""
    short: NDArray[np.bool_] = found[:, -1] < 0
    return short


def selector(count: int, rows: NDArray[np.int64] | None) -> Any:
    """What lets FAISS find only these of `count` rows; None: all."""
    if rows is None:
        return None
    bitmap = np.zeros(count, np.bool_)
    bitmap[rows] = True
    return faiss.IDSelectorBitmap(np.packbits(bitmap, bitorder="little"))


def stored(index: Any) -> NDArray[np.float32]:
    """The vectors [N,dimension] that a flat index holds: a view, not a copy."""
    view: NDArray[np.float32] = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    return view.reshape(index.ntotal, index.d)
