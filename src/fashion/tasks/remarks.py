"""What a training says of its pictures and its end, beside the figures."""

import logging
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Timer

from fashion.data.datamodules import ImageDataModule
from fashion.errors import FashionError
from fashion.quoting import briefly

log = logging.getLogger(__name__)


def check_pictures(images: ImageDataModule) -> None:
    """Say before the training, not after it, which classes cannot be trained, validated or found.

    Raises:
        FashionError: if no validation picture has a class that training pictures have.
    """
    images.array("validation")
    validated, trained = ({item.label for item in images.source.split(split)} for split in ("validation", "train"))
    if trained and not validated & trained:  # where there is no training picture, the loader says so
        names = briefly(sorted(validated))
        raise FashionError(
            f"No class of the validation pictures ({names}) has a training picture; put pictures of a class into both."
        )
    for split, having in (("training", trained), ("validation", validated)):
        lacking = [name for name in images.class_names if name not in having]
        if lacking:
            log.warning("Of %s there is no %s picture.", briefly(lacking), split)


def note_early_end(trainer: Trainer, done: int) -> None:
    """Say that a training ended before its last epoch, and why: a warning, unless early stopping was asked for.

    Args:
        done: the epochs it had, those before it was resumed too.
    """
    planned = trainer.max_epochs or -1  # -1: no limit
    if done >= planned:
        return
    for stopping in trainer.early_stopping_callbacks:
        if stopping.stopped_epoch or stopping.wait_count >= stopping.patience:  # the first epoch's number is 0
            log.info(
                "Stopped after %d of %d epochs: %d validations without a better %s.",
                done, planned, stopping.wait_count, stopping.monitor,
            )  # fmt: skip
            return
    timers = [one for one in trainer.callbacks if isinstance(one, Timer)]  # type: ignore[attr-defined]
    left = [timer.time_remaining() for timer in timers]  # None: any time
    why = "a callback"
    if any(seconds is not None and seconds <= 0 for seconds in left):
        why = "trainer.max_time"
    elif trainer.max_steps == trainer.global_step:
        why = "trainer.max_steps"
    log.warning("Stopped after %d of %d epochs (%s).", done, planned, why)


def leaks(found: Mapping[str, Any]) -> str | None:
    """What an audit's summary says of pictures that are in training and validation; None: there are none.

    Args:
        found: without `near_duplicates` where only pictures that are quite the same were looked for.
    """
    across, groups = found["across_splits"], found["leaked_groups"]
    if not across and not groups:
        return None
    alike = "pairs that are the same or nearly so" if "near_duplicates" in found else "copies"
    return (
        f"Pictures are in both training and validation ({alike}: {across}, groups: {groups}), so the "
        "figures are too good; task=audit shows them."
    )
