"""The configured data as a trained model sees it: how large, and how much of each picture, is the model's to say."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from fashion.data.sources import Source
from fashion.encoder import Encoder
from fashion.errors import FashionError
from fashion.tasks.options import named, note_unused

if TYPE_CHECKING:  # a server indexes folders without torch
    from fashion.data.datamodules import ImageDataModule

log = logging.getLogger(__name__)

TRAINING = ("batch_size", "num_workers", "training_size", "stored_scale", "augment")
"""Settings of data that say how batches to train on are made."""


def note_training_only() -> None:
    """Say which settings of the command line's data do nothing where nothing is trained."""
    keys = [key for key in named() if key.startswith(tuple(f"data.{name}" for name in TRAINING))]
    note_unused(keys, "here: it is for trainings")


def note_splits(source: Source) -> None:
    """Say that the share to validate on does nothing where the source has splits of its own."""
    if source.has_splits:
        why = f"here: {source.root} has splits of its own (data.fold divides its training part)"
        note_unused(["data.validation_fraction"], why)


def data_of(cfg: DictConfig, **settings: Any) -> ImageDataModule:
    """The data that `cfg.data` names.

    Args:
        settings: further arguments of the data module, in place of the configuration's.

    Raises:
        FashionError: if it is no `ImageDataModule`.
    """
    from fashion.data.datamodules import ImageDataModule

    data = instantiate(cfg.data, **settings)
    if not isinstance(data, ImageDataModule):
        raise FashionError(
            f"data is of type {type(data).__name__}, and tasks need an ImageDataModule; make it a subclass of that, or "
            "train with a Trainer of your own (docs/extending.md says how)."
        )
    return data


def data_shown_to(encoder: Encoder, cfg: DictConfig, **settings: Any) -> ImageDataModule:
    """The data that `cfg.data` names, at the encoder's picture size and of the middle that it looks at.

    Args:
        settings: further arguments of the data module, in place of the configuration's.
    """
    return data_of(cfg, **shown_to(encoder, cfg), **settings)


def shown_to(encoder: Encoder, cfg: DictConfig) -> dict[str, Any]:
    """The settings of data that are the encoder's; says so where the command line has others."""
    own = {"image_size": encoder.image_size, "centre": encoder.centre}
    for key, value in own.items():
        asked = cfg.data[key]
        if f"data.{key}" in named() and asked != value:
            log.warning("data.%s=%s does nothing here: %s was trained for %s.", key, asked, encoder.source, value)
    return own
