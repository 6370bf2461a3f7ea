"""Muon or AdamW with a one-cycle schedule: shared by both training tasks."""

import math
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import nn

from fashion.errors import FashionError
from fashion.muon import Muon


def one_cycle(
    module: LightningModule, lr: float, weight_decay: float, warmup: float, muon: float | None
) -> dict[str, Any]:
    """An optimiser whose rate rises to `lr` over the share `warmup` of all steps, then falls along a cosine.

    Meanwhile the first beta of AdamW, and of Muon its momentum's decay, falls from .95 to .85 and rises again, as
    OneCycleLR does; it overrides the optimiser's own betas.

    Raises:
        FashionError: if the trainer has no last step.
    """
    steps = module.trainer.estimated_stepping_batches
    # −1: of a loader that does not know its length, or of none that is read.
    if steps == math.inf or steps < 0 < module.trainer.limit_train_batches:
        raise FashionError(
            "The trainer has no last step, and the learning rate falls until then; set max_epochs or "
            "max_steps, and beside max_epochs limit_train_batches where the training loader does not know its length."
        )
    bf16 = "bf16" in str(module.trainer.precision)
    chosen = optimizer(module, lr, weight_decay, muon, bf16, fused=not module.trainer.gradient_clip_val)
    steps = max(int(steps), 2)
    # A warm-up of one step is left out: OneCycleLR would divide by 0.
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
    """One cycle as long as this run: a checkpoint restores the position in it, not the length.

    So a run that is resumed with more epochs follows the longer cycle; OneCycleLR would end with the old one.
    """

    def state_dict(self) -> dict[str, Any]:
        """The number of steps taken, and the rates they led to."""
        return {key: super(OneCycle, self).state_dict()[key] for key in ("last_epoch", "_step_count", "_last_lr")}
