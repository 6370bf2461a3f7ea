"""What both training tasks watch, and what a training that goes on must remember beyond Lightning's own."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from fashion.errors import FashionError
from fashion.files import replacing


def epochs_begun(checkpoint: Mapping[str, Any]) -> int:
    """The epochs that had begun when a checkpoint was made: its `epoch` counts those that were done.

    That is one less in the middle of a fit, and the same after it.
    """
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"])


class Diverged(Callback):
    """Stops a training whose weights are no numbers any more (or beyond 1e19), before anything is made of them."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer, pl_module)

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        lengths = torch.stack(torch._foreach_norm(list(module.parameters())))  # so that a GPU is waited for once
        if not torch.isfinite(lengths).all():
            raise FashionError(
                f"The training diverged in epoch {trainer.current_epoch + 1}: weights are no numbers any more; lower "
                "task.module.lr."
            )


class LastValidated(Callback):
    """Validates after the last epoch or step, whatever its number: what is kept is what it led to."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs and trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        ends = batch_idx + 1 == trainer.num_training_batches
        last = trainer.current_epoch + 1 == trainer.max_epochs and ends
        by_steps = trainer.check_val_every_n_epoch is None  # validations are, and their count does not end here
        steps = ends or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if (last and by_steps) or (steps and trainer.global_step + 1 == trainer.max_steps):
            trainer.check_val_every_n_epoch, trainer.val_check_batch = 1, batch_idx + 1


class SamePace(Callback):
    """Refuses to go on with a run whose epochs had another number of steps: its rates would rise and fall elsewhere."""

    begun, done = 0, 0
    """Epochs that had begun, and steps that were done, where the run goes on."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.begun, self.done = epochs_begun(checkpoint), checkpoint["global_step"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        steps = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        if self.begun and not (self.begun - 1) * steps < self.done <= self.begun * steps:
            raise FashionError(
                f"The run that resume names took {self.done / self.begun:g} steps an epoch, and this one would take "
                f"{steps}; give data.batch_size, trainer.devices and data as they were, or start from its weights with "
                "task.pretrained."
            )


class OneFolder(Callback):
    """Of processes that were each started by itself, as torchrun does, only the first one's run folder stays.

    The others' are named by the moment, too, and hold nothing but what Hydra notes.
    """

    def __init__(self, folder: Path):
        self.folder, self.first = folder, folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.first = Path(trainer.strategy.broadcast(str(self.folder)))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.first != self.folder and all(
            one.name == ".hydra" or one.suffix == ".log" for one in self.folder.iterdir()
        ):
            shutil.rmtree(self.folder, ignore_errors=True)


class Draws(Callback):
    """Random numbers of its own for each process, and for a run that goes on.

    Else every process would draw the same crops, and a resumed run those of its first epochs once more.  The data
    module is told how many epochs there were, before it is asked for its loaders.
    """

    epoch = 0
    """Epochs that had begun where the run goes on."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_load_checkpoint(self, trainer: Any, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.epoch = trainer.datamodule.epochs_done = epochs_begun(checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # before loaders draw their order
        if self.epoch or trainer.global_rank:
            sequence = np.random.SeedSequence([self.seed, self.epoch, trainer.global_rank])
            torch.manual_seed(int(sequence.generate_state(1)[0]))  # all draws of a training are torch's


class BestCheckpoint(ModelCheckpoint):
    """The best epoch's checkpoint, which a run that goes on in another folder takes along.

    Lightning's own forgets what was the best so far, and would call the first validation after it the best.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        before, folder = Path(state_dict["best_model_path"]), Path(str(self.dirpath))
        if before.is_file() and before.parent != folder:
            best = folder / before.name
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(best) as part:
                shutil.copyfile(before, part)
            named = dict.fromkeys(("best_model_path", "kth_best_model_path"), str(best))
            ranked = {str(best): state_dict["best_model_score"]}
            state_dict = state_dict | named | {"dirpath": self.dirpath, "best_k_models": ranked, "last_model_path": ""}
        super().load_state_dict(state_dict)
