"""Nearest neighbours by cosine, with FAISS."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion.errors import FashionError
from fashion.files import replacing
from fashion.search import kinds, searching
from fashion.search.searching import Found

PASSED_OVER = 0.2
"""Up to this share of the rows may be removed ones, which take up memory and time, before an index is built anew."""

REMOVED = np.iinfo(np.int64).min
"""Stands for the id of a row that no search finds."""


class FAISSIndex:
    """Unit vectors with stable int64 ids, searched by inner product, which for them is the cosine.

    ```python
    index = FAISSIndex(dimension=64)
    index.build(embeddings)
    scores, ids = index.search(query, k=10)
    ```

    Args:
        dimension: length of a vector.
        kind: `flat` (exact), `hnsw`, `ivf` or `ivfpq`.
        settings: of that kind, see `fashion.search.kinds.SETTINGS`.

    Raises:
        FashionError: for an unknown kind or setting.
    """

    largest_k = 2**31 - 1

    def __init__(self, dimension: int = 64, kind: str = "flat", **settings: Any):
        self.settings = kinds.checked(kind, settings)
        self.dimension, self.kind = dimension, kind
        self._index: Any = None
        self._ids = np.zeros(0, np.int64)  # of FAISS's rows; REMOVED of those that are found no more
        self._rows: NDArray[np.int64] | None = None  # of the items in their order; None: all rows, as they come
        self._live: Any = None  # what keeps FAISS from finding removed rows; None: none is
        self._mapped = False
        self.recall: float | None = None

    def __len__(self) -> int:
        return len(self._ids if self._rows is None else self._rows)

    def build(self, embeddings: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Index `embeddings` [N,dimension] under `ids` [N] (default 0…N-1), in place of whatever was indexed.

        Raises:
            FashionError: if there are none, they are not finite, or have another dimension; if ids repeat; or if
                there are too few to train an `ivf` or `ivfpq`.

        An approximate index is scored as it is built: `recall` says which share of the true 10 nearest it finds.
        """
        vectors, numbers = self._numbered(embeddings, ids)
        index = faiss.IndexIDMap(kinds.empty(self.kind, self.settings, self.dimension, len(vectors)))
        try:
            index.train(vectors)
        except RuntimeError as error:
            raise FashionError(
                f"index={self.kind} cannot be trained on {len(vectors)} pictures; use index=flat."
            ) from error
        index.add_with_ids(vectors, numbers)
        self._adopt(index)
        if self.kind != "flat":
            self.recall = self.measure_recall(vectors)

    def takes(self, kept: int, count: int) -> bool:
        """Whether `changed` makes an index of `count` vectors about as good as one that is built anew, and sooner.

        What is not among the `kept` ones that it holds already is removed by being passed over, up to a fifth of all.
        A graph takes any number of new ones.  The lists of ivf and ivfpq stay where the vectors that they were made of
        put them, so they take a twentieth to a tenth: as long as a new one would have a twentieth more lists at most.
        """
        rows = len(self._ids) + count - kept
        if self.kind == "flat" or self._mapped or rows - count > PASSED_OVER * rows:
            return False  # FAISS changes nothing that lies on the disk
        if self.kind == "hnsw" or kept == count:
            return True
        return self.settings["lists"] == "auto" and kinds.lists_for(count, self.settings) <= 1.05 * self._inner.nlist

    def changed(self, embeddings: ArrayLike, ids: ArrayLike, kept: NDArray[np.bool_]) -> "FAISSIndex":
        """An index over `embeddings` [N,dimension] under `ids` [N], ascending; what this one holds is not added again.

        It is a copy; this one stays as it is, so it may be searched meanwhile.

        Args:
            kept: [N], the vectors that this one has under the same ids.  Whatever else it has is found no more.

        Raises:
            FashionError: as for `build`.
        """
        vectors, numbers = self._numbered(embeddings, ids)
        other = FAISSIndex(self.dimension, self.kind, **self.settings)
        other._adopt(faiss.clone_index(self._index))
        other._ids[~np.isin(other._ids, numbers[kept])] = REMOVED
        if self.kind == "hnsw":  # a graph that was loaded would draw the levels of its first items once more
            other._inner.hnsw.rng = faiss.RandomGenerator(len(self._ids))  # type: ignore[attr-defined]
        if not kept.all():
            other._index.add_with_ids(vectors[~kept], numbers[~kept])
        other._adopt(other._index)
        other.recall = other.measure_recall(vectors)
        return other

    def _adopt(self, index: Any) -> None:
        """Search `index`, FAISS's own with ids around it; items stand in its order, or by id once some were removed."""
        self._index = index
        # A view: the ids live as long as the index does.
        self._ids = faiss.rev_swig_ptr(index.id_map.data(), index.ntotal)
        live = np.flatnonzero(self._ids != REMOVED)
        self._rows = self._live = None
        if len(live) < index.ntotal:
            self._rows = live[np.argsort(self._ids[live])]
            self._live = searching.selector(index.ntotal, live)

    def _numbered(self, embeddings: ArrayLike, ids: ArrayLike | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        vectors = searching.unit_vectors(embeddings, self.dimension)
        numbers = np.arange(len(vectors)) if ids is None else np.asarray(ids, dtype=np.int64)
        if len(numbers) != len(vectors) or len(np.unique(numbers)) != len(numbers):
            raise FashionError(
                f"There are {len(vectors)} embeddings and {len(np.unique(numbers))} different ids for them."
            )
        return vectors, numbers

    @property
    def factory(self) -> str:
        """What FAISS's own `index_factory` calls an index like this one, as it was built."""
        return kinds.factory_name(self._inner, self.kind, self.settings)

    @property
    def _inner(self) -> Any:
        """FAISS's own index, without the ids around it."""
        return faiss.downcast_index(self._index.index)

    def measure_recall(self, embeddings: ArrayLike, k: int = 10, sample: int = 1000) -> float:
        """Share of the k true nearest (itself among them) of some of the indexed vectors that a search finds."""
        vectors = searching.unit_vectors(embeddings, self.dimension)
        some = vectors[np.random.default_rng(0).permutation(len(vectors))[:sample]]
        truth = faiss.knn(some, vectors, min(k + 1, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT)[1]
        truth = truth if self._rows is None else self._rows[truth]
        found = searching.nearest(self._inner, self.kind, some, truth.shape[1], None, self._live)[1]
        return float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in zip(truth, found, strict=True)]))

    def search(self, query: ArrayLike, k: int = 10, allowed: NDArray[np.bool_] | None = None) -> Found:
        """The k nearest to each query: scores (cosines, best first) and ids, [Q,k]; equal scores in order of id.

        A k larger than the index, or than what is allowed of it, gives all there is.  Where more items than there are
        places left score the same, it takes any of them; `flat`, and `hnsw` with `allowed`, take the lowest ids.

        Args:
            query: [dimension] (gives [k] and [k]) or [Q,dimension].
            allowed: [N], in the order in which the vectors were given to `build`: only these may be found.
        """
        if self._index is None:
            raise FashionError("The index is empty; build it, or load one, before searching.")
        if k < 1:
            raise FashionError(f"k is {k}; it should be 1 at least.")
        array = np.asarray(query, dtype=np.float32)
        vectors = searching.unit_vectors(array[None] if array.ndim == 1 else array, self.dimension)
        rows = None if allowed is None else self._rows_of(allowed)
        most = len(self) if rows is None else len(rows)
        exact = self.kind == "flat" or (self.kind == "hnsw" and rows is not None)
        k, fetch = min(k, most), min(k + exact, most)
        if not k:
            empty = np.zeros((len(vectors), 0))
            scores, ids = empty.astype(np.float32), empty.astype(np.int64)
        else:
            scores, ids = self._ranked(vectors, fetch, rows)
            # Where the last place is shared by equal scores, all that share it must be seen to take the lowest ids.
            while exact and fetch < most and (scores[:, k - 1] == scores[:, -1]).any():
                fetch = min(4 * fetch, most)
                scores, ids = self._ranked(vectors, fetch, rows)
        scores, ids = scores[:, :k], ids[:, :k]
        return (scores[0], ids[0]) if array.ndim == 1 else (scores, ids)

    def _rows_of(self, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.flatnonzero(allowed) if self._rows is None else np.sort(self._rows[allowed])

    def _ranked(self, vectors: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None) -> Found:
        scores, found = searching.nearest(self._inner, self.kind, vectors, k, rows, self._live)
        ids = self._ids[found]
        order = np.lexsort((ids, -scores), axis=1)
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)

    def save(self, path: str | Path) -> None:
        """Write the index to one file, whole or not at all."""
        if self._index is None:
            raise FashionError("The index is empty; build it before saving.")
        # By Python's own file: FAISS does not say why it could not write to its.
        with replacing(Path(path)) as part, part.open("wb") as file:
            writer = faiss.PyCallbackIOWriter(file.write, 1 << 20)  # type: ignore[attr-defined]
            faiss.write_index(self._index, writer)

    @classmethod
    def load(cls, path: str | Path, kind: str = "flat", *, mmap: bool = False, **settings: Any) -> "FAISSIndex":
        """Read an index that `save` wrote.  Check where a file comes from first: FAISS trusts its content.

        Args:
            kind, settings: what it was built with; a search's settings (`ef_search`, `nprobe`) may differ.
            mmap: leave the vectors on the disk and map them, for an index larger than memory.
        """
        if not Path(path).is_file():
            raise FashionError(f"{path}: no such index; build it first.")
        try:
            loaded: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mmap else 0)
            index = cls(loaded.d, kind, **settings)
        except RuntimeError as error:
            raise FashionError(f"{path} is damaged or no FAISS index; build it again.") from error
        if loaded.id_map.size() != loaded.ntotal:
            raise FashionError(f"{path} is damaged: it has {loaded.id_map.size()} ids for {loaded.ntotal} vectors.")
        index._adopt(loaded)
        index._mapped = mmap
        index.look()
        return index

    def look(self, **settings: int) -> None:
        """Set how hard a search of an approximate index looks: `ef_search` of hnsw, `nprobe` of ivf and ivfpq."""
        self.settings |= settings
        if self.kind == "hnsw":
            self._inner.hnsw.efSearch = self.settings["ef_search"]
        elif self.kind in ("ivf", "ivfpq"):
            self._inner.nprobe = min(self.settings["nprobe"], self._inner.nlist)
