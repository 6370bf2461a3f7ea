"""Fixtures: small folders of pictures, and composed configurations."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, write_checkpoint, write_pictures
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict


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


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an untrained model."""
    return write_checkpoint(tmp_path_factory.mktemp("run") / "checkpoints" / "last.ckpt").parents[1]


@pytest.fixture(scope="session")
def bundle(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a bundle."""
    from fashion.export.bundle import write_bundle

    return write_bundle(run_folder / "checkpoints" / "last.ckpt", tmp_path_factory.mktemp("exported") / "bundle")


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """run_here("task=…", …, out="name") runs a task in this process, as run.py would, into tmp_path/name."""
    from fashion.tasks.alone import run_alone

    monkeypatch.chdir(tmp_path)

    def run(*overrides: str, out: str = "out") -> Any:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("config", [*overrides, f"cache_dir={tmp_path / 'cache'}"], return_hydra_config=True)
        (tmp_path / out).mkdir(exist_ok=True)
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = str(tmp_path / out)
            cfg.hydra.mode = "RUN"
            HydraConfig.instance().set_config(cfg)
            del cfg.hydra
        return run_alone(cfg)

    return run
