"""Which data a model is evaluated on where the command line names no source: those of the run that made it."""

import logging
import re
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fashion.config import as_dict
from fashion.encoder import Encoder
from fashion.tasks.options import named

log = logging.getLogger(__name__)

PLACE = ("kind", "source", "drawing", "digests", "classes", "fold")
"""Settings that say which pictures there are, not how a training sees them; null where a run says nothing."""

READING = ("validation_fraction", "on_bad_image")
"""Other settings of the data, which stay as they are configured where a run says nothing."""


def with_data_of(encoder: Encoder, cfg: DictConfig) -> DictConfig:
    """The configuration, with the data of the encoder's run where the command line names no source.

    Other settings of the data that it names, such as classes, stay.  Where both have the same source, all stays as
    configured: other classes or folds may be meant, and a note says which the run had.
    """
    chosen = HydraConfig.get().runtime.choices.get("data")  # by an experiment, too
    if chosen != "clothing" or named() & {"data", "data.kind", "data.source"}:
        return cfg
    own = data_settings(encoder)
    if own is None:
        return cfg
    if all(own.get(key) == cfg.data.get(key) for key in ("kind", "source")):
        for key in ("classes", "fold"):
            if own[key] is not None and own[key] != cfg.data.get(key):
                log.info("The run was trained with data.%s=%s; name it to evaluate on the same.", key, own[key])
        return cfg
    cfg = cfg.copy()
    with open_dict(cfg):
        cfg.data.update({key: _beside(cfg.data.get(key), key, value) for key, value in own.items()})
    log.info("Data: those of the run of %s (data.kind=%s data.source=%s).", encoder.source, own["kind"], own["source"])
    return cfg


def _beside(configured: Any, key: str, own: Any) -> Any:
    """A setting of the run, with what the command line names in place of it or of its parts."""
    if f"data.{key}" in named():
        return configured
    parts = any(name.startswith(f"data.{key}.") for name in named())
    return {**(own or {}), **configured} if parts else own


def data_used(cfg: DictConfig) -> dict[str, Any]:
    """Which pictures the configuration names, for the record; `${…}` stays as it is, as it may read the environment."""
    settings = as_dict(cfg.data, resolve=False)
    return {key: settings.get(key) for key in (*PLACE, *READING)}


def data_settings(encoder: Encoder) -> dict[str, Any] | None:
    """What the run's configuration says of its data; None: there is none that can be used."""
    for folder in encoder.source.parents[:2]:  # a bundle lies in its run's folder, a checkpoint one deeper
        try:
            data = as_dict(OmegaConf.load(folder / ".hydra/config.yaml").data, resolve=False)
            own = {key: data.get(key) for key in PLACE} | {key: data[key] for key in READING if key in data}
            own["source"] = found_from_here(own["source"], folder)
        except (OSError, AttributeError, AssertionError, OmegaConfBaseException, YAMLError):
            continue
        # The folder may come from elsewhere: what a configuration names is run, and ${…} reads the environment.
        return None if any(sign in str(own) for sign in ("_target_", "${")) or own["kind"] is None else own
    return None


def whole(source: Any) -> Any:
    """A data.source that is a path, as it is named from everywhere; a URL, `${…}` or none as it is."""
    if not isinstance(source, str) or re.match(r"[a-z]+:|\$", source):
        return source
    return str(Path(source).expanduser().resolve())


def found_from_here(source: Any, run: Path) -> Any:
    """A run's data.source as it is named from this folder, where the run named it from another; else as it is."""
    if not isinstance(source, str) or re.match(r"[a-z]+:", source):  # none, or a URL
        return source
    try:
        hydra = as_dict(OmegaConf.load(run / ".hydra/hydra.yaml"), resolve=False)
        started_in = Path(hydra["hydra"]["runtime"]["cwd"])
    except (OSError, AssertionError, KeyError, ValueError, TypeError, OmegaConfBaseException, YAMLError):
        return source
    there = started_in / Path(source).expanduser()
    return str(there) if started_in != Path.cwd() and there.exists() else source
