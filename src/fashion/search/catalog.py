"""The catalogue: items, their embeddings and the index over them, as one folder that changes whole.

`items.parquet` (id, external_id, path below the root, label, product_id, sha256, …, any further columns),
`embeddings.npy` (float32, length 1, in the items' order), `index.faiss` (stable int64 ids), `manifest.json`; see
`fashion.search.store` for its versions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from fashion.encoder import Encoder
from fashion.errors import FashionError, OtherModelError
from fashion.files import sha256, write_array
from fashion.search.auto import Reusable, built, in_full
from fashion.search.catalog_files import PICTURES, ROW_GROUP, forget_pictures, ids_of, read_version
from fashion.search.filters import Filter
from fashion.search.index import FAISSIndex
from fashion.search.listing import Listing
from fashion.search.manifest import files_of, manifest_of, present
from fashion.search.milvus import MilvusIndex, dropping
from fashion.search.remaking import made_anew
from fashion.search.selecting import select
from fashion.search.store import Store

log = logging.getLogger(__name__)

FILTERS = 16
"""The results of this many recent filters are cached: shoppers use the same again with other pictures."""


@dataclass(repr=False)
class Catalog:
    """Searchable items, as they were at one moment.

    items: one row an item, ascending by `id`.  embeddings: [N,64] float32 of length 1, in the same order.  index: over
    the items' `id`.  root: the folder that the items' paths lie below.  fingerprint, model: of the encoder that
    embedded them.  next_id: the lowest id that no item ever had.  asked: the index as it was asked for, such as `auto`.
    version: its number in the store; 0: in memory.  folder: the store's; None: in memory.  made_from: the overrides
    that name its source to `task=index`; empty: not noted.  given: the columns that the source filled; None: not noted.
    """

    items: pa.Table
    embeddings: NDArray[np.float32]
    index: FAISSIndex | MilvusIndex
    root: Path
    fingerprint: str
    model: Path
    next_id: int
    asked: dict[str, Any]
    version: int = 0
    folder: Path | None = None
    made_from: dict[str, Any] = field(default_factory=dict)
    given: list[str] | None = None
    ids: NDArray[np.int64] = field(init=False, repr=False)
    _columns: dict[str, pa.ChunkedArray] = field(init=False, repr=False)
    _allowed: Callable[[str], NDArray[np.bool_]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.ids = ids_of(self.items)
        # Cached: reading a value takes 1 µs from these, and 20 µs through the table.
        self._columns = dict(zip(self.items.column_names, self.items.columns, strict=True))
        self._allowed = lru_cache(FILTERS)(partial(select, items=self.items))

    def __len__(self) -> int:
        return self.items.num_rows

    def __repr__(self) -> str:
        kind, root = self.index.kind, str(self.root)
        return f"Catalog({len(self)} items of {root!r}, index {kind}, version {self.version}, model {self.fingerprint})"

    def __contains__(self, number: int) -> bool:
        """Whether there is an item with that id."""
        return self._row(number) is not None

    def _row(self, number: int) -> int | None:
        """Where the item with that id stands; None if there is none."""
        if not -(2**63) <= number < 2**63:
            return None  # else NumPy would convert all ids to Python objects
        row = int(self.ids.searchsorted(number))
        return row if row < len(self.ids) and self.ids[row] == number else None

    @classmethod
    def build(
        cls,
        items: pa.Table,
        embeddings: NDArray[np.float32],
        encoder: Encoder,
        root: Path,
        index: Mapping[str, Any],
        next_id: int | None = None,
        like: Catalog | None = None,
    ) -> Catalog:
        """A catalogue of `items` (with `id`, `path`, `label`, …) and their embeddings, in memory.

        Args:
            index: `kind` and settings of the `FAISSIndex`, or `auto`.
            like: an older catalogue, whose index is reused if it is what would be built, or changed if it has most of
                these items.
        """
        ids, asked = items["id"].to_numpy(), in_full(index)
        before = like._reusable(ids, embeddings, asked) if like is not None else None
        if before is not None and before.kept.all() and len(before.index) == len(ids):
            made = before.index
        else:
            made = built(embeddings, ids, embeddings.shape[1], before=before, **index)
        above = int(ids.max()) + 1 if next_id is None else next_id
        return cls(items, embeddings, made, root, encoder.fingerprint, encoder.source, above, asked)

    def _reusable(
        self, ids: NDArray[np.int64], embeddings: NDArray[np.float32], index: Mapping[str, Any]
    ) -> Reusable | None:
        """Its index, if these are its settings, as they were asked for or as built; `ids` are ascending."""
        if index not in (self.asked, {"kind": self.index.kind, **self.index.settings}):
            return None
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self) - 1)
        kept: NDArray[np.bool_] = self.ids[rows] == ids
        kept[kept] = (self.embeddings[rows[kept]] == embeddings[kept]).all(axis=1)
        return Reusable(self.index, kept)

    def allowed(self, filter: str | Filter) -> NDArray[np.bool_]:
        """Which items [N] the filter is true for; not to be written to, as it may be given again.

        Raises:
            FashionError: as `fashion.search.selecting.select`.
        """
        # Only texts are cached: to Python, trees that compare with 1 and with true are equal.
        return self._allowed(filter) if isinstance(filter, str) else select(filter, self.items)

    def value(self, number: int, name: str) -> Any:
        """What the column of that name says of the item with id `number`."""
        return self._columns[name][self.row(number)].as_py()

    def row(self, number: int) -> int:
        """Where the item with that id stands.

        Raises:
            FashionError: if there is none.
        """
        row = self._row(number)
        if row is None:
            raise FashionError(f"The catalogue has no item {number}; ids are in the results of a search.")
        return row

    def number(self, external_id: str) -> int:
        """The id of the item that its owner calls so.

        Raises:
            FashionError: if there is none.
        """
        names = self._columns["external_id"]
        row = pc.index(names, pa.scalar(external_id, names.type)).as_py()
        if row < 0:
            raise FashionError(f"The catalogue has no item with external_id {external_id!r}.")
        return int(self.ids[row])

    def item(self, number: int) -> dict[str, Any]:
        """All that is known of the item with id `number`."""
        row = self.row(number)
        return {name: column[row].as_py() for name, column in self._columns.items()}

    def picture(self, item: Mapping[str, Any]) -> Path:
        """Where the item's picture lies."""
        given = Path(str(item["path"]))
        path = self.root / given
        if self.folder and given.is_absolute() and not path.is_file():  # a request's; has the catalogue moved?
            here = self.folder / PICTURES / path.name
            return here if here.is_file() else path
        return path

    def place(self, item: Mapping[str, Any]) -> str:
        """The same as text, for each of many hits: to make a Path takes several times as long."""
        given = str(item["path"])
        return str(self.picture(item)) if given.startswith("/") else f"{self.root}/{given}"

    def holds(
        self, items: pa.Table, listing: Listing, index: Mapping[str, Any], model: Path, but: Sequence[str] = ()
    ) -> bool:
        """Whether it has exactly these items, from that source and model, in an index of these settings (in full).

        Args:
            but: columns that are not compared.
        """
        same = self.root.resolve() == listing.root.resolve() and listing.made_from in ({}, self.made_from)
        same = same and self.model.resolve() == model.resolve() and self.asked == index
        return same and items.drop_columns([*but]).equals(self.items.drop_columns([*but]))

    def encoder_path(self) -> Path:
        """Where the model lies that made the embeddings.

        Raises:
            FashionError: if it is not there any more.
        """
        return present(self.model)

    def check_encoder(self, encoder: Encoder) -> None:
        """Refuse an encoder other than the one that made the embeddings: its vectors would mean something else."""
        if encoder.fingerprint != self.fingerprint:
            raise OtherModelError(
                f"The catalogue was made by the model {self.fingerprint} ({self.model}), and {encoder.source} is "
                f"{encoder.fingerprint}; leave encoder out, or make the catalogue anew: python run.py "
                f"{made_anew(self.folder or '…', encoder.source)}"
            )

    def write(self, folder: str | Path | Store) -> int:
        """Write it as the current version of a catalogue folder, whole or not at all; returns the version's number.

        Raises:
            FashionError: if the folder is no catalogue, the disk is full, or another process is writing.
        """
        store = folder if isinstance(folder, Store) else Store(folder)
        with store.writer():
            return self.commit(store)

    def commit(self, store: Store, written_by: str = "index", instead: bool = False) -> int:
        """`write`, for callers that hold the store's writer lock already.

        Args:
            written_by: `index`, or `items` for a change of single ones; versions of either kind are kept apart.
            instead: the current version goes, which says the same: no older one should for that.
        """
        files = files_of(self.index.kind)
        with dropping(store, self.index), store.new_version(instead) as part:
            parquet.write_table(self.items, part / "items.parquet", row_group_size=ROW_GROUP)
            write_array(part / "embeddings.npy", self.embeddings)
            self.index.save(part / files[2])
            manifest = manifest_of(self, store, written_by) | {"sha256": {name: sha256(part / name) for name in files}}
            (part / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            store.use_ids_below(self.next_id)
        self.version, self.folder = store.number(), store.folder.resolve()
        try:
            forget_pictures(store)
        except (OSError, pa.ArrowException) as error:
            log.warning("Pictures that no version needs stay in %s: %s", store.folder / PICTURES, error)
        return self.version

    @classmethod
    def open(
        cls, folder: str | Path, *, mmap: bool = False, items_only: bool = False, version: int | None = None
    ) -> Catalog:
        """Read the current version of a catalogue folder.

        Args:
            mmap: leave the index on the disk and map it, for one that is larger than memory.
            items_only: read neither embeddings nor index, which may be damaged: to embed the items anew.
            version: another one that is kept.

        Raises:
            FashionError: if it is missing or incomplete, was written by another version, or a file in it was changed.
        """
        folder = Path(folder).expanduser()
        if version is not None:
            return cls(**read_version(folder, Store(folder).kept(version), mmap, items_only))
        current = Store(folder).current()
        try:
            return cls(**read_version(folder, current, mmap, items_only))
        except (FashionError, OSError):
            if current == Store(folder).current():
                raise
            return cls.open(folder, mmap=mmap, items_only=items_only)  # writers removed that version meanwhile
