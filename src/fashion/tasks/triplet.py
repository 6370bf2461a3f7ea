"""task=triplet: train the siamese encoder, so that the same kind of garment lies close together."""

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fashion.data.datamodules import ImageDataModule
from fashion.data.triplets import TripletDataModule
from fashion.errors import FashionError
from fashion.tasks.options import read_options
from fashion.tasks.training import TrainingOptions, guard_multirun, train


def run(cfg: DictConfig) -> float:
    """Train; returns the validation map (gallery protocol) of the run's model."""
    options = read_options(cfg, TrainingOptions)
    guard_multirun(cfg)
    pl.seed_everything(options.seed, workers=True, verbose=False)
    images: ImageDataModule = instantiate(cfg.data)
    batches = instantiate(cfg.task.batches, images=images, seed=options.seed)
    if cfg.task.module.contrast:
        check_views(batches, images)
    module = instantiate(
        cfg.task.module,
        loss=instantiate(cfg.loss),
        backbone=OmegaConf.to_container(cfg.model),
        class_names=list(images.class_names),
        image_size=images.image_size,
        class_of=batches.class_of(),
        class_weights=batches.class_weights(),
    )
    return train(cfg, options, module, batches, images)


def check_views(batches: TripletDataModule, images: ImageDataModule) -> None:
    """Raise FashionError unless each picture comes in two views that differ."""
    if batches.mode == "explicit":
        raise FashionError("task.batches.mode=explicit has no two views to contrast; add task.module.contrast=0.")
    if images.augment is None:
        raise FashionError(
            "data.augment=null makes the two views of a picture the same, and task.module.contrast needs them to "
            "differ; add task.module.contrast=0 task.batches.views=1."
        )
