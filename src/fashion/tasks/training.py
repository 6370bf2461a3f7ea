"""What both training tasks share: one Lightning fit, its checkpoints and logs, and the metrics that follow."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from fashion.checkpoints import check_rebuilt, load_network, plain
from fashion.config import as_dict, flat
from fashion.data.arrays import PictureArray
from fashion.data.audit import audit, copied
from fashion.data.augmenting import AugmentingDataModule
from fashion.data.datamodules import ImageDataModule
from fashion.encoder import load_encoder
from fashion.errors import FashionError, raised_in
from fashion.evaluation import evaluate, write_metrics
from fashion.files import replacing
from fashion.memory import keep_freed_memory
from fashion.model_files import find_model
from fashion.network import precisely
from fashion.report.confusion import confusion_picture
from fashion.report.evaluation import Searches, evaluation_sections
from fashion.report.html import Section, write_page
from fashion.report.tables import metrics_table, show
from fashion.report.tensorboard import log_results, log_searches
from fashion.report.training import training_sections
from fashion.tasks.options import note_renamed
from fashion.tasks.recipe import recipe
from fashion.tasks.remarks import check_pictures, leaks, note_early_end
from fashion.tasks.shown import note_splits
from fashion.tasks.starting import done_by, guard_multirun, how_to_go_on, resume_from, set_aside, warm_start
from fashion.tasks.trainer import TrainingOptions, make_trainer

log = logging.getLogger(__name__)

AUDITED = 20_000
"""Pictures up to which a training looks for near-duplicates among them: the time grows with their square.  Copies are
looked for among any number."""


def train(
    cfg: DictConfig, options: TrainingOptions, module: Any, data: AugmentingDataModule, images: ImageDataModule
) -> float:
    """Fit `module` on `data`, then evaluate the model on the validation split.

    Writes into the run's folder: `checkpoints/{best,last}.ckpt`, TensorBoard events, `metrics.json`.  The run's
    model is the last epoch's, whose number was fixed beforehand; the best epoch's only with early stopping, since
    picking it is a choice made on the validation pictures.

    Returns:
        Of that model: the accuracy of a classifier, the gallery map of a triplet encoder.
    """
    if getattr(rank_zero_only, "rank", 0):  # of several processes one reports
        logging.getLogger("fashion").setLevel(logging.WARNING)
    folder = Path(HydraConfig.get().runtime.output_dir)
    check_pictures(images)
    note_splits(images.source)
    note_renamed(cfg.model)
    check_rebuilt(module.network, module.hparams)
    trainer = make_trainer(cfg.trainer, options, module, folder)
    guard_multirun(trainer)
    module.settings = recipe(cfg)
    resume = resume_from(options.resume, trainer.max_epochs, folder, module, options.ema)
    module.started_from = options.pretrained  # a resumed run's checkpoint says it, and has the weights
    if options.pretrained and resume is None:
        warm_start(module.network, find_model(Path(options.pretrained)), images.class_names)
    if options.channels_last:
        module.network.to(memory_format=torch.channels_last)
    module.fit_looks_at_end = False  # done below, in each checkpoint
    keep_freed_memory()
    if resume is None:
        set_aside(folder)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except (MisconfigurationException, ValueError) as error:
        if isinstance(error, ValueError) and raised_in(error) not in ("pytorch_lightning", "lightning_fabric"):
            raise  # an error of ours; Lightning refuses some settings only when it uses them
        raise FashionError(f"trainer is refused: {str(error).strip()}") from error
    except SystemExit:  # how Lightning ends an interrupted run
        if not trainer.interrupted:
            raise
    if not trainer.is_global_zero:
        return 0.0  # the first process alone evaluates and reports
    checkpoints = folder / "checkpoints"
    for checkpoint in sorted(checkpoints.glob("[!.]*.ckpt")):  # an interrupted run's too: they can be searched with
        fit_looks_in(checkpoint, images.array("train"), trainer.strategy.root_device)
    if trainer.interrupted:
        raise KeyboardInterrupt(how_to_go_on(folder, options.sweep_name))
    best, last = checkpoints / "best.ckpt", checkpoints / "last.ckpt"
    if not last.exists():
        raise FashionError(
            "Not one epoch was trained, so there is no model; look at trainer.max_time, trainer.max_steps, "
            "trainer.limit_train_batches and the like (trainer=smoke is a trial of two steps)."
        )
    chosen = best if options.early_stopping and best.exists() else last
    facts = {"pretrained": module.started_from, "collapsed": getattr(module, "collapsed", False)}
    return conclude(cfg, options, trainer, images, chosen, facts)[module.headline]


def conclude(
    cfg: DictConfig,
    options: TrainingOptions,
    trainer: Trainer,
    images: ImageDataModule,
    chosen: Path,
    facts: Mapping[str, Any],
) -> dict[str, float]:
    """Evaluate the run's model on the validation split, and report: `metrics.json`, TensorBoard, `report.html`.

    Args:
        chosen: the model's checkpoint.
        facts: further ones for `metrics.json`.

    Returns:
        The figures.
    """
    folder = chosen.parent.parent
    done = done_by(folder / "checkpoints/last.ckpt")
    note_early_end(trainer, int(done["epochs"]))
    queries, gallery = images.array("validation"), images.array("train")
    result = evaluate(load_encoder(chosen, trainer.strategy.root_device), queries, gallery)
    noted: dict[str, Any] = {
        "checkpoint": chosen.name,
        "seed": options.seed,
        "epochs": done["epochs"],
        "teacher": getattr(options, "teacher", None),
        "train_seconds": done["seconds"],
        "data_pictures": len(queries.labels) + len(gallery.labels),
        "data_skipped": len(gallery.skipped),
    }
    seen, few = {"train": gallery, "validation": queries}, noted["data_pictures"] <= AUDITED
    noted["data_audit"] = audit(seen, images.class_names).summary() if few else copied(seen)
    leaked = leaks(noted["data_audit"])
    write_metrics(folder / "metrics.json", result, {**noted, **facts}, options.match_precision)
    named = flat(as_dict(cfg))
    logger = trainer.logger
    assert isinstance(logger, TensorBoardLogger)
    confusion = confusion_picture(result.confusion, result.class_names)
    log_results(logger, named, result, int(done["steps"]), confusion)
    searches = Searches(result, queries, gallery, images.source.root)
    log_searches(logger, searches)
    sections = [Section("Leaks", text=leaked)] if leaked else []
    sections += evaluation_sections(searches, confusion)
    sections += training_sections(folder, named)
    write_page(folder / "report.html", f"{cfg.task.name}: {cfg.model.name}, seed {options.seed}", sections)
    show(metrics_table(f"{cfg.task.name} on validation ({chosen.name})", result.headlines(), result.intervals))
    if leaked:
        log.warning(leaked)
    log.info("Run folder: %s (open report.html)", folder)
    return result.metrics


def fit_looks_in(checkpoint: Path, pictures: PictureArray, device: torch.device) -> None:
    """Fit the looks of a checkpoint's network, run on `device`, to its training pictures, in the checkpoint itself."""
    network, _ = load_network(checkpoint)
    network.to(device).to(memory_format=torch.channels_last)
    starts = range(0, len(pictures.labels), 64)
    with precisely(device):
        network.fit_looks(torch.from_numpy(np.array(pictures.pictures[at : at + 64])) for at in starts)
    network.cpu()
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    fitted = {f"network.axes.{name}": value for name, value in network.axes.state_dict().items()}
    saved["state_dict"] |= {name: fitted[plain(name)] for name in saved["state_dict"] if plain(name) in fitted}
    saved["looks_fitted"] = True
    with replacing(checkpoint) as part:
        torch.save(saved, part)
