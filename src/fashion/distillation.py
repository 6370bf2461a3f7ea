"""Learning from a larger network as well as from the labels ("distillation", https://arxiv.org/abs/1503.02531).

The teacher looks at the very pictures that the student sees, mixed and augmented alike, but may see them larger: that
is consistent teaching (https://arxiv.org/abs/2106.05237), which forgives a long training on few pictures.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fashion.errors import FashionError
from fashion.network import SiameseEncoder

TEMPERATURE = 2.0


class Teacher:
    """A trained network that says what it makes of pictures.

    It is no `nn.Module`, so that its weights stay out of the student's checkpoints, optimiser and moving average.

    Args:
        network: the trained network; its weights are not changed.
        class_names: the classes it tells apart.
        image_size: width and height of what it was trained on, pixels.
        bf16: compute in bfloat16, 2.4 to 3 times as fast for a ResNet-18 where the processor has instructions
            for it, and slower for `base`.
    """

    def __init__(self, network: SiameseEncoder, class_names: Sequence[str], image_size: int, bf16: bool = False):
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.class_names, self.image_size, self.bf16 = tuple(class_names), image_size, bf16

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [N,3,S,S] of values 0…255 → kinds [N,32] of length 1, logits [N,classes]."""
        self.network.to(pictures.device)
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self.bf16):
            kinds, _ = self.network.parts(pictures)
            logits = self.network.logits(kinds)
        return kinds.float(), logits.float()

    def check(self, class_names: Sequence[str], training_size: int) -> None:
        """Raise FashionError unless it names these classes, in pictures of this size."""
        if self.class_names != tuple(class_names):
            raise FashionError(
                f"The teacher tells apart {', '.join(self.class_names)}, and the data has {', '.join(class_names)}; "
                "train the teacher on the same classes."
            )
        if self.image_size != training_size:
            raise FashionError(
                f"The teacher sees pictures of {self.image_size} pixels, and data.training_size gives "
                f"{training_size}; set data.training_size={self.image_size}."
            )


def imitation(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """How far the student's (kinds [N,32], logits [N,classes]) are from the teacher's; 0 where they agree.

    The divergence of the classes' probabilities, softened by a temperature of 2, plus the mean of 1 - cosine of the
    kinds: a student that places pictures where the teacher does also inherits what its neighbourhoods mean.
    """
    (kinds, logits), (goal, goal_logits) = student, teacher
    divergence = F.kl_div(
        F.log_softmax(logits / TEMPERATURE, dim=1),
        F.log_softmax(goal_logits / TEMPERATURE, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * TEMPERATURE**2 + (1 - (kinds * goal).sum(dim=1)).mean()
