"""Callbacks of both training tasks: what they watch for, and what a resumed run needs beyond Lightning's own."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, WeightAveraging
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from fashion.errors import FashionError
from fashion.files import replacing


def epochs_begun(checkpoint: Mapping[str, Any]) -> int:
    """Epochs started so far.

    The checkpoint's own `epoch` counts completed ones: one fewer during a fit, the same after it.
    """
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"])


class Diverged(Callback):
    """Stops a training whose weights are not finite any more, or have a norm beyond 1e19, before they are used."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer, pl_module)

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        if not get_total_norm(module.parameters()).isfinite():  # one number, so that a GPU is waited for once
            raise FashionError(
                f"The training diverged in epoch {trainer.current_epoch + 1}: weights are no numbers any more; lower "
                "task.module.lr."
            )


class LastValidated(Callback):
    """Validates after the last epoch or step, whatever its number, since its weights are what is kept."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs and trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        ends = batch_idx + 1 == trainer.num_training_batches
        last = trainer.current_epoch + 1 == trainer.max_epochs and ends
        by_steps = trainer.check_val_every_n_epoch is None  # validated every so many steps, maybe not now
        steps = ends or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if (last and by_steps) or (steps and trainer.global_step + 1 == trainer.max_steps):
            trainer.check_val_every_n_epoch, trainer.val_check_batch = 1, batch_idx + 1


class SamePace(Callback):
    """Refuses to resume a run whose epochs had another number of steps: its learning rates would change elsewhere."""

    begun, done = 0, 0
    """Epochs started and steps taken by the run that is resumed."""

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
    """Keeps only the first process's run folder, where each process was started by itself, as torchrun does.

    The others' are named by the time, too, and hold nothing but Hydra's notes.
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


class SeedPerProcess(Callback):
    """Seeds each process, and each resumed run, differently.

    Else all processes would draw the same crops, and a resumed run would repeat those of its first epochs.  The data
    module is told how many epochs there were, before it is asked for its loaders.
    """

    epoch = 0
    """Epochs started by the run that is resumed."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_load_checkpoint(self, trainer: Any, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.epoch = trainer.datamodule.epochs_done = epochs_begun(checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # before loaders draw their order
        if self.epoch or trainer.global_rank:
            sequence = np.random.SeedSequence([self.seed, self.epoch, trainer.global_rank])
            torch.manual_seed(int(sequence.generate_state(1)[0]))  # all draws of a training are torch's


class BestCheckpoint(ModelCheckpoint):
    """The best epoch's checkpoint, which is copied along when a run is resumed in another folder.

    Lightning's own would forget the best so far, and take the first validation after resuming for the best.
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


class Averaging(WeightAveraging):
    """Lightning's callback that validates and saves an average of the weights, here an exponential moving one.

    averaged ← d·averaged + (1−d)·current after each step, with d growing from 0.1 to `decay` as steps are counted.  The
    warm-up (that of TensorFlow's ExponentialMovingAverage) keeps short runs from averaging their random start;
    Lightning's EMAWeightAveraging has none.

    The average is kept on the device that trains: Lightning sets callbacks up before it moves weights to a GPU, so that
    each step would copy them all to the CPU.  The count of steps is kept on the CPU: torch's own reads it from the GPU
    three times a step, and waits each time.  Lightning has no public names for the attributes that this needs.
    """

    def __init__(self, decay: float):
        super().__init__(use_buffers=True)
        self.decay = decay
        self._floats: list[tuple[Tensor, Tensor]] = []
        self._counters: list[tuple[Tensor, Tensor]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._average_model is not None
        pairs = [*zip(_tensors(self._average_model.module), _tensors(pl_module), strict=True)]
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]  # of steps, in batch norms

    def state_dict(self) -> dict[str, Any]:
        """Lightning's own, and the decay, so that a run that goes on can be asked for the same."""
        return super().state_dict() | {"decay": self.decay}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step <= self._latest_update_step:  # gradients are being accumulated
            return
        assert self._average_model is not None
        count = int(self._average_model.n_averaged)
        share = 1 - min(self.decay, (1 + count) / (10 + count)) if count else 1.0
        averaged, current = (list(tensors) for tensors in zip(*self._floats, strict=True))
        torch._foreach_lerp_(averaged, current, share)  # one call for all tensors: torch has no public name for such
        if self._counters:
            averaged, current = (list(tensors) for tensors in zip(*self._counters, strict=True))
            torch._foreach_copy_(averaged, current)
        self._average_model.n_averaged += 1
        self._latest_update_step = trainer.global_step


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
