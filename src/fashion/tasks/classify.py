"""task=classify: train the network to name garments."""

from pathlib import Path

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fashion.data.datamodules import ImageDataModule
from fashion.distillation import Teacher
from fashion.encoder import find_model
from fashion.network import load_network
from fashion.tasks.options import read_options
from fashion.tasks.training import TrainingOptions, guard_multirun, train


class ClassifyOptions(TrainingOptions):
    balance: bool
    teacher: str | None
    teacher_bf16: bool


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
        centre=images.centre,
        class_weights=balanced(images.class_counts()) if options.balance else None,
        teacher=taught_by(options, images),
    )
    return train(cfg, options, module, images, images)


def taught_by(options: ClassifyOptions, images: ImageDataModule) -> Teacher | None:
    """The teacher that the options name, which must know the data's classes and see pictures of their size."""
    if options.teacher is None:
        return None
    network, trained = load_network(find_model(Path(options.teacher)))
    teacher = Teacher(network, trained["class_names"], trained["image_size"], options.teacher_bf16)
    teacher.check(images.class_names, images.training_size)
    return teacher


def balanced(counts: list[int]) -> list[float]:
    """Weights in inverse proportion to how often each class occurs, with mean 1 over the pictures."""
    total = sum(counts)
    return [total / (len(counts) * count) if count else 0.0 for count in counts]
