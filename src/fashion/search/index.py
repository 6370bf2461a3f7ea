"""Nearest neighbours by cosine, with FAISS."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion.errors import FashionError
from fashion.files import replacing
from fashion.search import kinds, searching
from fashion.search.numbered import REMOVED, Numbered, checked_ids, ids_in, read
from fashion.search.searching import Found

PASSED_OVER = 0.2
"""Up to this share of the rows may be removed ones, which take up memory and time, before an index is built anew."""

FEW = 200
"""Vectors that measure a changed index's recall, instead of 1,000: with these it would take most of a small change."""


class FAISSIndex:
    """Unit vectors with stable int64 ids, searched by inner product, which for them is the cosine.

    ```python
    index = FAISSIndex(dimension=64)
    index.build(embeddings)
    scores, ids = index.search(query, k=10)
    ```

    Several threads may search it, also while one builds it anew: each search is of the old vectors or of the new ones.

    Args:
        dimension: length of a vector.
        kind: `flat` (exact), `hnsw`, `ivf` or `ivfpq`.
        settings: of that kind, see `fashion.search.kinds.SETTINGS`.

    Raises:
        FashionError: for an unknown kind or setting, or a value out of its range.
    """

    largest_k = 2**31 - 1

    def __init__(self, dimension: int = 64, kind: str = "flat", **settings: Any):
        self.settings = kinds.checked(kind, settings)
        self.dimension, self.kind = kinds.whole_number("dimension", dimension), kind
        self._held: Numbered | None = None
        self.recall: float | None = None
        """What `measure_recall` said when it was built; None: it is exact, or was loaded from a file."""

    def __len__(self) -> int:
        return 0 if self._held is None else len(self._held)

    @property
    def _filled(self) -> Numbered:
        if self._held is None:
            raise FashionError("The index is empty; build it, or load one, first.")
        return self._held

    def build(self, embeddings: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Index `embeddings` [N,dimension] under `ids` [N] (default 0…N-1), in place of whatever was indexed.

        Raises:
            FashionError: if there are none, they are not finite, or have another dimension; if ids repeat or are no
                whole numbers; or if there are too few to train an `ivf` or `ivfpq`.

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
        held = Numbered(index, self.kind)
        recall = None if self.kind == "flat" else held.recall(vectors)
        self._held, self.recall = held, recall

    def takes(self, kept: int, count: int) -> bool:
        """Whether `changed` makes an index of `count` vectors about as good as one that is built anew, and sooner.

        Vectors that are not `kept` stay in it and are skipped by searches; up to a fifth of its rows may be such.  A
        graph takes any number of new ones.  The centroids of ivf and ivfpq are not trained anew, so these take 5 to 10%
        more: as long as a new one would have 5% more lists at most.
        """
        if self._held is None or self.kind == "flat" or self._held.mapped:
            return False  # FAISS changes nothing that lies on the disk
        rows = len(self._held.ids) + count - kept
        if rows - count > PASSED_OVER * rows:
            return False
        if self.kind == "hnsw" or kept == count:
            return True
        return (
            self.settings["lists"] == "auto" and kinds.lists_for(count, self.settings) <= 1.05 * self._held.inner.nlist
        )

    def changed(self, embeddings: ArrayLike, ids: ArrayLike, kept: NDArray[np.bool_]) -> "FAISSIndex":
        """An index over `embeddings` [N,dimension] under `ids` [N], ascending; what this one holds is not added again.

        It is a copy; this one stays as it is, so it may be searched meanwhile.  Its `recall` is of fewer vectors.

        Args:
            kept: [N], the vectors that this one has under the same ids.  Whatever else it has is found no more.

        Raises:
            FashionError: as for `build`.
        """
        vectors, numbers = self._numbered(embeddings, ids)
        other = FAISSIndex(self.dimension, self.kind, **self.settings)
        whole: Any = faiss.clone_index(self._filled.whole)
        held = ids_in(whole)
        held[~np.isin(held, numbers[kept])] = REMOVED
        if self.kind == "hnsw":  # a loaded graph's generator would repeat the levels of its first items
            faiss.downcast_index(whole.index).hnsw.rng = faiss.RandomGenerator(len(held))  # type: ignore[attr-defined]
        if not kept.all():
            whole.add_with_ids(vectors[~kept], numbers[~kept])
        other._held = Numbered(whole, self.kind)
        other.recall = other._held.recall(vectors, sample=FEW)
        return other

    def _numbered(self, embeddings: ArrayLike, ids: ArrayLike | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        vectors = searching.unit_vectors(embeddings, self.dimension)
        return vectors, np.arange(len(vectors)) if ids is None else checked_ids(ids, len(vectors))

    def measure_recall(self, embeddings: ArrayLike, k: int = 10) -> float:
        """Share of the k true nearest (itself among them) of 1,000 of the indexed vectors that a search finds.

        Args:
            embeddings: [N,dimension], all that are indexed, in their order.
        """
        vectors = searching.unit_vectors(embeddings, self.dimension)
        held = self._filled
        if len(vectors) != len(held):
            raise FashionError(f"There are {len(vectors)} embeddings for an index of {len(held)}; give those it holds.")
        return held.recall(vectors, kinds.whole_number("k", k))

    def search(self, query: ArrayLike, k: int = 10, allowed: NDArray[np.bool_] | None = None) -> Found:
        """The k nearest to each query: scores (cosines, best first) and ids, [Q,k]; equal scores in order of id.

        A k larger than the index, or than what is allowed of it, gives all there is.  Where more items than there are
        places left score the same, it takes any of them; `flat`, and `hnsw` with `allowed`, take the lowest ids.

        Args:
            query: [dimension] (gives [k] and [k]) or [Q,dimension].
            allowed: [N], bool, in the order in which the vectors were given to `build`: only these may be found.

        Raises:
            FashionError: if the index is empty, k is no whole number above 0, or another argument has another shape.
        """
        held, k = self._filled, kinds.whole_number("k", k)
        array = searching.numbers(query)
        vectors = searching.unit_vectors(array[None] if array.ndim == 1 else array, self.dimension)
        scores, ids = held.best(vectors, k, None if allowed is None else held.rows_of(allowed))
        return (scores[0], ids[0]) if array.ndim == 1 else (scores, ids)

    def quicken(self) -> None:
        """Make now, not after a few searches, the copy that makes single searches of a large `flat` index faster.

        It holds the vectors in groups, with 8 bits a number, and takes 30 to 55% of their memory.  Searches find the
        same.
        """
        self._filled.quicken()

    def save(self, path: str | Path) -> None:
        """Write the index to one file, whole or not at all."""
        whole = self._filled.whole
        # Through a file of Python's: FAISS's own errors do not say why writing failed.
        with replacing(Path(path).expanduser()) as part, part.open("wb") as file:
            writer = faiss.PyCallbackIOWriter(file.write, 1 << 20)  # type: ignore[attr-defined]
            faiss.write_index(whole, writer)

    @classmethod
    def load(cls, path: str | Path, kind: str | None = None, *, mmap: bool = False, **settings: Any) -> "FAISSIndex":
        """Read an index that `save` wrote.  Check where a file comes from first: FAISS trusts its content.

        Args:
            kind, settings: what it should be; those that are left out are as the file has them.  A search's settings
                (`ef_search`, `nprobe`) may differ, and `lists` be `auto`, as they were asked for.
            mmap: leave the vectors on the disk and map them, for an index larger than memory.

        Raises:
            FashionError: if the file is missing, damaged, or holds another kind of index.
        """
        path = Path(path).expanduser()
        held = read(path, mmap)
        if kind not in (None, held.kind):
            raise FashionError(f"{path} holds an index of kind {held.kind}, not {kind}; load it as that, or name none.")
        noted = kinds.settings_of(held.inner, held.kind)
        index = cls(held.whole.d, held.kind, **{**noted, **settings})
        for name, value in settings.items():
            if name not in kinds.SEARCH_PARAMS[held.kind] and value not in (noted[name], "auto"):
                raise FashionError(f"{path} was built with {name}={noted[name]}, not {value}; leave {name} out.")
        index._held = held
        index.set_search_params()
        return index

    def set_search_params(self, **settings: int) -> None:
        """Set how much an approximate index searches: `ef_search` of hnsw, `nprobe` of ivf and ivfpq.

        Raises:
            FashionError: if the index is empty, or has no such setting.
        """
        inner, known = self._filled.inner, kinds.SEARCH_PARAMS[self.kind]
        unknown = [name for name in settings if name not in known]
        if unknown:
            raise FashionError(
                f"A search of index={self.kind} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}."
            )
        self.settings = kinds.checked(self.kind, {**self.settings, **settings})
        if self.kind == "hnsw":
            inner.hnsw.efSearch = self.settings["ef_search"]
        elif self.kind in ("ivf", "ivfpq"):
            inner.nprobe = min(self.settings["nprobe"], inner.nlist)
