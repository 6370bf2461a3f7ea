"""task=items: add, change or delete single items of a catalogue."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from omegaconf import DictConfig

from fashion.data.folders import expand
from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.engine import VisualSearchEngine
from fashion.search.items import add_items, delete_items, update_items
from fashion.search.store import PATIENCE, Store
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
    if options.add is not None:
        pictures = expand(options.add, "add")
        if options.external_id and len(pictures) > 1:
            raise FashionError(f"external_id={options.external_id} is one item's, and add names {len(pictures)}.")
        names = [options.external_id] if options.external_id else [str(Path(p).resolve()) for p in pictures]
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


def _from_source(catalog: Catalog, names: Sequence[str]) -> bool:
    """Whether one of the items with those external ids comes from the catalogue's source."""
    named = pc.is_in(catalog.items["external_id"], pa.array(names, pa.string()))
    return bool(pc.any(pc.and_(named, pc.equal(catalog.items["origin"], "source"))).as_py())
