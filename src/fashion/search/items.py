"""Adding, changing and deleting single items of a catalogue folder; each call is one new version, or nothing."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.engine import VisualSearchEngine
from fashion.search.listing import content_hash
from fashion.search.store import Store
from fashion.search.table import RESERVED, as_id, check_reserved, joined, typed

FIXED = ("external_id", "bbox", *RESERVED)
"""Columns that an update cannot set: they are what the item is, not what is said of it; its picture can be given."""


def add_items(
    engine: VisualSearchEngine, store: Store, pictures: Sequence[str | Path], rows: Sequence[Mapping[str, Any]]
) -> list[int]:
    """Add (or, where the external_id exists, replace) items that do not come from the catalogue's source.

    Nothing of an item that is replaced stays but its id: columns that are not given are empty.

    Args:
        rows: of each item its `external_id`, and any other columns.

    Returns:
        The items' ids: new ones, never used before, for new items.

    Raises:
        FashionError: if a picture cannot be read, a column does not fit, or another process is writing; then none is
            added.
    """
    if not rows:
        raise FashionError("There is no item to add.")
    names = [str(row["external_id"]) for row in rows]
    for row in rows:
        check_row(row)
    if len(set(names)) != len(names):
        raise FashionError("An external_id comes more than once; give each item its own.")
    embeddings = np.concatenate([engine.embed_image(path)[None] for path in pictures])
    with store.writer():
        old = Catalog.open(store.folder)
        old.check_encoder(engine.encoder)
        places = places_of(old, names)
        new = itertools.count(old.next_id)
        ids = [int(old.ids[places[name]]) if name in places else next(new) for name in names]
        next_id = max(old.next_id, *(number + 1 for number in ids))
        origins = {name: old.items["origin"][row].as_py() for name, row in places.items()}
        fresh = [
            _row(row, Path(path), number, origins.get(name, "added"))
            for name, row, path, number in zip(names, rows, pictures, ids, strict=True)
        ]
        stay = ~np.isin(old.ids, ids)
        items = joined(old.items.filter(pa.array(stay)), typed(fresh, old.items))
        _commit(engine, store, old, items, np.concatenate([old.embeddings[stay], embeddings]), next_id)
    return ids


def check_row(row: Mapping[str, Any]) -> None:
    """Refuse an added item whose columns are not its owner's to say.

    Raises:
        FashionError: that names one.
    """
    check_reserved(row, f"the item {row['external_id']!r}")
    if row.get("bbox"):
        raise FashionError(f"The item {row['external_id']!r} has a bbox; give the picture that is in it instead.")


def check_settable(name: str, columns: Mapping[str, Any]) -> None:
    """Refuse an update of what an item is.

    Raises:
        FashionError: that names the column.
    """
    fixed = [column for column in columns if column in FIXED]
    if fixed:
        raise FashionError(f"{fixed[0]} of {name!r} cannot be set; add the item anew instead.")


def update_items(
    engine: VisualSearchEngine,
    store: Store,
    changes: Mapping[str, Mapping[str, Any]],
    pictures: Mapping[str, str | Path] | None = None,
) -> None:
    """Set columns of items: external_id → column → value; others stay as they are.

    Args:
        pictures: external_id → a new picture, of which all is the item.

    Raises:
        FashionError: if an item is unknown, a picture cannot be read, or a column is not to be set or of another type;
            then none is changed.
    """
    pictures = pictures or {}
    if not pictures and not any(changes.values()):
        raise FashionError("There is no column to set.")
    changes = {**{name: {} for name in pictures}, **changes}
    vectors = {name: engine.embed_image(path) for name, path in pictures.items()}
    with store.writer():
        old = Catalog.open(store.folder)
        old.check_encoder(engine.encoder)
        places = places_of(old, changes, required=True)
        rows = []
        for name, values in changes.items():
            check_settable(name, values)
            rows.append(old.items.slice(places[name], 1).to_pylist()[0] | dict(values))
            rows[-1]["product_id"] = as_id(rows[-1]["product_id"])
            if name in pictures:
                rows[-1] |= _file(Path(pictures[name])) | ({"bbox": ""} if "bbox" in rows[-1] else {})
        touched = np.isin(np.arange(len(old)), list(places.values()))
        # Typed as the catalogue's columns are, so that an empty value does not make a column lose its type.
        fresh = typed(rows, old.items)
        order = np.concatenate([np.flatnonzero(~touched), [places[name] for name in changes]]).astype(np.int64)
        items = joined(old.items.filter(pa.array(~touched)), fresh)
        embeddings = np.asarray(old.embeddings)[order]
        for name, vector in vectors.items():
            embeddings[order == places[name]] = vector
        _commit(engine, store, old, items, embeddings, old.next_id)


def delete_items(engine: VisualSearchEngine, store: Store, external_ids: Sequence[str]) -> None:
    """Remove items; those of the source come back with its next sync, if they are still in it.

    Raises:
        FashionError: if one is unknown, or none would be left; then none is deleted.
    """
    if not external_ids:
        raise FashionError("There is no item to delete.")
    with store.writer():
        old = Catalog.open(store.folder)
        old.check_encoder(engine.encoder)
        gone = list(places_of(old, external_ids, required=True).values())
        stay = ~np.isin(np.arange(len(old)), gone)
        if not stay.any():
            raise FashionError("No item would be left; delete the catalogue's folder instead.")
        _commit(engine, store, old, old.items.filter(pa.array(stay)), np.asarray(old.embeddings)[stay], old.next_id)


def places_of(catalog: Catalog, external_ids: Collection[str], required: bool = False) -> dict[str, int]:
    """In which row each of the items stands that the catalogue has.

    Raises:
        FashionError: if they are `required` and one is unknown.
    """
    column = catalog.items["external_id"]
    # As unchecked bytes: a name that is no valid UTF-8, as a file's may be, just matches no item.
    names = pa.array([name.encode(errors="surrogatepass") for name in external_ids], pa.binary()).view(pa.string())
    rows = pc.indices_nonzero(pc.is_in(column, value_set=names)).to_pylist()
    places = {column[row].as_py(): row for row in rows}
    unknown = [name for name in external_ids if name not in places]
    if required and unknown:
        raise FashionError(f"The catalogue has no item with external_id {unknown[0]!r}.")
    return places


def _row(row: Mapping[str, Any], path: Path, number: int, origin: str) -> dict[str, Any]:
    """The item as the catalogue holds it; a replaced one from the source keeps that origin, so syncs may change it."""
    own = {
        "id": number,
        "external_id": str(row["external_id"]),
        "label": row.get("label"),
        "product_id": as_id(row.get("product_id")),
        "origin": origin,
        **_file(path),
    }
    return own | {name: value for name, value in row.items() if name not in own}


def _file(path: Path) -> dict[str, Any]:
    """What the catalogue notes of a picture's file."""
    path = path.expanduser().resolve()
    stat = path.stat()
    return {
        "path": str(path),
        "sha256": content_hash(path),
        "file_size": stat.st_size,
        "file_mtime_ns": stat.st_mtime_ns,
    }


def _commit(
    engine: VisualSearchEngine,
    store: Store,
    old: Catalog,
    items: pa.Table,
    embeddings: NDArray[np.float32],
    next_id: int,
) -> None:
    order = np.argsort(items["id"].to_numpy(), kind="stable")
    settings = {"kind": old.index.kind, **old.index.settings}
    sorted_items, vectors = items.take(pa.array(order)), np.ascontiguousarray(embeddings[order])
    new = Catalog.build(sorted_items, vectors, engine.encoder, old.root, settings, next_id, like=old)
    new.asked, new.made_from, new.given = old.asked, old.made_from, old.given
    if old.model.exists():
        new.model = old.model
    new.commit(store, "items")
    engine.catalog = new
