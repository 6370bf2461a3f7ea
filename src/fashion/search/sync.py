"""Making a catalogue equal to its source: only what is new or changed is embedded, ids stay, nothing is lost.

Items are matched by `external_id` (by default the path below the root), pictures by the SHA-256 of their content.
A picture whose size and time of change are as noted is not read again.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fashion.errors import FashionError
from fashion.search.catalog import Catalog

RESERVED = ("id", "sha256", "file_size", "file_mtime_ns", "origin")
"""Columns that the catalogue notes itself; origin: `source` items come and go with it, `added` ones by request only."""


@dataclass(frozen=True)
class Content:
    """What is noted of a picture's file: bytes, time of change, SHA-256."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Listing:
    """What the source holds now: N pictures below `root`, and `columns` of N values each.

    boxes: the part of each picture to look at, or None for all of it.  contents: what another machine noted of the
    files, which then are not read here.
    """

    root: Path
    paths: Sequence[Path]
    columns: Mapping[str, Sequence[Any]]
    boxes: Sequence[Sequence[float] | None] | None = None
    contents: Sequence[Content] | None = None

    def external_ids(self) -> list[str]:
        """One a picture.

        Raises:
            FashionError: if one comes twice.
        """
        given = self.columns.get("external_id") or [path.relative_to(self.root).as_posix() for path in self.paths]
        ids = [str(value) for value in given]
        if len(set(ids)) != len(ids):
            twice = next(value for value in ids if ids.count(value) > 1)
            raise FashionError(f"external_id {twice!r} comes more than once in {self.root}; give each item its own.")
        return ids


@dataclass
class Changes:
    """What a sync does: external ids by kind of change, and pictures that could not be read."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    embedded: int = 0
    skipped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = {name: len(getattr(self, name)) for name in ("added", "changed", "renamed", "removed", "skipped")}
        parts = [f"{count} {name}" for name, count in counts.items() if count] + [f"{self.unchanged} unchanged"]
        return ", ".join(parts) + f"; {self.embedded} pictures embedded"


@dataclass
class Plan:
    """Where each picture of a listing stands: its content, its id, and the old row its embedding is taken from (-1:
    none, so it must be embedded)."""

    external_ids: list[str]
    sizes: list[int]
    mtimes: list[int]
    hashes: list[str]
    boxes: list[str]
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    next_id: int
    changes: Changes


def check_reserved(columns: Iterable[str], where: str) -> None:
    """Refuse columns that the catalogue would overwrite.

    Raises:
        FashionError: naming the first.
    """
    taken = [name for name in columns if name in RESERVED]
    if taken:
        other = "call it external_id if it names the item, or rename it" if taken[0] == "id" else "rename it"
        raise FashionError(f"{where} has a column {taken[0]!r}, which the catalogue notes by itself; {other}.")


def plan(old: Catalog | None, listing: Listing, next_id: int = 0) -> Plan:
    """Compare a listing with a catalogue; embeds and writes nothing.

    Args:
        next_id: where there is no catalogue, the first id to give.
    """
    check_reserved(listing.columns, str(listing.root))
    external_ids = listing.external_ids()
    boxes = box_texts(listing)
    known = _known(old)
    if listing.contents:
        stats = [(content.size, content.mtime_ns) for content in listing.contents]
        hashes = [content.sha256 for content in listing.contents]
    else:
        stats = [_stat(path) for path in listing.paths]
        hashes = _hashes(listing, external_ids, stats, known)
    by_content: dict[tuple[str, str], list[_Known]] = {}
    for row in known.values():
        by_content.setdefault((row.sha256, row.box), []).append(row)
    here = set(external_ids)
    changes = Changes()
    next_id = old.next_id if old else next_id
    ids, rows = np.empty(len(here), np.int64), np.empty(len(here), np.int64)
    taken: set[int] = set()
    for at, name in enumerate(external_ids):
        same = known.get(name)
        twins = by_content.get((hashes[at], boxes[at]), [])
        source = twins[0].row if twins else -1
        if same and (same.sha256, same.box) == (hashes[at], boxes[at]):
            ids[at], rows[at] = same.id, same.row
            changes.unchanged += 1
        elif same:
            ids[at], rows[at] = same.id, source
            changes.changed.append(name)
        else:
            left = (row for row in twins if row.from_source and row.external_id not in here and row.id not in taken)
            former = next(left, None)
            ids[at], rows[at] = former.id if former else next_id, source
            if former:
                taken.add(former.id)
                changes.renamed.append(name)
            else:
                next_id += 1
                changes.added.append(name)
    changes.removed = [
        name for name, row in known.items() if row.from_source and name not in here and row.id not in taken
    ]
    sizes, mtimes = ([stat[at] for stat in stats] for at in (0, 1))
    return Plan(external_ids, sizes, mtimes, hashes, boxes, ids, rows, next_id, changes)


def check_shrink(old: Catalog | None, left: NDArray[np.int64], allow_shrink: bool) -> None:
    """Refuse to empty a catalogue because its source is, say, not mounted, or can hardly be read.

    Args:
        left: ids of the items that there will be.

    Raises:
        FashionError: if more than half of the source's items would go.
    """
    if old is None or allow_shrink:
        return
    before = old.ids[~_added(old)]
    gone = int((~np.isin(before, left)).sum())
    if gone > len(before) / 2:
        raise FashionError(
            f"{gone} of the catalogue's {len(before)} items are no longer in the source, or cannot be read; if that is "
            "meant, add allow_shrink=true."
        )


def kept_added(old: Catalog, planned: Plan) -> NDArray[np.bool_]:
    """Which of the old items were added by request and are not the source's now: they stay."""
    return _added(old) & ~np.isin(old.ids, planned.ids)


def _added(old: Catalog) -> NDArray[np.bool_]:
    return np.asarray(old.items["origin"].to_numpy(zero_copy_only=False) == "added")


def merged(
    old: Catalog | None,
    listing: Listing,
    planned: Plan,
    fresh: Mapping[int, NDArray[np.float32]],
    added: NDArray[np.float32] | None = None,
) -> tuple[pa.Table, NDArray[np.float32]]:
    """The items and embeddings that the plan leads to, ascending by id.

    Args:
        fresh: position in the listing → its new embedding; positions that need one and have none are left out.
        added: new embeddings of the added items that stay; None: they keep theirs.
    """
    kept = np.array([row >= 0 or at in fresh for at, row in enumerate(planned.rows)], dtype=bool)
    embeddings = np.empty((len(kept), 64), np.float32)
    reused = planned.rows >= 0
    if old is not None:
        embeddings[reused] = old.embeddings[planned.rows[reused]]
    for at, vector in fresh.items():
        embeddings[at] = vector
    table, embeddings = _table(listing, planned).filter(pa.array(kept)), embeddings[kept]
    if old is not None:
        stay = kept_added(old, planned)
        table = joined(table, old.items.filter(pa.array(stay)))
        embeddings = np.concatenate([embeddings, old.embeddings[stay] if added is None else added])
    order = np.argsort(table["id"].to_numpy(), kind="stable")
    return table.take(pa.array(order)), np.ascontiguousarray(embeddings[order])


def joined(first: pa.Table, second: pa.Table) -> pa.Table:
    """The rows of both; a column that one lacks is empty there.

    Raises:
        FashionError: if a column holds, say, numbers here and text there.
    """
    try:
        return pa.concat_tables([first, second], promote_options="permissive")
    except pa.ArrowException as error:
        raise FashionError(f"The items' columns do not fit the catalogue's ({str(error).splitlines()[0]}).") from error


def _table(listing: Listing, planned: Plan) -> pa.Table:
    count = len(planned.external_ids)
    blank: list[Any] = [None] * count
    products = [None if value in (None, "") else str(value) for value in listing.columns.get("product_id", blank)]
    table: dict[str, Any] = {
        "id": planned.ids,
        "external_id": planned.external_ids,
        "path": [path.relative_to(listing.root).as_posix() for path in listing.paths],
        "label": pa.array(listing.columns.get("label", blank), pa.string()),
        "product_id": pa.array(products, pa.string()),
        "sha256": planned.hashes,
        "file_size": pa.array(planned.sizes, pa.int64()),
        "file_mtime_ns": pa.array(planned.mtimes, pa.int64()),
        "origin": ["source"] * count,
    }
    if listing.boxes and any(listing.boxes):
        table["bbox"] = planned.boxes
    table |= {name: list(values) for name, values in listing.columns.items() if name not in table}
    return pa.table(table)


@dataclass(frozen=True)
class _Known:
    external_id: str
    id: int
    row: int
    sha256: str
    size: int
    mtime_ns: int
    from_source: bool
    box: str


def _known(old: Catalog | None) -> dict[str, _Known]:
    """external_id → what the catalogue notes of it."""
    if old is None:
        return {}
    names = ("external_id", "id", "sha256", "file_size", "file_mtime_ns", "origin")
    columns = [old.items[name].to_pylist() for name in names]
    boxes = old.items["bbox"].to_pylist() if "bbox" in old.items.column_names else [""] * len(old)
    return {
        name: _Known(name, number, row, content, size, mtime, origin == "source", box or "")
        for row, (name, number, content, size, mtime, origin, box) in enumerate(zip(*columns, boxes, strict=True))
    }


def _hashes(
    listing: Listing, names: Sequence[str], stats: Sequence[tuple[int, int]], known: Mapping[str, _Known]
) -> list[str]:
    """Each picture's SHA-256: the noted one where the file was not touched since, else by reading it."""

    def content(at: int) -> str:
        same = known.get(names[at])
        if same and (same.size, same.mtime_ns) == stats[at]:
            return same.sha256
        return content_hash(listing.paths[at])

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(content, range(len(names)), chunksize=256))


def box_texts(listing: Listing) -> list[str]:
    """Each picture's box as text; empty for the whole picture."""
    return [_box_text(box) for box in listing.boxes] if listing.boxes else [""] * len(listing.paths)


def noted(listing: Listing) -> list[Content]:
    """What the files are now."""
    stats = [_stat(path) for path in listing.paths]
    hashes = _hashes(listing, [""] * len(stats), stats, {})
    return [Content(*stat, content) for stat, content in zip(stats, hashes, strict=True)]


def content_hash(path: Path) -> str:
    """SHA-256 of the file; of an unreadable one, a value that no content has."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _box_text(box: Sequence[float] | None) -> str:
    return " ".join(f"{value:g}" for value in box) if box else ""
