"""The entry point: compose the configuration, then run its task.  `python run.py --help` lists what there is."""

import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fashion.errors import FashionError
from fashion.tasks import run_task
from fashion.tasks.multirun import run_job


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> Any:
    try:
        return run_job(cfg) if HydraConfig.get().mode == RunMode.MULTIRUN else run_task(cfg)
    except KeyboardInterrupt:
        sys.exit("interrupted; what was finished is kept, and nothing is left half-written.")
    except FashionError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
