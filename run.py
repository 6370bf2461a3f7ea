"""The entry point: compose the configuration, then run its task.  `python run.py --help` lists what there is."""

import logging
import sys
import traceback
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fashion.errors import FashionError
from fashion.tasks import run_task


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> Any:
    hydra_config = HydraConfig.get()
    try:
        return run_task(cfg)
    except KeyboardInterrupt:
        sys.exit("interrupted; what was finished is kept, and nothing is left half-written.")
    except Exception as error:
        if hydra_config.mode == RunMode.MULTIRUN:
            # One failing job must not lose the others: it is listed in the final table, with this sentence.
            Path(hydra_config.runtime.output_dir, "error.txt").write_text(str(error) or repr(error), encoding="utf-8")
            logging.getLogger(__name__).error(
                "%s", error if isinstance(error, FashionError) else traceback.format_exc()
            )
            return float("nan")
        if isinstance(error, FashionError):
            sys.exit(f"error: {error}")
        raise


if __name__ == "__main__":
    main()
