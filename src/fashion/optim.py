"""AdamW with a one-cycle schedule, and the moving average of weights: shared by both training tasks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


def one_cycle(module: LightningModule, lr: float, weight_decay: float, warmup: float) -> dict[str, Any]:
    """AdamW whose rate rises to `lr` over the share `warmup` of all steps, then falls to nearly 0 along a cosine.

    Biases, batch-norm weights and the logits' scale are not decayed: shrinking them regularises nothing.
    """
    named = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in named if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, fused=True)
    steps = int(module.trainer.estimated_stepping_batches)
    schedule = OneCycle(optimizer, lr, total_steps=max(steps, 2), pct_start=warmup)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class OneCycle(torch.optim.lr_scheduler.OneCycleLR):
    """One cycle whose length is this run's: a checkpoint brings only its place in it.

    So a run that is resumed with more epochs goes on along the longer cycle, where OneCycleLR would end at the old one.
    """

    def state_dict(self) -> dict[str, Any]:
        """The number of steps taken, and the rates they led to."""
        return {key: super(OneCycle, self).state_dict()[key] for key in ("last_epoch", "_step_count", "_last_lr")}


def averaging(decay: float) -> WeightAveraging:
    """Lightning's callback that validates and saves an exponential moving average of the weights."""
    return WeightAveraging(multi_avg_fn=moving_average(decay), use_buffers=True)


def moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """averaged ← d·averaged + (1−d)·current, with d growing from 0.1 to `decay` as updates are counted.

    The warm-up (that of TensorFlow's ExponentialMovingAverage) keeps short runs from averaging their random start.
    """

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        if torch.is_floating_point(averaged[0]):
            torch._foreach_lerp_(list(averaged), list(current), share)
        else:  # batch norm's step counters
            torch._foreach_copy_(list(averaged), list(current))

    return update
