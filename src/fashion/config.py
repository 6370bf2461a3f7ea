"""Configurations as plain values."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf


def as_dict(cfg: Any, *, resolve: bool = True) -> dict[str, Any]:
    """A configuration as plain dicts and lists; resolve: with what each `${…}` stands for, else as it is written."""
    settings: Any = OmegaConf.to_container(cfg, resolve=resolve)
    assert isinstance(settings, dict)
    return settings


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as key.key → value."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
