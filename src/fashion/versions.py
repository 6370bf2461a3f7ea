"""Which versions of which packages something was made with, and on what machine."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

UNKNOWN = "unknown"


def versions(*names: str) -> dict[str, str]:
    """name → version, "unknown" for what can be imported but was not installed, such as a copied source tree."""
    return {name: _version(name) for name in names}


def installed(*names: str) -> dict[str, str]:
    """name → version of those that are installed; a machine that only searches has no torch."""
    return {name: found for name, found in versions(*names).items() if found != UNKNOWN}


def machine() -> dict[str, Any]:
    """Its processors and its system, for whoever compares figures."""
    return {"cpus": os.cpu_count(), "system": platform.platform()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return UNKNOWN
