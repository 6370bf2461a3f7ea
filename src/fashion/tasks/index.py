"""task=index: make a catalogue equal to its source, embedding only what is new or changed."""

import logging
from pathlib import Path
from typing import Literal

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.engine import VisualSearchEngine
from fashion.search.store import Store
from fashion.search.sync import Changes, Listing
from fashion.tasks.options import Options, read_options

log = logging.getLogger(__name__)


class IndexOptions(Options):
    encoder: str
    pictures: str | None
    split: Literal["train", "validation", "test", "all"]
    catalog: str
    on_bad_image: Literal["fail", "skip"]
    rebuild: bool
    allow_shrink: bool
    dry_run: bool
    keep: int = Field(ge=1)


def run(cfg: DictConfig) -> int:
    """Make or update the catalogue; returns how many pictures it holds."""
    options = read_options(cfg, IndexOptions)
    settings = {str(key): value for key, value in OmegaConf.to_container(cfg.index).items()}  # type: ignore[union-attr]
    store = Store(options.catalog, options.keep)
    store.check()  # before minutes of embedding, not after
    engine = VisualSearchEngine(options.encoder, index=settings)
    listing = engine.list_folder(options.pictures) if options.pictures else _split(cfg, options.split)
    if options.dry_run:
        _report(_update(engine, listing, store, options), "would change")
        return len(engine.catalog or ())
    with store.writer():
        changes = _update(engine, listing, store, options)
    catalog = engine.catalog
    assert catalog is not None
    _report(changes, f"version {catalog.version}")
    recall = "" if catalog.index.recall is None else f" Its recall@10 is {catalog.index.recall:.3f}."
    log.info(
        "%d pictures are searchable: python run.py task=search catalog=%s query=PICTURE.%s",
        len(catalog), store.folder, recall,
    )  # fmt: skip
    return len(catalog)


def _update(engine: VisualSearchEngine, listing: Listing, store: Store, options: IndexOptions) -> Changes:
    if store.current() and not options.rebuild:
        engine.catalog = Catalog.open(store.folder)
        engine.catalog.check_encoder(engine.encoder)
    return engine.sync(
        listing,
        store,
        on_bad_image=options.on_bad_image,
        allow_shrink=options.allow_shrink,
        dry_run=options.dry_run,
    )


def _report(changes: Changes, what: str) -> None:
    log.info("Catalogue, %s: %s", what, changes)
    for name in ("added", "changed", "renamed", "removed", "skipped"):
        values = getattr(changes, name)
        for value in values[:5]:
            log.info("  %s: %s", name, value)
        if len(values) > 5:
            log.info("  %s: and %d more", name, len(values) - 5)


def _split(cfg: DictConfig, split: str) -> Listing:
    source = instantiate(cfg.data).source
    items = list(source.items) if split == "all" else source.split(split)
    if not items:
        raise FashionError(f"{source.root} has no {split} pictures; set split=…, or pictures=FOLDER.")
    names = list(dict.fromkeys(name for item in items for name in item.extra))
    columns = {name: [item.extra.get(name) for item in items] for name in names}
    columns |= {"label": [item.label for item in items], "split": [item.split for item in items]}
    boxes = [item.box for item in items]
    paths = [Path(source.root / item.path) for item in items]
    return Listing(source.root, paths, columns, boxes if any(boxes) else None)
