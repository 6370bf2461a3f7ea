"""One run by itself: where it ends in an error, the sentence is left in its folder, for task=runs."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fashion.tasks import run_task
from fashion.tasks.multirun import reason


def run_alone(cfg: DictConfig) -> Any:
    """Run the task; an error is raised, and stands in the folder's `error.txt` where there are no figures."""
    hydra_config = HydraConfig.get()
    if hydra_config.output_subdir is None:  # no folder of its own, or a process that another one started
        return run_task(cfg)
    folder = Path(hydra_config.runtime.output_dir)
    error_file = folder / "error.txt"
    error_file.unlink(missing_ok=True)  # of a run that goes on
    try:
        return run_task(cfg)
    except Exception as error:
        if not (folder / "metrics.json").exists():  # else it had finished, and keeps its figures
            # A full disk is said already; of several processes the first to fail says why.
            with suppress(OSError), error_file.open("x", encoding="utf-8") as file:
                file.write(reason(error))
        raise
