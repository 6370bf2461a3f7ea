"""The settings that a training which goes on must be given again: its checkpoints note them."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fashion.config import as_dict, flat
from fashion.errors import FashionError
from fashion.quoting import as_typed, as_typed_list
from fashion.tasks.run_data import whole

log = logging.getLogger(__name__)

DATA = tuple(f"data.{name}" for name in ("kind", "drawing", "classes", "validation_fraction", "fold"))
"""Settings that say which pictures are trained on: with others a run would be judged on some of its own."""

LEARNED = ("task.balance", "task.teacher", "task.batches", "loss")
"""Settings that say what is learned, beside `task.module`'s, which are among a checkpoint's hyper-parameters."""

FREE = ("data.source", "data.augment", "seed")
"""Settings that may change on the way, as pictures may move; a change is said."""

OTHERS = {"backbone", "class_names", "image_size", "centre", "class_weights", "looks_fitted"}
"""Hyper-parameters that are no settings of `task.module`."""


def recipe(cfg: DictConfig) -> dict[str, Any]:
    """The settings of a training's configuration to be noted; `${…}` stays as it is: it may read the environment."""
    kept = {key: value for key, value in flat(as_dict(cfg, resolve=False)).items() if _of(key, DATA + LEARNED + FREE)}
    return kept | {"data.source": whole(kept.get("data.source"))}


def of_module(trained: Mapping[str, Any], mine: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of `task.module` among two modules' hyper-parameters, those that both have."""
    names = [name for name in trained if name in mine and name not in OTHERS]
    before, asked = ({f"task.module.{name}": one[name] for name in names} for one in (trained, mine))
    return before, asked


def check_same(checkpoint: Path, before: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise FashionError if the run of the checkpoint had other settings; of those that may change it is said.

    What an older run has not noted is not looked at.
    """
    other = {key: value for key, value in before.items() if key not in asked or asked[key] != value}
    changes = {
        key: _typed(key, value) + (f", not {_shown(asked[key])}" if key in asked else ", which is left out now")
        for key, value in other.items()
    }
    held = [key for key in changes if not _of(key, FREE)]
    if held:
        again = " ".join(_typed(key, other[key], "" if key in asked else "++") for key in held)
        raise FashionError(
            f"{checkpoint} was trained with {', and '.join(changes[key] for key in held)}; resume goes on with the "
            f"same: add {again}, or start from its weights with task.pretrained."
        )
    if changes:
        log.warning("%s was trained with %s; it goes on with the new.", checkpoint, ", and ".join(changes.values()))


def _of(key: str, names: tuple[str, ...]) -> bool:
    return not key.endswith("._convert_") and any(key == name or key.startswith(f"{name}.") for name in names)


def _typed(key: str, value: Any, sign: str = "") -> str:
    """The override that gives a setting that value."""
    if isinstance(value, list):
        return as_typed_list(sign + key, map(str, value))
    return as_typed(sign + key, value) if isinstance(value, str) else f"{sign}{key}={json.dumps(value)}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
