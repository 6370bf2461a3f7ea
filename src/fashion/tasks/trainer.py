"""The Lightning trainer of both training tasks: its settings checked, with what watches and logs a run."""

import logging
import warnings
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pydantic import Field
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
    Timer,
)
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from fashion.arguments import check_types
from fashion.callbacks import Averaging, BestCheckpoint, Diverged, LastValidated, OneFolder, SamePace, SeedPerProcess
from fashion.config import as_dict
from fashion.errors import FashionError
from fashion.report.progress import progress
from fashion.report.tensorboard import FirstBatch
from fashion.tasks.options import Options, note_unused

OURS = {
    "default_root_dir": "hydra.run.dir says where a run lies",
    "enable_progress_bar": "there is a bar where someone watches",
    "enable_checkpointing": "a run without a checkpoint leaves no model",
    "fast_dev_run": "trainer=smoke is a trial of two steps",
    "overfit_batches": "it takes the first files, which are of one class, and no triplets twice; to overfit, train on "
    "a folder of few pictures with data.augment=null",
}
"""Arguments of the trainer that the run sets itself, and why."""

ADDED = ("callbacks", "logger")
"""Arguments of the trainer whose values are added to the run's own."""


class TrainingOptions(Options):
    """Keys of a training task, beside those of its module, data and trainer."""

    resume: str | None
    epochs: int = Field(ge=1)
    pretrained: str | None
    ema: float | None = Field(ge=0, lt=1)
    early_stopping: int | None = Field(ge=1)
    channels_last: bool
    match_precision: float = Field(gt=0, le=1)


def make_trainer(cfg: DictConfig, options: TrainingOptions, module: Any, folder: Path) -> Trainer:
    """The trainer that `cfg` describes; its first logger writes TensorBoard's events into the run's `folder`.

    Raises:
        FashionError: for a setting that no training can have.
    """
    _quiet()
    settings = as_dict(cfg)
    check_trainer(settings, options)
    callbacks, loggers = (_listed(instantiate(settings.pop(name, None), _convert_="all")) for name in ADDED)
    callbacks = [*_callbacks(module, options, folder, settings.pop("max_time", None)), *callbacks]
    first: Logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False, log_graph=False)
    watched = any(isinstance(one, ProgressBar) for one in callbacks)  # else Lightning would add a bar of its own
    named = OmegaConf.create({"trainer": settings})  # so that an error names `trainer`
    trainer: Trainer = instantiate(
        named.trainer,
        callbacks=callbacks,
        logger=[first, *loggers],
        default_root_dir=str(folder),
        enable_progress_bar=watched,
    )
    return trainer


def check_trainer(settings: dict[str, Any], options: TrainingOptions) -> None:
    """Refuse settings that Lightning would accept, or fail on later.

    Raises:
        FashionError: naming the first.
    """
    made = (*ADDED, *(name for name, value in settings.items() if "_target_" in str(value)))
    check_types("trainer", Trainer.__init__, {k: v for k, v in settings.items() if k not in made})
    for name, why in OURS.items():
        if name in settings:
            raise FashionError(f"trainer.{name} is not to be set: {why}; leave it out.")
    for name in ADDED:
        given = settings.get(name)
        each = given if isinstance(given, list) else [given]
        if given is not None and not all(isinstance(one, dict) for one in each):
            raise FashionError(f"trainer.{name} is {given!r}; name what is to come beside ours by _target_.")
    for name in ("max_epochs", "check_val_every_n_epoch"):
        value = settings.get(name)
        if value is not None and value < 1:
            raise FashionError(f"trainer.{name} is {value}; it should be a whole number from 1 on.")
    precision = str(settings.get("precision"))
    if options.ema and (precision == "64" or (precision.endswith("-true") and precision != "32-true")):
        raise FashionError(
            f"trainer.precision={precision} keeps no moving average of the weights; use 32-true or bf16-mixed, or "
            "task.ema=null."
        )
    every, epochs = settings.get("check_val_every_n_epoch"), settings.get("max_epochs")
    if epochs is None and settings.get("max_steps") in (None, -1):
        raise FashionError("trainer.max_epochs is null; the learning rate falls until an end, so give it or max_steps.")
    if epochs != options.epochs:
        note_unused(["task.epochs"], f"with trainer.max_epochs={epochs}")
    if options.early_stopping and settings.get("limit_val_batches") == 0:
        raise FashionError("task.early_stopping looks at validations, and trainer.limit_val_batches=0 leaves none.")
    if options.early_stopping and every and epochs and epochs < every:
        raise FashionError(
            f"task.early_stopping looks at validations, and none but the last comes within {epochs} epochs; "
            f"lower trainer.check_val_every_n_epoch ({every})."
        )


def _listed(given: Any) -> list[Any]:
    """None, one or many as a list; many may have names, as Hydra's overrides give them."""
    if not given:
        return []
    return list(given.values()) if isinstance(given, dict) else given if isinstance(given, list) else [given]


def _callbacks(module: Any, options: TrainingOptions, folder: Path, longest: Any) -> list[Callback]:
    common: dict[str, Any] = {
        "dirpath": folder / "checkpoints",
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    callbacks: list[Callback] = [
        BestCheckpoint(filename="best", monitor=module.monitor, mode="max", **common),
        ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **common),
        LearningRateMonitor("step"),
        progress(),
        FirstBatch(),
        # Resumed with the run.  Lightning's own for max_time, which it replaces, would stop in the middle of an epoch.
        _timer(longest),
        OneFolder(folder),
        LastValidated(),
        Diverged(),
        SeedPerProcess(options.seed),
        SamePace(),
    ]
    if options.ema:
        # First, so that the others validate and save the averaged weights.
        callbacks.insert(0, Averaging(options.ema))
    if options.early_stopping:
        callbacks.append(EarlyStopping(module.monitor, mode="max", patience=options.early_stopping))
    return callbacks


def _timer(longest: Any) -> Timer:
    try:
        return Timer(longest, interval="epoch")
    except (MisconfigurationException, TypeError, ValueError):
        raise FashionError(
            f"trainer.max_time is {longest!r}; it should be days, hours, minutes and seconds, as 00:01:30:00."
        ) from None


def _quiet() -> None:
    """Silence advice of Lightning and torch that does not apply.

    Batches come from memory, without workers; what a resumed run may not change is refused; and each of several
    processes validates on all pictures.
    """
    for text in (".*does not have many workers.*", ".*isinstance.treespec.*", ".*number of training batches.*",
                 ".*exists and is not empty.*", ".*`lr_scheduler.step.*",
                 ".*callbacks used to create the checkpoint.*",
                 ".*dirpath has changed.*", ".*sync_dist=True.*"):  # fmt: skip
        warnings.filterwarnings("ignore", message=text)
    for name in (
        "pytorch_lightning.utilities.rank_zero",
        "pytorch_lightning.callbacks.weight_averaging",
        "tensorboard",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
