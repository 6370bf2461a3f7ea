"""Muon or AdamW with a one-cycle schedule, and the moving average of weights: shared by both training tasks."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn

from fashion.errors import FashionError
from fashion.muon import Muon


class Settings(BaseModel):
    """What settings of the training tasks may be."""

    model_config = ConfigDict(strict=True)

    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    muon: float | None = Field(None, gt=0)
    margin: float = Field(0.0, ge=0, le=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0, le=1)
    cutmix: float = Field(0.0, ge=0, le=1)
    look: float = Field(ge=0, le=1)
    teaching: float = Field(0.0, ge=0, le=1)
    classification: float = Field(0.0, ge=0)


def check_settings(hparams: Mapping[str, Any]) -> None:
    """Refuse training settings that no training can have; other hyper-parameters are not looked at.

    Raises:
        FashionError: naming the first.
    """
    try:
        Settings(**hparams)
    except ValidationError as error:
        first = error.errors()[0]
        raise FashionError(f"task.module.{first['loc'][0]} is {first['input']!r}: {first['msg']}.") from None


def one_cycle(
    module: LightningModule, lr: float, weight_decay: float, warmup: float, muon: float | None
) -> dict[str, Any]:
    """An optimiser whose rate rises to `lr` over the share `warmup` of all steps, then falls along a cosine.

    Meanwhile the first beta of AdamW, and of Muon its momentum's decay, falls from .95 to .85 and rises again, as is
    OneCycleLR's way: what an optimiser was made with does not count.

    Raises:
        FashionError: if the trainer has no last step.
    """
    steps = module.trainer.estimated_stepping_batches
    if steps == math.inf or steps < 0:  # −1: of a loader that does not know its length
        raise FashionError(
            "The trainer has no last step, and the learning rate falls until then; set max_epochs or "
            "max_steps, and beside max_epochs limit_train_batches where the training loader does not know its length."
        )
    bf16 = "bf16" in str(module.trainer.precision)
    chosen = optimizer(module, lr, weight_decay, muon, bf16, fused=not module.trainer.gradient_clip_val)
    steps = max(int(steps), 2)
    # A rise of one step is none: OneCycleLR would divide by its length, 0.
    schedule = OneCycle(chosen, lr, total_steps=steps, pct_start=float(warmup) if warmup * steps > 1 else 0.0)
    return {"optimizer": chosen, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def optimizer(
    module: nn.Module, lr: float, weight_decay: float, muon: float | None, bf16: bool = False, fused: bool = True
) -> torch.optim.Optimizer:
    """Muon for convolutions that mix channels and AdamW for the rest, or AdamW throughout.

    Biases, batch-norm weights and the logits' scale are not decayed: shrinking them regularises nothing.

    Args:
        muon: how much larger Muon's steps are than `lr`; None: AdamW throughout.
        bf16: whether Muon computes in bfloat16, as a network does that trains so.
        fused: whether AdamW throughout steps in one call, which mixed precision cannot clip gradients for.
    """
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    vectors = [p for p in learned if p.ndim <= 1]
    mixing = [p for p in learned if _mixes(p)]
    others = [p for p in learned if p.ndim > 1 and not _mixes(p)]
    # Their names are what TensorBoard calls their rates.
    plain = [
        {"name": "others", "params": others, "weight_decay": weight_decay},
        {"name": "vectors", "params": vectors, "weight_decay": 0.0},
    ]
    matrices = {"name": "mixing", "params": mixing, "weight_decay": weight_decay}
    if muon is None:
        return torch.optim.AdamW([matrices, *plain], lr=lr, fused=fused)
    return Muon([matrices | {"scale": muon, "orthogonal": True}, *plain], lr=lr, bf16=bf16)


def _mixes(parameter: nn.Parameter) -> bool:
    """Whether it is the weight of a convolution that mixes channels: not of a depthwise one."""
    return parameter.ndim == 4 and parameter.shape[1] > 1


class OneCycle(torch.optim.lr_scheduler.OneCycleLR):
    """One cycle whose length is this run's: a checkpoint brings only its place in it.

    So a run that is resumed with more epochs goes on along the longer cycle, where OneCycleLR would end at the old one.
    """

    def state_dict(self) -> dict[str, Any]:
        """The number of steps taken, and the rates they led to."""
        return {key: super(OneCycle, self).state_dict()[key] for key in ("last_epoch", "_step_count", "_last_lr")}


class Averaging(WeightAveraging):
    """Lightning's callback that validates and saves an average of the weights, here an exponential moving one.

    averaged ← d·averaged + (1−d)·current after each step, with d growing from 0.1 to `decay` as steps are counted.  The
    warm-up (that of TensorFlow's ExponentialMovingAverage) keeps short runs from averaging their random start.

    The average is kept where the weights are trained: Lightning sets callbacks up before it moves weights to a GPU, so
    that each step would copy them all to the CPU.  It is counted on the CPU: torch's own looks at a count on the GPU
    three times a step, and waits for it.
    """

    def __init__(self, decay: float):
        super().__init__(use_buffers=True)
        self.decay = decay
        self._fractions: list[tuple[Tensor, Tensor]] = []
        self._counters: list[tuple[Tensor, Tensor]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._average_model is not None
        pairs = [*zip(_tensors(self._average_model.module), _tensors(pl_module), strict=True)]
        self._fractions = [pair for pair in pairs if pair[0].is_floating_point()]
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
        averaged, current = (list(tensors) for tensors in zip(*self._fractions, strict=True))
        torch._foreach_lerp_(averaged, current, share)
        if self._counters:
            averaged, current = (list(tensors) for tensors in zip(*self._counters, strict=True))
            torch._foreach_copy_(averaged, current)
        self._average_model.n_averaged += 1
        self._latest_update_step = trainer.global_step


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
