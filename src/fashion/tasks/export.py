"""task=export: turn a training run into a bundle that embeds and names pictures without torch."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fashion.config import as_dict
from fashion.errors import FashionError
from fashion.files import read_json
from fashion.model_files import figures_of, find_model
from fashion.search.catalog import Catalog
from fashion.search.parts import PATH, write_manifest, write_part
from fashion.tasks.options import Options, note_unused, read_options
from fashion.tasks.run_data import found_from_here

if TYPE_CHECKING:
    from fashion.data.datamodules import ImageDataModule

log = logging.getLogger(__name__)

RECIPE = ("classes", "fold", "training_size", "stored_scale", "batch_size", "augment")
"""Settings of the data that a bundle notes: not where it lay."""


class ExportOptions(Options):
    encoder: str | None
    bundle: str | None
    catalog: str | None
    embeddings: str | None
    check: bool
    heads: bool
    note: str | None


def run(cfg: DictConfig) -> str:
    """Write the bundle (default: `bundle` in the run's folder), or a catalogue's embeddings; returns its path."""
    options = read_options(cfg, ExportOptions)
    if options.catalog and options.encoder:
        raise FashionError("Give encoder=RUN for a bundle or catalog=FOLDER for its embeddings, not both.")
    if options.catalog:
        note_unused(("bundle", "check", "heads", "note"), "with catalog=…, whose embeddings are written")
        return _embeddings(Path(options.catalog).expanduser().resolve(), options.embeddings)
    if options.encoder is None:
        raise FashionError("Name what to export: encoder=RUN makes a bundle, catalog=FOLDER writes its embeddings.")
    note_unused(["embeddings"], "with encoder=…, which is written as a bundle")
    checkpoint = find_model(Path(options.encoder))
    if checkpoint.is_dir() or checkpoint.suffix == ".onnx":
        raise FashionError(f"{checkpoint} is a bundle already; name a run folder or a checkpoint.")
    run_folder = checkpoint.parent.parent
    target = Path(options.bundle).expanduser() if options.bundle else run_folder / "bundle"
    from fashion.export.bundle import write_bundle  # torch, which a catalogue's embeddings do not need

    metrics = figures_of(checkpoint)
    if metrics is None:
        log.warning(
            "%s has no figures of its own in metrics.json: the bundle will have none, and no threshold.", checkpoint
        )
    folder = write_bundle(
        checkpoint,
        target,
        data=_data_of(run_folder, str(cfg.cache_dir)) if options.check else None,
        metrics=metrics,
        run=_recipe(run_folder),
        note=options.note,
        heads=options.heads,
    )
    manifest = read_json(folder / "manifest.json") or {}
    log.info(
        "ONNX Runtime agrees with torch on %d pictures: embeddings differ by %.1g at most, neighbours not at all.",
        manifest["agreement"]["pictures"], manifest["agreement"]["embeddings"],
    )  # fmt: skip
    log.info("int8 is %s: %s.", "kept" if manifest["int8"]["kept"] else "left out", manifest["int8"]["why"])
    log.info("Bundle: %s", folder)
    return str(folder)


def _recipe(run_folder: Path) -> dict[str, Any]:
    """What the run was configured with that made the model and is not among the network's own settings.

    Interpolations stay as they are written: a run folder may come from elsewhere, and a bundle goes elsewhere.
    """
    try:
        config = OmegaConf.to_container(_config_of(run_folder), resolve=False)
    except (OSError, OmegaConfBaseException, YAMLError):
        return {}
    wanted = {
        "": ("seed",),
        "task": ("epochs", "ema", "batches"),
        "data": RECIPE,
        "trainer": ("precision",),
        "loss": ("_target_", "margin", "miner"),
    }
    found: dict[str, Any] = {}
    for group, names in wanted.items():
        values = config.get(group) if group and isinstance(config, dict) else config
        if isinstance(values, dict):
            found |= {f"{group}.{name}".strip("."): values[name] for name in names if name in values}
    return found


def _data_of(run_folder: Path, cache: str) -> "ImageDataModule | None":
    """The pictures that the run was trained on; None where they cannot be had any more."""
    from fashion.data.datamodules import ImageDataModule

    try:
        settings = as_dict(_config_of(run_folder), resolve=False)
        # A run folder may come from elsewhere: what it names is not run, and ${…}, which reads the environment, stays.
        options = {name: value for name, value in settings["data"].items() if not name.startswith("_")}
        options["source"] = found_from_here(options.get("source"), run_folder)
        data = ImageDataModule(**options | {"augment": None, "cache_dir": cache})
        data.array("validation"), data.array("train")
    except (OSError, KeyError, TypeError, FashionError, OmegaConfBaseException, YAMLError) as error:
        log.info("The run's own pictures cannot be had (%s); drawn ones stand in, and int8 is not tried.", error)
        return None
    return data


def _config_of(run_folder: Path) -> Any:
    return OmegaConf.load(run_folder / ".hydra" / "config.yaml")


def _embeddings(catalog_folder: Path, target: str | None) -> str:
    """Write a catalogue in clip-retrieval's layout, which task=index embeddings=… reads too."""
    catalog = Catalog.open(catalog_folder)
    folder = Path(target).expanduser() if target else catalog_folder.with_name(f"{catalog_folder.name}-embeddings")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FashionError(f"{folder} is not an empty folder; name another one with embeddings=….")
    write_manifest(folder, catalog.fingerprint, catalog.root)
    rows = catalog.items.rename_columns([PATH if name == "path" else name for name in catalog.items.column_names])
    rows = rows.set_column(rows.column_names.index(PATH), PATH, pa.array(_paths(catalog)))
    write_part(folder, 0, np.asarray(catalog.embeddings), rows)
    log.info("%d embeddings: %s", len(catalog), folder)
    return str(folder)


def _paths(catalog: Catalog) -> list[str]:
    """Below the root; of added items as a whole, and where it is now."""
    paths = catalog.items["path"].to_pylist()
    return [str(catalog.picture({"path": path})) if Path(path).is_absolute() else path for path in paths]
