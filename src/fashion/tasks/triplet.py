"""task=triplet: train the siamese encoder, so that the same kind of garment lies close together."""

import logging

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig

from fashion.config import as_dict
from fashion.tasks.options import note_unused, read_options
from fashion.tasks.shown import data_of
from fashion.tasks.trainer import TrainingOptions
from fashion.tasks.training import train

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> float:
    """Train; returns the validation map (gallery protocol) of the run's model."""
    options = read_options(cfg, TrainingOptions)
    pl.seed_everything(options.seed, workers=True, verbose=False)
    images = data_of(cfg)
    note_batches(cfg)
    batches = instantiate(cfg.task.batches, images=images, seed=options.seed)
    module = instantiate(
        cfg.task.module,
        loss=instantiate(cfg.loss),
        backbone=as_dict(cfg.model),
        class_names=list(images.class_names),
        image_size=images.image_size,
        centre=images.centre,
        class_of=batches.class_of(),
        class_weights=batches.class_weights(),
    )
    return train(cfg, options, module, batches, images)


def note_batches(cfg: DictConfig) -> None:
    """Say which settings do nothing with this way of making batches, and which triplets are trained on."""
    mode, miner = cfg.task.batches.get("mode"), cfg.loss.get("miner")
    sizes = ("task.batches.classes_per_batch", "task.batches.pictures_per_class")
    if mode == "mined":
        note_unused(["data.batch_size"], f"with task.batches.mode=mined: a batch's size is {' × '.join(sizes)}")
    if mode == "explicit":
        note_unused(sizes, "with task.batches.mode=explicit: a batch is data.batch_size // 3 triplets")
    if mode == "explicit" and miner not in (None, "given"):
        log.warning(
            "task.batches.mode=explicit draws triplets, and loss.miner=%s mines others among their pictures; "
            "loss.miner=given takes them as they are.", miner,
        )  # fmt: skip
