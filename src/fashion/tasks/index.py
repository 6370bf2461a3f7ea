"""task=index: make a catalogue equal to its source, embedding only what is new or changed."""

import json
import logging
import shutil
import time
from pathlib import Path
from typing import Literal

import numpy as np
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from omegaconf import DictConfig
from pydantic import Field

from fashion.config import as_dict
from fashion.errors import CatalogError, FashionError
from fashion.files import write_text
from fashion.quoting import as_typed
from fashion.search.catalog import Catalog
from fashion.search.catalog_files import PICTURES
from fashion.search.columns import described, turned_to_text
from fashion.search.engine import VisualSearchEngine
from fashion.search.listing import Listing
from fashion.search.manifest import encoder_of, intact
from fashion.search.parts import listing_of, read_parts_manifest
from fashion.search.plan import KINDS, Changes
from fashion.search.store import PATIENCE, Store
from fashion.tasks.listed import check_alone, check_named, listed
from fashion.tasks.options import Options, named, read_options
from fashion.timing import search_ms

log = logging.getLogger(__name__)

SAMPLE = 200
"""Searches whose median time is noted."""


class IndexOptions(Options):
    encoder: str | None
    pictures: str | None
    embeddings: str | None
    split: Literal["train", "validation", "test", "all"] | None
    catalog: str
    on_bad_image: Literal["fail", "skip"]
    rebuild: bool
    allow_shrink: bool
    dry_run: bool
    check_content: bool
    keep: int | None = Field(ge=1)


def run(cfg: DictConfig) -> int:
    """Make or update the catalogue; returns how many pictures it holds."""
    options = read_options(cfg, IndexOptions)
    settings = as_dict(cfg.index)
    store = Store(options.catalog, options.keep, PATIENCE)
    store.check()  # before minutes of embedding, not after
    _check_source(options, store)
    engine = VisualSearchEngine(_encoder(options, store), index=settings if _index_named() else None)
    known: dict[str, NDArray[np.float32]] = {}
    if options.embeddings:
        listing, known = _embedded(Path(options.embeddings).expanduser(), engine)
    else:
        listing = listed(cfg, engine, options.pictures, options.split)
    if options.dry_run:
        _report(_update(engine, listing, store, options, known), "would change")
        return len(engine.catalog or ())
    started = time.perf_counter()
    with store.writer():
        changes = _update(engine, listing, store, options, known)
    catalog = engine.opened
    _report(changes, f"version {catalog.version}")
    log.info("Columns to filter by: %s", described(catalog.items) or "none")
    _write_metrics(catalog, changes, time.perf_counter() - started)
    recall = "" if catalog.index.recall is None else f"  (Its recall@10 is {catalog.index.recall:.3f}.)"
    log.info(
        "%d pictures are searchable: python run.py task=search %s query=PICTURE%s",
        len(catalog), as_typed("catalog", store.folder), recall,
    )  # fmt: skip
    return len(catalog)


def _check_source(options: IndexOptions, store: Store) -> None:
    """Refuse two sources at once, and none for a catalogue that has one."""
    if options.embeddings:
        check_alone("embeddings", ("pictures", "check_content", "on_bad_image"))
    elif options.pictures:
        check_alone("pictures")
    else:
        check_named(store, Path(options.cache_dir))


def _encoder(options: IndexOptions, store: Store) -> str | Path:
    """The model that is named, else the catalogue's own, else the package's."""
    if options.encoder or not store.current():
        return options.encoder or "pretrained"
    try:
        return encoder_of(store.folder)
    except CatalogError:  # damaged; that its model has moved is for its owner to say
        if not options.rebuild:
            raise
    try:
        return encoder_of(store.folder, intact(store, items_only=True))
    except FashionError:
        return "pretrained"


def _index_named() -> bool:
    """Whether it was said which index, on the command line or by an experiment; else a catalogue keeps its own."""
    chosen = HydraConfig.get().runtime.choices["index"]
    return chosen != "flat" or any(key.split(".")[0] == "index" for key in named())


def _update(
    engine: VisualSearchEngine,
    listing: Listing,
    store: Store,
    options: IndexOptions,
    known: dict[str, NDArray[np.float32]],
) -> Changes:
    if store.current():
        engine.catalog = _existing(store, options.rebuild)
    if engine.catalog and not options.rebuild:
        engine.catalog.check_encoder(engine.encoder)
    if engine.catalog and engine.index is None and engine.catalog.asked["kind"] != "flat":
        log.info("The index stays %s, as the catalogue's is; index=… changes it.", engine.catalog.asked["kind"])
    before = engine.catalog
    changes = engine.sync(
        listing,
        store,
        on_bad_image=options.on_bad_image,
        allow_shrink=options.allow_shrink,
        dry_run=options.dry_run,
        rebuild=options.rebuild,
        first_id=store.next_id(),
        check_content=options.check_content,
        known=known,
    )
    for said in turned_to_text(before.items, engine.catalog.items) if before and engine.catalog else ():
        log.warning(said)
    return changes


def _existing(store: Store, rebuild: bool) -> Catalog | None:
    """The catalogue as it is, of one that is to be made anew only the items.

    If these cannot be read, those of the newest version that has them; None if there is none.
    """
    try:
        return Catalog.open(store.folder, items_only=rebuild)
    except FashionError as error:
        if not rebuild:
            raise
        older = intact(store, items_only=True)
        if older is not None:
            log.warning("%s  Ids and added items are taken from version %d; later changes are lost.", error, older)
            return Catalog.open(store.folder, items_only=True, version=older)
        lost = store.folder / f".{PICTURES}-lost"
        if (store.folder / PICTURES).is_dir():
            shutil.copytree(store.folder / PICTURES, lost, dirs_exist_ok=True)  # no version will name them
        kept = f" (pictures that a server stored: {lost})" if lost.is_dir() else ""
        log.warning("%s  Items that were added to it by task=items are lost%s; no id is used again.", error, kept)
        return None


def _write_metrics(catalog: Catalog, changes: Changes, seconds: float) -> None:
    """What a sweep over index settings compares: recall against exact search, and a search's time."""
    index = catalog.index
    metrics = {
        "recall@10": 1.0 if index.recall is None else index.recall,
        "search_ms": search_ms(index.search, np.asarray(catalog.embeddings[:SAMPLE])),
        "pictures": len(catalog),
        "embedded": changes.embedded,
        "seconds": round(seconds, 2),
    }
    content = {"metrics": metrics, "index": {"kind": index.kind, **index.settings}, "version": catalog.version}
    path = Path(HydraConfig.get().runtime.output_dir) / "metrics.json"
    write_text(path, json.dumps(content, indent=2) + "\n")


def _embedded(folder: Path, engine: VisualSearchEngine) -> tuple[Listing, dict[str, NDArray[np.float32]]]:
    """What task=embed (or clip-retrieval) wrote there."""
    made_by = read_parts_manifest(folder).get("fingerprint")
    if made_by is None:
        log.warning("%s does not say which model made its embeddings; they are taken for this encoder's.", folder)
    elif made_by != engine.encoder.fingerprint:
        raise FashionError(
            f"The embeddings in {folder} were made by the model {made_by}, and {engine.encoder.source} is "
            f"{engine.encoder.fingerprint}; set encoder to the one that made them."
        )
    return listing_of(folder)


def _report(changes: Changes, what: str) -> None:
    log.info("Catalogue, %s: %s", what, changes)
    for name, words in KINDS.items():
        values = getattr(changes, name)
        for value in values[:5]:
            log.info("  %s: %s", words, value)
        if len(values) > 5:
            log.info("  %s: and %d more", words, len(values) - 5)
