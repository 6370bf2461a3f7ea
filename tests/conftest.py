"""Fixtures: small folders of pictures, and composed configurations."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import ROOT, write_pictures
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three classes: 12 training, 4 validation and 3 test pictures each."""
    labels = ("dress", "hat", "shoes")
    counts = {
        "train": dict.fromkeys(labels, 12),
        "validation": dict.fromkeys(labels, 4),
        "test": dict.fromkeys(labels, 3),
    }
    return write_pictures(tmp_path / "pictures", counts)


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Callable[..., DictConfig]]:
    """compose("task=classify", …) → the configuration that this command line makes; its cache is temporary."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield lambda *overrides: compose("config", [*overrides, f"cache_dir={tmp_path / 'cache'}"])
