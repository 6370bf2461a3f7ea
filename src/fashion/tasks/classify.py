"""task=classify: train the network to name garments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig

from fashion.checkpoints import load_network
from fashion.config import as_dict
from fashion.data.datamodules import ImageDataModule
from fashion.data.folders import class_name
from fashion.distillation import Teacher
from fashion.errors import FashionError
from fashion.model_files import find_model
from fashion.quoting import CHOICES, briefly
from fashion.tasks.options import note_unused, read_options
from fashion.tasks.shown import data_of
from fashion.tasks.trainer import TrainingOptions
from fashion.tasks.training import train

TEACHER = "outputs/teacher-"
"""Where `experiment=teacher` trains one, followed by its seed, and `experiment=best` looks for them."""


class ClassifyOptions(TrainingOptions):
    balance: bool
    teacher: str | list[str] | None
    teacher_bf16: bool


def run(cfg: DictConfig) -> float:
    """Train; returns the validation accuracy of the run's model."""
    options = read_options(cfg, ClassifyOptions)
    pl.seed_everything(options.seed, workers=True, verbose=False)
    images = data_of(cfg)
    module = instantiate(
        cfg.task.module,
        backbone=as_dict(cfg.model),
        class_names=list(images.class_names),
        image_size=images.image_size,
        centre=images.centre,
        class_weights=balanced(images.class_counts()) if options.balance else None,
        teacher=taught_by(options, images),
    )
    return train(cfg, options, module, images, images)


def taught_by(options: ClassifyOptions, images: ImageDataModule) -> Teacher | None:
    """The teacher that the options name: one model or several."""
    if not options.teacher:
        note_unused(("task.teacher_bf16", "task.module.teaching"), "without task.teacher")
        return None
    paths = [options.teacher] if isinstance(options.teacher, str) else options.teacher
    for path in paths:
        seed = path.removeprefix(TEACHER)
        if path.startswith(TEACHER) and seed.isdigit() and not Path(path).exists():
            made = f"python run.py experiment=teacher seed={seed}"
            raise FashionError(f"task.teacher: {path} does not exist; make it first: {made}")
    networks, trained = zip(*(load_network(find_model(Path(path))) for path in paths), strict=True)
    for one in trained:
        check_teacher(one, images)
    return Teacher(networks, options.teacher_bf16)


def check_teacher(trained: Mapping[str, Any], images: ImageDataModule) -> None:
    """Raise FashionError unless that model names the data's classes, in pictures of the size that training gives."""
    if tuple(map(class_name, trained["class_names"])) != tuple(images.class_names):
        raise FashionError(
            f"The teacher tells apart {briefly(trained['class_names'], CHOICES)}, and the data has "
            f"{briefly(images.class_names, CHOICES)}; train the teacher on the same classes."
        )
    if trained["image_size"] != images.training_size:
        raise FashionError(
            f"The teacher sees pictures of {trained['image_size']} pixels, and data.training_size gives "
            f"{images.training_size}; set data.training_size={trained['image_size']}."
        )


def balanced(counts: list[int]) -> list[float]:
    """Weights in inverse proportion to how often each class occurs, with mean 1 over the pictures."""
    total = sum(counts)
    return [total / (len(counts) * count) if count else 0.0 for count in counts]
