"""task=index: embed pictures into a catalogue folder that can be searched."""

import logging
from pathlib import Path
from typing import Literal

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.engine import VisualSearchEngine
from fashion.tasks.options import Options, read_options

log = logging.getLogger(__name__)


class IndexOptions(Options):
    encoder: str
    pictures: str | None
    split: Literal["train", "validation", "test"]
    catalog: str
    on_bad_image: Literal["fail", "skip"]


def run(cfg: DictConfig) -> int:
    """Write the catalogue; returns how many pictures it holds."""
    options = read_options(cfg, IndexOptions)
    settings = {str(key): value for key, value in OmegaConf.to_container(cfg.index).items()}  # type: ignore[union-attr]
    folder = Path(options.catalog).expanduser()
    Catalog.check_target(folder)  # before minutes of embedding, not after
    engine = VisualSearchEngine(options.encoder, index=settings)
    if options.pictures is not None:
        catalog = engine.embed_dataset(options.pictures, on_bad_image=options.on_bad_image)
    else:
        catalog = _embed_split(engine, cfg, options)
    catalog.write(folder)
    log.info("%d pictures are searchable: python run.py task=search catalog=%s query=PICTURE", len(catalog), folder)
    return len(catalog)


def _embed_split(engine: VisualSearchEngine, cfg: DictConfig, options: IndexOptions) -> Catalog:
    source = instantiate(cfg.data).source
    items = source.split(options.split)
    if not items:
        raise FashionError(f"{source.root} has no {options.split} pictures; set split=…, or pictures=FOLDER.")
    names = list(dict.fromkeys(name for item in items for name in item.extra))
    columns = {name: [item.extra.get(name) for item in items] for name in names}
    columns |= {"label": [item.label for item in items], "split": [item.split for item in items]}
    return engine.embed_items(
        [source.root / item.path for item in items],
        columns,
        root=source.root,
        boxes=[item.box for item in items],
        on_bad_image=options.on_bad_image,
    )
