"""What `run.py task=…` can do: one file a task, each with `run(cfg)`.

The table names functions instead of importing them, so that a search does not wait for torch.
"""

from pkgutil import resolve_name
from typing import Any

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fashion.errors import FashionError

TASKS = {
    "help": "fashion.tasks.help:run",
    "classify": "fashion.tasks.classify:run",
    "triplet": "fashion.tasks.triplet:run",
    "evaluate": "fashion.tasks.evaluate:run",
    "audit": "fashion.tasks.audit:run",
    "convert": "fashion.tasks.convert:run",
    "runs": "fashion.tasks.runs:run",
    "compare": "fashion.tasks.compare:run",
    "index": "fashion.tasks.index:run",
    "embed": "fashion.tasks.embed:run",
    "benchmark": "fashion.tasks.benchmark:run",
    "items": "fashion.tasks.items:run",
    "rollback": "fashion.tasks.rollback:run",
    "search": "fashion.tasks.search:run",
    "serve": "fashion.tasks.serve:run",
    "export": "fashion.tasks.export:run",
    "summary": "fashion.tasks.summary:run",
}


TRAINING = (
    "torch",
    "torchvision",
    "pytorch_lightning",
    "tensorboard",
    "matplotlib",
    "onnx",
    "onnxscript",
    "safetensors",
)
"""What the `train` extra brings."""


def run_task(cfg: DictConfig) -> Any:
    """Run the task that `cfg.task.name` names, and return what it returns (for a training: the metric of a sweep).

    Raises:
        FashionError: if a value that has no default was not given, or whatever the task refuses.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        if missing:
            raise FashionError(f"{missing[0]} has no default; add {missing[0]}=… to the command line.")
        if cfg.task.name not in TASKS:
            raise FashionError(
                f"task.name is {cfg.task.name!r}, which is no task: leave it to task=…; hydra.run.dir names a run."
            )
        return resolve_name(TASKS[cfg.task.name])(cfg)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAINING:
            raise
        raise FashionError(
            f"This needs the `train` extra ({error}): pip install -c constraints.txt -e '.[train]'"
        ) from error
    except OmegaConfBaseException as error:  # a ${…} that leads nowhere, a key that was deleted
        raise FashionError(f"The configuration is incomplete: {str(error).splitlines()[0]}.") from error
    except InstantiationException as error:  # Hydra's, around what a constructor refused
        cause = error.__cause__
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, FashionError):
            raise cause from None
        where = str(error).rpartition("full_key: ")[2].splitlines()[0] if "full_key: " in str(error) else "a setting"
        raise FashionError(f"{where} is refused: {' '.join(str(cause or error).split())}") from error
