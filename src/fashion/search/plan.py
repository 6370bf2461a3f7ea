"""How a catalogue becomes equal to its source: which items are new, changed, renamed or gone; ids stay.

Items are matched by `external_id` (by default the path below the root), pictures by the SHA-256 of their content.
A picture whose size and time of change are as noted is not read again, unless that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fashion.search.catalog import Catalog
from fashion.search.listing import Content, Listing, box_texts, content_key, contents_of
from fashion.search.table import TEXT, as_id, check_reserved, column, differing

KINDS = {
    "added": "added",
    "changed": "changed",
    "renamed": "renamed",
    "other_columns": "with other columns",
    "removed": "removed",
    "skipped": "skipped",
}
"""The kinds of `Changes` that are lists, in words."""


@dataclass
class Changes:
    """What a sync does: external ids by kind of change, and pictures that could not be read.

    other_columns: the picture is as it was, and what a column says of it is not.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    other_columns: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    embedded: int = 0
    skipped: list[str] = field(default_factory=list)

    def leave_out(self, names: set[str], reasons: Sequence[str]) -> None:
        """Count items whose pictures cannot be read as skipped, and as nothing else."""
        for kind in ("added", "changed", "renamed", "other_columns"):
            setattr(self, kind, [name for name in getattr(self, kind) if name not in names])
        self.skipped += reasons

    def __str__(self) -> str:
        parts = [f"{len(getattr(self, name))} {word}" for name, word in KINDS.items() if getattr(self, name)]
        parts.append(f"{self.unchanged} unchanged")
        return ", ".join(parts) + f"; {self.embedded} pictures embedded"


@dataclass
class Plan:
    """Where each of N pictures of a listing stands.

    items: N rows, as the catalogue will hold them.  boxes: as texts.  ids: [N].  rows: [N], the old row that each
    embedding is taken from (-1: none, so it must be embedded).  next_id: the lowest id that no item has then.
    """

    items: pa.Table
    hashes: list[str]
    boxes: list[str]
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    next_id: int
    changes: Changes

    def keys(self) -> dict[int, str]:
        """Position in the listing → content and box, of each picture that must be embedded."""
        return {at: content_key(self.hashes[at], self.boxes[at]) for at in np.flatnonzero(self.rows < 0).tolist()}


def plan(old: Catalog | None, listing: Listing, next_id: int = 0, *, check_content: bool = False) -> Plan:
    """Compare a listing with a catalogue; embeds and writes nothing.

    Args:
        next_id: where there is no catalogue, the first id to give.
        check_content: read every picture, also those whose size and time of change are as noted.

    Raises:
        FashionError: if an external id is missing or comes twice, or a column is not for the catalogue.
    """
    check_reserved(listing.columns, str(listing.root))
    names, boxes, known = listing.external_ids(), box_texts(listing), _known(old)
    noted = None if check_content else [known[name].file if name in known else None for name in names]
    contents = list(listing.contents or contents_of(listing.paths, noted))
    here, next_id = set(names), old.next_id if old else next_id
    row_of = {row.content: row.row for row in known.values()}
    gone: dict[tuple[str, str], list[_Known]] = {}
    for row in reversed(known.values()):  # so that the last one is the oldest
        if row.from_source and row.external_id not in here:
            gone.setdefault(row.content, []).append(row)
    ids, rows = np.empty(len(names), np.int64), np.empty(len(names), np.int64)
    same, changes = [], Changes()
    for at, name in enumerate(names):
        mine, content = known.get(name), (contents[at].sha256, boxes[at])
        rows[at] = row_of.get(content, -1)
        if mine and mine.content == content:
            ids[at], rows[at] = mine.id, mine.row
            same.append(at)
        elif mine:
            ids[at] = mine.id
            changes.changed.append(name)
        elif gone.get(content):
            ids[at] = gone[content].pop().id
            changes.renamed.append(name)
        else:
            ids[at] = next_id
            next_id += 1
            changes.added.append(name)
    left = {row.id for rows_left in gone.values() for row in rows_left}
    changes.removed = [name for name, row in known.items() if row.id in left]
    items = _table(listing, names, ids, contents, boxes)
    if old is not None:
        others = differing(items.take(pa.array(same, pa.int64())), old.items.take(pa.array(rows[same])))
        changes.other_columns = [names[same[at]] for at in np.flatnonzero(others)]
    changes.unchanged = len(same) - len(changes.other_columns)
    return Plan(items, [content.sha256 for content in contents], boxes, ids, rows, next_id, changes)


def _table(
    listing: Listing, names: Sequence[str], ids: NDArray[np.int64], contents: Sequence[Content], boxes: Sequence[str]
) -> pa.Table:
    """The listing's items [N], as a catalogue holds them."""
    blank: list[Any] = [None] * len(names)
    products = [as_id(value) for value in listing.columns.get("product_id", blank)]
    table: dict[str, pa.Array] = {
        "id": pa.array(ids),
        "external_id": pa.array(names, pa.string()),
        "path": pa.array([path.relative_to(listing.root).as_posix() for path in listing.paths], pa.string()),
        "label": column("label", listing.columns.get("label", blank), names, pa.string()),
        "product_id": pa.array(products, pa.string()),
        "sha256": pa.array([content.sha256 for content in contents], pa.string()),
        "file_size": pa.array([content.size for content in contents], pa.int64()),
        "file_mtime_ns": pa.array([content.mtime_ns for content in contents], pa.int64()),
        "origin": pa.array(["source"] * len(names), pa.string()),
    }
    if listing.boxes and any(listing.boxes):
        table["bbox"] = pa.array(boxes, pa.string())
    others = {name: values for name, values in listing.columns.items() if name not in table}
    return pa.table(table | {name: column(name, values, names, TEXT.get(name)) for name, values in others.items()})


@dataclass(frozen=True)
class _Known:
    """An item of the catalogue; content: its picture's SHA-256, and its box as text."""

    external_id: str
    id: int
    row: int
    file: Content
    from_source: bool
    content: tuple[str, str]


def _known(old: Catalog | None) -> dict[str, _Known]:
    """external_id → what the catalogue notes of it."""
    if old is None:
        return {}
    names = ("external_id", "id", "sha256", "file_size", "file_mtime_ns", "origin")
    columns = [old.items[name].to_pylist() for name in names]
    boxes = old.items["bbox"].to_pylist() if "bbox" in old.items.column_names else [""] * len(old)
    return {
        name: _Known(name, number, row, Content(size, mtime, sha), origin == "source", (sha, box or ""))
        for row, (name, number, sha, size, mtime, origin, box) in enumerate(zip(*columns, boxes, strict=True))
    }
