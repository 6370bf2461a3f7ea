"""The folder that a command writes into: made first, so that one that cannot be made is a sentence and no traceback."""

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fashion.errors import FashionError
from fashion.files import explained

BEFORE = "-before"
"""Ends the name of the folder with the settings of a finished run, while another command writes into its folder."""


class RunFolder(Callback):
    """Hydra's callback that makes the folder of the run, or of the multirun, or ends the command.

    Hydra writes a command's settings before the task can refuse them: those of the figures that are there are kept.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        make(config.hydra.run.dir, "hydra.run.dir")
        folder, name = Path(config.hydra.run.dir), config.hydra.output_subdir
        if name is not None and (folder / "metrics.json").exists() and (folder / name).is_dir():
            shutil.copytree(folder / name, folder / (name + BEFORE), dirs_exist_ok=True)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        make(config.hydra.sweep.dir, "hydra.sweep.dir")
        storage = str(OmegaConf.select(config, "hydra.sweeper.storage", default=""))
        if storage.startswith("sqlite:///"):  # SQLite makes the file, and not the folder
            make(str(Path(storage.removeprefix("sqlite:///")).parent), "hydra.sweeper.storage")


def make(folder: str, key: str) -> None:
    """Make the folder; end with a sentence that names it, and the key that chooses another, if it cannot be written."""
    if folder.startswith("~"):
        sys.exit(f"error: {key} is {folder}, and Hydra knows no ~; give the whole path.")
    try:
        with explained(Path(folder), f"choose another folder: {key}=…"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except FashionError as error:
        sys.exit(f"error: {error}")
