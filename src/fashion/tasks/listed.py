"""What task=index and task=embed are to make searchable: the pictures of a folder, or of the configured data."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fashion.config import as_dict
from fashion.data.sources import read_source
from fashion.encoder import Encoder
from fashion.errors import FashionError
from fashion.quoting import as_typed
from fashion.search.engine import VisualSearchEngine
from fashion.search.listing import Listing
from fashion.search.remaking import made_from, root_of
from fashion.search.store import Store
from fashion.tasks.options import named, note_unused, refuse_ignored
from fashion.tasks.shown import note_splits, note_training_only, shown_to

log = logging.getLogger(__name__)


def check_named(store: Store, cache: Path) -> None:
    """Refuse to fill a catalogue of other pictures with the default data only because no data were named.

    Args:
        cache: a catalogue of pictures below it is one of data that were downloaded or drawn.

    Raises:
        FashionError: that says what to name.
    """
    chosen = HydraConfig.get().runtime.choices["data"]
    if store.current() is None or named() & {"data", "data.source"} or chosen != "clothing":
        return
    root = root_of(store)
    if root is None or not Path(root).is_relative_to(cache.expanduser().resolve()):
        guessed = f"{as_typed('pictures', root or 'FOLDER')}, or the data=… or embeddings=… that it was made with"
        raise FashionError(
            f"{store.folder} is a catalogue already, and nothing says what it is to hold now; give "
            f"{made_from(store) or guessed}."
        )


PLACE = {"data", "split", *(f"data.{key}" for key in ("kind", "source", "classes", "fold", "validation_fraction"))}
"""Keys that say where pictures come from, as `pictures` and `embeddings` do."""


def check_alone(source: str, others: Iterable[str] = ()) -> None:
    """Refuse what would be ignored beside `pictures` or `embeddings`, which say all of where the pictures come from.

    Args:
        source: the key that is given.
        others: further keys that say nothing beside it.

    Raises:
        FashionError: that says what to leave out.
    """
    refuse_ignored(named() & {*PLACE, *others}, source)


def listed(cfg: DictConfig, engine: VisualSearchEngine, pictures: str | None, split: str | None) -> Listing:
    """The pictures of a folder, or of a split of `data`.

    Args:
        split: None: `train` of data that have splits of their own, and all of others.
    """
    note_training_only()
    note_unused(["data.on_bad_image"], "here; on_bad_image=skip leaves damaged pictures out")
    return engine.list_folder(pictures) if pictures else _split(cfg, engine.encoder, split)


def _split(cfg: DictConfig, encoder: Encoder, split: str | None) -> Listing:
    """The configured data, without torch, which a data module would need: it takes seconds to load."""
    shown_to(encoder, cfg)
    data = as_dict(cfg.data)
    names = ("kind", "source", "drawing", "classes", "validation_fraction", "fold")
    settings: dict[str, Any] = {name: data.get(name) for name in names}
    source = read_source(**settings, cache=Path(data["cache_dir"]).expanduser().resolve(), labels=False)
    note_splits(source)
    divided = source.has_splits or settings["fold"] is not None
    split = split or ("train" if divided else "all")
    items = list(source.items) if split == "all" else source.split(split)
    if not items:
        raise FashionError(f"{source.root} has no {split} pictures; set split=…, or pictures=FOLDER.")
    left = len(source.items) - len(items)
    if left:
        log.info("%d of %d pictures are in other splits than %s; split=all takes them.", left, len(source.items), split)
    names_given = list(dict.fromkeys(name for item in items for name in item.extra))
    columns = {name: [item.extra.get(name) for item in items] for name in names_given}
    columns["label"] = [item.label or None for item in items]
    if divided:
        columns["split"] = [item.split for item in items]
    boxes = [item.box for item in items]
    paths = [Path(source.root / item.path) for item in items]
    if settings["fold"] is None and (source.has_splits or split == "all"):
        settings["validation_fraction"] = None  # it divided nothing
        if not source.has_splits:
            note_unused(["data.validation_fraction"], f"here: {source.root} is not divided")
    overrides = _overrides(**settings) | {"split": split}
    return Listing(source.root, paths, columns, boxes if any(boxes) else None, made_from=overrides)


def _overrides(kind: str, source: str | int | None, drawing: dict[str, Any] | None, **others: Any) -> dict[str, Any]:
    """The overrides that name the same data from anywhere."""
    found: dict[str, Any] = {"data": kind} | ({"data.source": _place(str(source))} if source else {})
    if kind == "synthetic":
        found |= {f"data.drawing.{name}": value for name, value in (drawing or {}).items()}
    return found | {f"data.{name}": value for name, value in others.items() if value is not None}


def _place(source: str) -> str:
    """A source as it is named from anywhere; a URL without what may be secret: a user's name and password, a query."""
    url = urlsplit(source)
    if url.scheme in ("http", "https"):
        return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return source if url.scheme == "file" else str(Path(source).expanduser().resolve())
