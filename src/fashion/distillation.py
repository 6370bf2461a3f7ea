"""Learning from trained networks as well as from the labels ("distillation", https://arxiv.org/abs/1503.02531).

The teachers look at the very pictures that the student sees, mixed and augmented alike, but may see them larger: that
is consistent teaching (https://arxiv.org/abs/2106.05237), which gains from long trainings even on few pictures.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fashion.network import SiameseEncoder

TEMPERATURE = 2.0


class Teacher:
    """One or several trained networks that say what they make of pictures.

    It is no `nn.Module`, so that its weights stay out of the student's checkpoints, optimiser and moving average.

    Args:
        networks: the trained networks; they are copied.
        bf16: compute in bfloat16, 2.4 to 3 times as fast for a ResNet-18 where the processor has instructions
            for it, and slower for `base`.
    """

    def __init__(self, networks: Sequence[SiameseEncoder], bf16: bool = False):
        self.networks = [fused(network).to(memory_format=torch.channels_last) for network in networks]
        self.bf16 = bf16

    def to(self, device: torch.device) -> None:
        """Move the networks to where the pictures will be."""
        for network in self.networks:
            network.to(device)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures [N,3,S,S] of values 0…255 → logarithms of the classes' softened probabilities [N,classes]."""
        said = []
        for network in self.networks:
            with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self.bf16):
                logits = network.logits(network.parts(pictures)[0])
            said.append(F.log_softmax(logits.float() / TEMPERATURE, dim=1))
        return torch.stack(said).logsumexp(dim=0) - math.log(len(said))


def distillation_loss(logits: Tensor, teacher_log_probabilities: Tensor) -> Tensor:
    """The divergence of the student's probabilities, of its logits, from the teacher's; 0 where they agree.

    Both are softened by a temperature of 2, so that unlikely classes count too: they tell how classes resemble each
    other.

    Args:
        logits: the student's, as they are [N,classes].
        teacher_log_probabilities: softened already, as `Teacher` returns them [N,classes].
    """
    own = F.log_softmax(logits / TEMPERATURE, dim=1)
    return F.kl_div(own, teacher_log_probabilities, reduction="batchmean", log_target=True) * TEMPERATURE**2


def fused(network: SiameseEncoder) -> SiameseEncoder:
    """A copy to evaluate, with batch norms folded into the convolutions before them: 2.3 times as fast for `base`."""
    copy = deepcopy(network).eval().requires_grad_(False)
    for module in copy.modules():
        for (name, child), (next_name, norm) in pairwise(list(module.named_children())):
            if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(child, norm))
                setattr(module, next_name, nn.Identity())
    return copy
