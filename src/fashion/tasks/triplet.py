"""task=triplet: train the siamese encoder, so that the same kind of garment lies close together."""

import logging

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fashion.data.datamodules import ImageDataModule
from fashion.tasks.options import named, read_options
from fashion.tasks.trainer import TrainingOptions
from fashion.tasks.training import train

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> float:
    """Train; returns the validation map (gallery protocol) of the run's model."""
    options = read_options(cfg, TrainingOptions)
    pl.seed_everything(options.seed, workers=True, verbose=False)
    images: ImageDataModule = instantiate(cfg.data)
    note_unused(cfg)
    batches = instantiate(cfg.task.batches, images=images, seed=options.seed)
    module = instantiate(
        cfg.task.module,
        loss=instantiate(cfg.loss),
        backbone=OmegaConf.to_container(cfg.model),
        class_names=list(images.class_names),
        image_size=images.image_size,
        centre=images.centre,
        class_of=batches.class_of(),
        class_weights=batches.class_weights(),
    )
    return train(cfg, options, module, batches, images)


UNUSED = {
    "mined": {"data.batch_size": "a batch holds task.batches.classes_per_batch × pictures_per_class pictures"},
    "explicit": {
        f"task.batches.{name}": "a batch holds data.batch_size // 3 triplets"
        for name in ("classes_per_batch", "pictures_per_class")
    },
}
"""How batches are made → settings that do nothing then, and why."""


def note_unused(cfg: DictConfig) -> None:
    """Say which settings of the command line do nothing beside others."""
    mode, miner = cfg.task.batches.get("mode"), cfg.loss.get("miner")
    for key, why in UNUSED.get(mode, {}).items():
        if key in named():
            log.warning("%s does nothing with task.batches.mode=%s: %s.", key, mode, why)
    if mode == "explicit" and miner not in (None, "given"):
        log.warning(
            "task.batches.mode=explicit draws triplets, and loss.miner=%s mines others among their pictures; "
            "loss.miner=given takes them as they are.", miner,
        )  # fmt: skip
