"""What both training tasks share: one Lightning fit, its checkpoints and logs, and the metrics that follow."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
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
from pytorch_lightning.loggers import TensorBoardLogger

from fashion.arguments import check_types
from fashion.callbacks import BestCheckpoint, Diverged, Draws, LastValidated, OneFolder, SamePace
from fashion.data.arrays import PictureArray
from fashion.data.audit import audit
from fashion.data.datamodules import ImageDataModule
from fashion.encoder import find_model, load_encoder
from fashion.errors import FashionError
from fashion.evaluation import HEADLINES, evaluate, write_metrics
from fashion.files import replacing
from fashion.memory import keep_freed_memory
from fashion.network import load_network
from fashion.optim import Averaging
from fashion.report.evaluation import Searches, evaluation_sections
from fashion.report.html import write_page
from fashion.report.progress import progress
from fashion.report.tables import metrics_table, show
from fashion.report.tensorboard import FirstBatch, log_results, log_searches
from fashion.report.training import flat, training_sections
from fashion.tasks.options import Options
from fashion.tasks.starting import done_by, guard_multirun, how_to_go_on, resume_from, set_aside, warm_start

log = logging.getLogger(__name__)


class TrainingOptions(Options):
    """Keys of a training task, beside those of its module, data and trainer."""

    resume: str | None
    epochs: int = Field(ge=1)
    pretrained: str | None
    ema: float | None = Field(ge=0, lt=1)
    early_stopping: int | None = Field(ge=1)
    channels_last: bool
    match_precision: float = Field(gt=0, le=1)


def train(cfg: DictConfig, options: TrainingOptions, module: Any, data: Any, images: ImageDataModule) -> float:
    """Fit `module` on `data`, then evaluate what became of it on the validation split.

    Writes into the run's folder: `checkpoints/{best,last}.ckpt`, TensorBoard events, `metrics.json`.  The run's
    model is the last epoch's, whose number was fixed beforehand; the best epoch's only with early stopping, since
    picking it is a choice made on the validation pictures.

    Returns:
        Of that model: the accuracy of a classifier, the gallery map of a triplet encoder.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    images.array("validation")  # that there are none is said before the training, not after it
    _check_trainer(cfg.trainer, options)
    resume = resume_from(options.resume, options.epochs, folder, module)
    if options.pretrained:
        warm_start(module.network, find_model(Path(options.pretrained)))
    if options.channels_last:
        module.network.to(memory_format=torch.channels_last)
    logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False, log_graph=False)
    checkpoints = folder / "checkpoints"
    callbacks = _callbacks(module, options, checkpoints)
    _quiet()
    keep_freed_memory()
    watched = any(isinstance(one, ProgressBar) for one in callbacks)  # else Lightning would add a bar of its own
    trainer = instantiate(
        cfg.trainer, callbacks=callbacks, logger=logger, default_root_dir=str(folder), enable_progress_bar=watched
    )
    guard_multirun(trainer)
    if resume is None:
        set_aside(folder)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit:  # how Lightning ends an interrupted run
        if not trainer.interrupted:
            raise
    if not trainer.is_global_zero:
        return 0.0  # the first process alone says what became of it
    for checkpoint in sorted(checkpoints.glob("[!.]*.ckpt")):  # an interrupted run's too: they can be searched with
        fit_looks(checkpoint, images.array("train"))
    if trainer.interrupted:
        raise KeyboardInterrupt(how_to_go_on(folder, options.sweep_name))
    best = checkpoints / "best.ckpt"
    chosen = best if options.early_stopping and best.exists() else checkpoints / "last.ckpt"
    encoder, done = load_encoder(chosen), done_by(checkpoints / "last.ckpt")
    result = evaluate(encoder, images.array("validation"), images.array("train"))
    facts = {
        "checkpoint": chosen.name,
        "epochs": done["epochs"],
        "pretrained": options.pretrained,
        "teacher": getattr(options, "teacher", None),
        "train_seconds": done["seconds"],
        "collapsed": getattr(module, "collapsed", False),
        "data_skipped": len(images.array("train").skipped),
        "data_audit": audit(
            {split: images.array(split) for split in ("train", "validation")}, images.class_names
        ).summary(),
    }
    write_metrics(folder / "metrics.json", result, facts, options.match_precision)
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    named = flat({str(key): value for key, value in settings.items()})
    log_results(logger, named, result, int(done["steps"]))
    queries, gallery = images.array("validation"), images.array("train")
    searches = Searches(result, queries, gallery, images.source.root)
    log_searches(logger, result, queries, searches)
    sections = evaluation_sections(result, queries, gallery, images.source.root)
    sections += training_sections(folder, named)
    write_page(folder / "report.html", f"{cfg.task.name}: {cfg.model.name}, seed {options.seed}", sections)
    headlines = {name: result.metrics[name] for name in HEADLINES if name in result.metrics}
    show(metrics_table(f"{cfg.task.name} on validation ({chosen.name})", headlines, result.intervals))
    log.info("Run folder: %s (open report.html)", folder)
    return result.metrics[{"val/acc": "accuracy", "val/map": "gallery/map"}[module.monitor]]


def _check_trainer(trainer: DictConfig, options: TrainingOptions) -> None:
    settings: dict[str, Any] = OmegaConf.to_container(trainer, resolve=True)  # type: ignore[assignment]
    check_types("trainer", Trainer.__init__, settings)
    every = settings["check_val_every_n_epoch"]
    if every is not None and every < 1:
        raise FashionError(f"trainer.check_val_every_n_epoch is {every}; it should be a whole number from 1 on.")
    if options.early_stopping and every and options.epochs < every:
        raise FashionError(
            f"task.early_stopping looks at validations, and none but the last comes within {options.epochs} epochs; "
            f"lower trainer.check_val_every_n_epoch ({every})."
        )


def _callbacks(module: Any, options: TrainingOptions, checkpoints: Path) -> list[Callback]:
    common: dict[str, Any] = {"dirpath": checkpoints, "enable_version_counter": False, "auto_insert_metric_name": False}
    callbacks: list[Callback] = [
        BestCheckpoint(filename="best", monitor=module.monitor, mode=module.mode, **common),
        ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **common),
        LearningRateMonitor("step"),
        progress(),
        FirstBatch(),
        Timer(),  # which a run that goes on takes along
        OneFolder(checkpoints.parent),
        LastValidated(),
        Diverged(),
        Draws(options.seed),
        SamePace(),
    ]
    if options.ema:
        # First, so that it has put its average into the network when others validate or save.
        callbacks.insert(0, Averaging(options.ema))
    if options.early_stopping:
        callbacks.append(EarlyStopping(module.monitor, mode=module.mode, patience=options.early_stopping))
    return callbacks


def fit_looks(checkpoint: Path, pictures: PictureArray) -> None:
    """Fit the looks of a checkpoint's network to the pictures it was trained on, in the checkpoint itself."""
    network, _ = load_network(checkpoint)
    network.to(memory_format=torch.channels_last)
    starts = range(0, len(pictures.labels), 64)
    network.fit_looks(torch.from_numpy(np.array(pictures.pictures[at : at + 64])) for at in starts)
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    saved["state_dict"] |= {f"network.axes.{name}": value for name, value in network.axes.state_dict().items()}
    with replacing(checkpoint) as part:
        torch.save(saved, part)


def _quiet() -> None:
    """Advice of Lightning and torch that does not fit here: batches come from memory, without workers."""
    for text in (".*does not have many workers.*", ".*isinstance.treespec.*", ".*number of training batches.*",
                 ".*exists and is not empty.*", ".*`lr_scheduler.step.*",
                 ".*dirpath has changed.*"):  # fmt: skip
        warnings.filterwarnings("ignore", message=text)
    for name in (
        "pytorch_lightning.utilities.rank_zero",
        "pytorch_lightning.callbacks.weight_averaging",
        "tensorboard",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
