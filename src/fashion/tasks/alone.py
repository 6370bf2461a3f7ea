"""One run by itself: where it ends in an error, the sentence is left in its folder, for task=runs."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fashion.tasks import run_task
from fashion.tasks.folder import BEFORE
from fashion.tasks.multirun import reason


def run_alone(cfg: DictConfig) -> Any:
    """Run the task; an error is raised, and stands in the folder's `error.txt` where there are no figures."""
    hydra_config = HydraConfig.get()
    if hydra_config.output_subdir is None:  # no folder of its own, or a process that another one started
        return run_task(cfg)
    folder = Path(hydra_config.runtime.output_dir)
    error_file = folder / "error.txt"
    error_file.unlink(missing_ok=True)  # left by the run that is resumed
    settings = folder / hydra_config.output_subdir
    before = settings.with_name(settings.name + BEFORE)
    try:
        return run_task(cfg)
    except Exception as error:
        # A full disk is reported already; of several processes the first to fail writes the file.
        with suppress(OSError):
            if not (folder / "metrics.json").exists():
                with error_file.open("x", encoding="utf-8") as file:
                    file.write(reason(error))
            elif before.exists():  # it had finished, and keeps its figures, with the settings that made them
                shutil.rmtree(settings)
                before.rename(settings)
        raise
    finally:
        shutil.rmtree(before, ignore_errors=True)
