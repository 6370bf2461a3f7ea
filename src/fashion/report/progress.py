"""How far a training run is: a bar where someone watches, a line per validation where a log is kept."""

import logging
import time

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, RichProgressBar
from rich.console import Console

log = logging.getLogger(__name__)


def progress() -> Callback:
    """A bar with rate and time left on a terminal; elsewhere, where bars leave nothing readable, lines."""
    return RichProgressBar(leave=False) if Console().is_terminal else ProgressLines()


class ProgressLines(Callback):
    """Logs one line after each validation: epoch, metrics so far, time a training epoch took and time left."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._validated = False
        self._first, self._started = trainer.current_epoch, time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._validated = False

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self._validated:  # validations are reported here, where the epoch's own loss is known
            return
        done = trainer.current_epoch + 1
        pace = (time.perf_counter() - self._started) / (done - self._first)
        metrics = "  ".join(f"{name} {value:.3f}" for name, value in sorted(trainer.progress_bar_metrics.items()))
        left = pace * ((trainer.max_epochs or done) - done)
        log.info("epoch %d/%s  %s  %.1f s an epoch, %.0f s left", done, trainer.max_epochs, metrics, pace, left)
