"""task=items: add, change or delete single items of a catalogue."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pydantic import ConfigDict

from fashion.errors import FashionError
from fashion.search.engine import VisualSearchEngine
from fashion.search.items import add_items, delete_items, update_items
from fashion.search.store import Store
from fashion.tasks.options import Options, read_options
from fashion.tasks.search import expand

log = logging.getLogger(__name__)


class ItemsOptions(Options):
    model_config = ConfigDict(coerce_numbers_to_str=True)  # external_id=123

    catalog: str
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
    store, engine = Store(options.catalog), VisualSearchEngine(options.catalog)
    if options.add is not None:
        pictures = expand(options.add)
        if options.external_id and len(pictures) > 1:
            raise FashionError(f"external_id={options.external_id} is one item's, and add names {len(pictures)}.")
        names = [options.external_id] if options.external_id else [str(Path(p).resolve()) for p in pictures]
        ids = add_items(engine, store, pictures, [{**options.columns, "external_id": name} for name in names])
        log.info("Added: %s", ", ".join(f"{name} (id {number})" for name, number in zip(names, ids, strict=True)))
    elif options.update is not None:
        update_items(engine, store, {options.update: options.columns})
        log.info("Changed: %s", options.update)
    elif options.delete is not None:
        delete_items(engine, store, [options.delete] if isinstance(options.delete, str) else options.delete)
        log.info("Deleted: %s", options.delete)
    assert engine.catalog is not None
    log.info("%s is at version %d, with %d items.", store.folder, engine.catalog.version, len(engine.catalog))
    return len(engine.catalog)
