"""task=items: add, change or delete single items of a catalogue."""

import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from omegaconf import DictConfig

from fashion.data.folders import expand
from fashion.errors import FashionError
from fashion.quoting import as_typed
from fashion.search.catalog import Catalog
from fashion.search.engine import VisualSearchEngine
from fashion.search.items import FIXED, add_items, delete_items, update_items
from fashion.search.store import PATIENCE, Store
from fashion.search.table import TEXT
from fashion.tasks.options import Options, read_options

log = logging.getLogger(__name__)


class ItemsOptions(Options):
    catalog: str
    encoder: str | None
    add: str | list[str] | None
    update: str | None
    delete: str | list[str] | None
    external_id: str | None
    columns: dict[str, Any]


def run(cfg: DictConfig) -> int:
    """Make one change; returns how many items the catalogue holds after it."""
    options = read_options(cfg, ItemsOptions)
    if sum(value is not None for value in (options.add, options.update, options.delete)) != 1:
        raise FashionError("task=items does one thing: give add=PICTURE, update=EXTERNAL_ID or delete=EXTERNAL_ID.")
    _check_together(options)
    store = Store(options.catalog, patience=PATIENCE)
    engine = VisualSearchEngine(options.encoder or options.catalog, options.catalog)
    before = engine.opened
    _check_values(options.columns, before)
    if options.add is not None:
        pictures = expand(options.add, "add")
        if options.external_id and len(pictures) > 1:
            raise FashionError(f"external_id={options.external_id} is one item's, and add names {len(pictures)}.")
        names = [options.external_id] if options.external_id else [_named(path, before) for path in pictures]
        ids = add_items(engine, store, pictures, [{**options.columns, "external_id": name} for name in names])
        for name, number in zip(names, ids, strict=True):
            log.info("%s: %s (id %d)", "Replaced" if number in before else "Added", name, number)
    elif options.update is not None:
        names = [options.update]
        update_items(engine, store, {options.update: options.columns})
        log.info("Changed: %s", options.update)
    elif options.delete is not None:
        names = [options.delete] if isinstance(options.delete, str) else options.delete
        delete_items(engine, store, names)
        log.info("Deleted: %s", options.delete)
    _note_new_columns(options.columns, before)
    if _from_source(before, names):
        log.info("The source is the truth for its own items: the next task=index undoes this, unless it says so too.")
    log.info("%s is at version %d, with %d items.", store.folder, engine.opened.version, engine.size)
    return engine.size


def _check_together(options: ItemsOptions) -> None:
    """Refuse options of which one would be ignored.

    Raises:
        FashionError: that names them.
    """
    if options.add is not None and "external_id" in options.columns:
        raise FashionError("columns.external_id would be ignored; name the added item with external_id=….")
    if options.add is None and options.external_id is not None:
        raise FashionError("external_id=… names an item that is added; leave it out, or give add=PICTURE.")
    if options.delete is not None and options.columns:
        raise FashionError(f"delete=… sets no columns; leave out {', '.join(f'columns.{n}' for n in options.columns)}.")


def _check_values(columns: Mapping[str, Any], catalog: Catalog) -> None:
    """Refuse values that were written otherwise than they were meant, and say how they are written.

    Raises:
        FashionError: that says so.
    """
    for name, value in columns.items():
        if isinstance(value, Mapping):
            raise FashionError(
                f"A dot in +columns.{name}.… begins a group of settings; write a column whose name has one as "
                f'"+columns={{{name}.{next(iter(value), "…")}: …}}".'
            )
        if isinstance(value, int | float) and _is_text(name, catalog.items):
            raise FashionError(f"The column {name!r} is text; put the value into two quotes: +columns.{name}=\"'…'\".")


def _is_text(name: str, items: pa.Table) -> bool:
    """Whether a column that can be set holds text, and nothing else; a product's id may be given as a number."""
    if name not in items.column_names or name in ("product_id", *FIXED):
        return False
    return name in TEXT or (pa.types.is_string(items[name].type) and items[name].null_count < len(items))


def _named(picture: Path, catalog: Catalog) -> str:
    """The external_id of a picture that is given none: its path, as a folder's source names it if it lies there.

    So it is taken over by the next task=index, and no second item beside the source's.

    Raises:
        FashionError: if it is an item of the source already.
    """
    places = (picture.absolute(), picture.resolve())  # linked folders are named as they are reached
    below = (path for path in places if path.is_relative_to(catalog.root) and ".." not in path.parts)
    name = next((path.relative_to(catalog.root).as_posix() for path in below), str(places[1]))
    if _from_source(catalog, [name]):
        raise FashionError(f"{name} is an item of the source already; {as_typed('update', name)} sets its columns.")
    return name


def _note_new_columns(columns: Mapping[str, Any], before: Catalog) -> None:
    """Say which columns no item had: one may be misspelt."""
    known = before.items.column_names
    for name in (name for name in columns if name not in known):
        like = get_close_matches(name, known, n=1)
        log.warning("%r is a new column of the catalogue%s", name, f"; did you mean {like[0]}?" if like else ".")


def _from_source(catalog: Catalog, names: Sequence[str]) -> bool:
    """Whether one of the items with those external ids comes from the catalogue's source."""
    named = pc.is_in(catalog.items["external_id"], pa.array(names, pa.string()))
    return bool(pc.any(pc.and_(named, pc.equal(catalog.items["origin"], "source"))).as_py())
