"""What each task reads from the configuration, checked once where it enters."""

import logging
from collections.abc import Iterable
from typing import TypeVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fashion.config import as_dict
from fashion.errors import FashionError

log = logging.getLogger(__name__)

GROUPS = ("data", "model", "trainer", "index", "loss")
"""Checked by the constructors that they are the arguments of."""

SECRET = ("api_key",)
"""Last parts of keys whose values are never printed."""


class Options(BaseModel):
    """Keys that every task has."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    name: str
    seed: int = Field(ge=0, lt=2**32)
    cache_dir: str
    sweep_name: str


AnyOptions = TypeVar("AnyOptions", bound=Options)


def named() -> set[str]:
    """The keys and groups that the command line names."""
    return {override.lstrip("+~").partition("=")[0] for override in HydraConfig.get().overrides.task}


def note_unused(keys: Iterable[str], why: str) -> None:
    """Warn of those of the keys that the command line names: they do nothing, for that reason."""
    for key in sorted(named().intersection(keys)):
        log.warning("%s does nothing %s.", key, why)


def note_renamed(model: DictConfig) -> None:
    """Warn where the command line names another network, and so renames the one of its group only."""
    if "model.name" in named() and "blocks" in model and not named() & {"model.stem", "model.blocks"}:
        chosen = HydraConfig.get().runtime.choices["model"]
        log.warning("model.name=%s does nothing but rename model=%s; model=… chooses a network.", model.name, chosen)


def refuse_ignored(ignored: Iterable[str], beside: str) -> None:
    """Raise FashionError if there is a key that would be ignored beside another."""
    words = ", ".join(f"{key}=…" for key in sorted(ignored))
    if words:
        raise FashionError(f"{words} would be ignored beside {beside}=…; leave out {words}, or leave out {beside}=….")


def read_options(cfg: DictConfig, kind: type[AnyOptions]) -> AnyOptions:
    """The task's own keys, those at the top level and those under `task`, as one checked object.

    Raises:
        FashionError: naming the key, its value, and what is wrong with it.
    """
    values = as_dict(cfg)
    task = values.pop("task")
    flat = {key: value for key, value in values.items() if key not in GROUPS}
    flat |= {key: value for key, value in task.items() if key not in ("module", "batches")}
    empty = next((key for key, value in flat.items() if value == ""), None)  # pictures=$SHOP, where SHOP is not set
    if empty:
        raise FashionError(f"{'task.' if empty in task else ''}{empty} is empty; give it a value, or leave it out.")
    try:
        return kind(**flat)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if key.split(".")[0] in task:
            key = f"task.{key}"
        shown = "" if key.split(".")[-1] in SECRET else f" is {first['input']!r}"
        raise FashionError(f"{key}{shown}: {first['msg']}.") from None
