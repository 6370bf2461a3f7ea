"""Muon or AdamW with a one-cycle schedule, and the moving average of weights: shared by both training tasks."""

from collections.abc import Mapping, Sequence
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
    """An optimiser whose rate rises to `lr` over the share `warmup` of all steps, then falls along a cosine."""
    bf16 = "bf16" in str(module.trainer.precision)
    chosen = optimizer(module, lr, weight_decay, muon, bf16, fused=not module.trainer.gradient_clip_val)
    steps = max(int(module.trainer.estimated_stepping_batches), 2)
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
        {"name": "depthwise", "params": others, "weight_decay": weight_decay},
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

    It is kept where the weights are trained: Lightning sets callbacks up before it moves weights to a GPU, so that each
    step would copy them all to the CPU.
    """

    def __init__(self, decay: float):
        super().__init__(multi_avg_fn=MovingAverage(decay), use_buffers=True)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)


class MovingAverage:
    """averaged ← d·averaged + (1−d)·current, with d growing from 0.1 to `decay` as updates are counted.

    The warm-up (that of TensorFlow's ExponentialMovingAverage) keeps short runs from averaging their random start.
    A class, since processes that are spawned get it pickled.
    """

    def __init__(self, decay: float):
        self.decay = decay

    def __call__(self, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = 1 - min(self.decay, (1 + int(count)) / (10 + int(count)))
        if torch.is_floating_point(averaged[0]):
            torch._foreach_lerp_(list(averaged), list(current), share)
        else:  # batch norm's step counters
            torch._foreach_copy_(list(averaged), list(current))
