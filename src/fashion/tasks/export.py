"""task=export: turn a training run into a bundle that embeds and names pictures without torch."""

import json
import logging
from pathlib import Path

from omegaconf import DictConfig

from fashion.encoder import find_model
from fashion.errors import FashionError
from fashion.export.bundle import write_bundle
from fashion.tasks.options import Options, read_options

log = logging.getLogger(__name__)


class ExportOptions(Options):
    encoder: str
    bundle: str | None


def run(cfg: DictConfig) -> str:
    """Write the bundle (default: `bundle` in the run's folder); returns its path."""
    options = read_options(cfg, ExportOptions)
    checkpoint = find_model(Path(options.encoder))
    if checkpoint.is_dir():
        raise FashionError(f"{checkpoint} is a bundle already; name a run folder or a checkpoint.")
    run_folder = checkpoint.parent.parent
    target = Path(options.bundle).expanduser() if options.bundle else run_folder / "bundle"
    try:
        metrics = json.loads((run_folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        metrics = None
    folder = write_bundle(checkpoint, target, metrics=metrics)
    log.info("Bundle: %s", folder)
    return str(folder)
