"""task=export: turn a training run into a bundle that embeds and names pictures without torch."""

import json
import logging
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from fashion.encoder import find_model
from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.parts import PATH, write_manifest, write_part
from fashion.tasks.options import Options, read_options

log = logging.getLogger(__name__)


class ExportOptions(Options):
    encoder: str | None
    bundle: str | None
    catalog: str | None
    embeddings: str | None


def run(cfg: DictConfig) -> str:
    """Write the bundle (default: `bundle` in the run's folder), or a catalogue's embeddings; returns its path."""
    options = read_options(cfg, ExportOptions)
    if options.catalog:
        return _embeddings(Path(options.catalog).expanduser(), options.embeddings)
    if options.encoder is None:
        raise FashionError("Name what to export: encoder=RUN makes a bundle, catalog=FOLDER writes its embeddings.")
    checkpoint = find_model(Path(options.encoder))
    if checkpoint.is_dir():
        raise FashionError(f"{checkpoint} is a bundle already; name a run folder or a checkpoint.")
    run_folder = checkpoint.parent.parent
    target = Path(options.bundle).expanduser() if options.bundle else run_folder / "bundle"
    try:
        metrics = json.loads((run_folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        metrics = None
    from fashion.export.bundle import write_bundle  # torch, which a catalogue's embeddings do not need

    folder = write_bundle(checkpoint, target, metrics=metrics)
    log.info("Bundle: %s", folder)
    return str(folder)


def _embeddings(catalog_folder: Path, target: str | None) -> str:
    """Write a catalogue in clip-retrieval's layout, which task=index embeddings=… reads too."""
    catalog = Catalog.open(catalog_folder)
    folder = Path(target).expanduser() if target else catalog_folder.with_name(f"{catalog_folder.name}-embeddings")
    if folder.exists() and any(folder.iterdir()):
        raise FashionError(f"{folder} is not empty; name another folder with embeddings=….")
    write_manifest(folder, catalog.fingerprint, catalog.root)
    rows = catalog.items.rename_columns([PATH if name == "path" else name for name in catalog.items.column_names])
    write_part(folder, 0, np.asarray(catalog.embeddings), rows)
    log.info("%d embeddings: %s", len(catalog), folder)
    return str(folder)
