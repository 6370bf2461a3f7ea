"""task=triplet: train the siamese encoder, so that the same kind of garment lies close together."""

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fashion.tasks.options import read_options
from fashion.tasks.shown import data_of
from fashion.tasks.trainer import TrainingOptions
from fashion.tasks.training import train


def run(cfg: DictConfig) -> float:
    """Train; returns the validation map (gallery protocol) of the run's model."""
    options = read_options(cfg, TrainingOptions)
    pl.seed_everything(options.seed, workers=True, verbose=False)
    images = data_of(cfg)
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
