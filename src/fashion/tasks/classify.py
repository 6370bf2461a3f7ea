"""task=classify: train the network to name garments."""

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fashion.data.datamodules import ImageDataModule
from fashion.tasks.options import read_options
from fashion.tasks.training import TrainingOptions, guard_multirun, train


class ClassifyOptions(TrainingOptions):
    balance: bool


def run(cfg: DictConfig) -> float:
    """Train; returns the validation accuracy of the run's model."""
    options = read_options(cfg, ClassifyOptions)
    guard_multirun(cfg)
    pl.seed_everything(options.seed, workers=True, verbose=False)
    images: ImageDataModule = instantiate(cfg.data)
    module = instantiate(
        cfg.task.module,
        backbone=OmegaConf.to_container(cfg.model),
        class_names=list(images.class_names),
        image_size=images.image_size,
        class_weights=balanced(images.class_counts()) if options.balance else None,
    )
    return train(cfg, options, module, images, images)


def balanced(counts: list[int]) -> list[float]:
    """Weights in inverse proportion to how often each class occurs, with mean 1 over the pictures."""
    total = sum(counts)
    return [total / (len(counts) * count) if count else 0.0 for count in counts]
