"""The one network behind both tasks: pictures → (unit embedding, class logits) in one forward pass."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashion.axes import principal_axes
from fashion.backbone import build_backbone
from fashion.errors import FashionError

EMBEDDING = 64
"""Length of an embedding."""

KIND = 32
"""How many of an embedding's numbers say what kind of garment it is; the others say what it looks like."""

GRID = 4
"""Looks are made of the means over GRID × GRID parts of a picture."""

MEAN, STD = 128.0, 64.0
"""Centre and scale that the network subtracts and divides by, of 255; a whole number, so that both are one operation of
the exported graph."""


class SiameseEncoder(nn.Module):
    """Backbone → an embedding of length 1 in two parts, kind and look, and class logits from the first.

    "Siamese" because the same weights see the anchor, the positive and the negative.

    The **kind**, from the mean over the last map, is what classes and triplets of them train.  The logits are cosines
    between it and one learned direction a class, times a learned scale ("NormFace",
    https://arxiv.org/abs/1704.06369): what is trained to classify is then already arranged for search by cosine.

    The **look**, from the means over 4×4 parts of the middle map, is trained by no loss: training on classes removes
    from the last layers what does not tell them apart, which is what finds pictures of other classes.  After training,
    `fit_looks` lays its axes along what differs most between pictures.  Before that they are random.

    The cosine of two embeddings is (1 − look) · cosine of their kinds + look · cosine of their looks.

    Args:
        backbone: settings for `build_backbone`.
        classes: how many classes; at least 2.
        dropout: share of the pooled features dropped in training.
        look: share of looks in the cosine of two embeddings, 0…1.

    Raises:
        FashionError: if the share is outside its range.
    """

    def __init__(self, backbone: Mapping[str, Any], classes: int, dropout: float = 0.0, look: float = 0.25):
        super().__init__()
        if not 0 <= look <= 1:
            raise FashionError(f"task.module.look is {look}; it is a share, between 0 and 1.")
        self.backbone = build_backbone(backbone)
        self.dropout = nn.Dropout(dropout)
        self.look = look
        middle, last = self.backbone.channels()
        self.kind = nn.Linear(last, KIND)
        self.axes = nn.Linear(GRID**2 * middle, EMBEDDING - KIND).requires_grad_(False)
        self.directions = nn.Parameter(torch.randn(classes, KIND))
        self.log_scale = nn.Parameter(torch.tensor(16.0).log())

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """[N,3,H,W] pictures of values 0…255 (uint8 or float) → embeddings [N,64] of length 1, logits [N,classes]."""
        kinds, features = self.parts(pictures)
        looks = unit(self.axes(features).float())
        embeddings = torch.cat([kinds * (1 - self.look) ** 0.5, looks * self.look**0.5], dim=1)
        return embeddings, self.logits(kinds)

    def parts(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """[N,3,H,W] pictures of values 0…255 → kinds [N,32] of length 1, and what looks are made of [N,16·channels]."""
        x = (pictures.to(self.kind.weight.dtype) - MEAN) / STD
        middle, last = self.backbone.maps(x)
        kinds = self.kind(self.dropout(last.mean(dim=(2, 3))))
        return unit(kinds.float()), F.adaptive_avg_pool2d(middle, GRID).flatten(1)

    def logits(self, kinds: Tensor) -> Tensor:
        """Kinds [N,32] of length 1 → class logits [N,classes]."""
        # The scale is put on the directions: constants of the exported graph, which then has one operation less.
        logits: Tensor = kinds @ (self.log_scale.exp() * F.normalize(self.directions.float())).T
        return logits

    def with_margin(self, logits: Tensor, targets: Tensor, margin: float) -> Tensor:
        """Logits [N,classes] as if the cosine to a picture's own class, by `targets` [N,classes], were `margin` lower.

        Trained on these, classes draw together further than naming needs ("CosFace", https://arxiv.org/abs/1801.09414).
        """
        return logits - margin * self.log_scale.exp() * targets

    @torch.no_grad()
    def fit_looks(self, batches: Iterable[Tensor]) -> None:
        """Lay the axes of looks along the principal components of pictures, given in batches [N,3,H,W].

        Each is divided by the square root of its standard deviation: half way between plain principal components,
        which light dominates, and whitened ones, which noise dominates.
        """
        # On the CPU, as not every device computes in double precision.
        features = (self.parts(batch.to(self.axes.weight.device))[1].cpu() for batch in batches)
        weight, bias = principal_axes(features, EMBEDDING - KIND)
        self.axes.weight.copy_(weight)
        self.axes.bias.copy_(bias)


@contextmanager
def precisely(device: torch.device) -> Iterator[None]:
    """Compute in full single precision: an Nvidia GPU would round factors to ten bits (TF32).

    It does so in convolutions, and in products of matrices where `torch.set_float32_matmul_precision` allows it.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        # A flag that is not given would become PyTorch's default, not stay as it was.
        with cudnn.flags(enabled=cudnn.enabled, deterministic=cudnn.deterministic, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def unit(x: Tensor) -> Tensor:
    """[N,D] → the same directions, of length 1."""
    # What F.normalize computes; its `expand` would be three more operations of the exported graph.
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)


def network_from(hparams: Mapping[str, Any]) -> SiameseEncoder:
    """A network with fresh weights, as a checkpoint's (or bundle's) hyper-parameters describe it."""
    classes = len(hparams["class_names"])
    return SiameseEncoder(hparams["backbone"], classes, hparams.get("dropout", 0.0), hparams.get("look", 0.25))


def parameters_and_macs(network: nn.Module, image_size: int) -> tuple[int, int]:
    """Parameters, and multiply-accumulates for one picture (two floating-point operations each)."""
    from torch.utils.flop_counter import FlopCounterMode  # slow to import, and no search counts

    network.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2


def fingerprint(
    tensors: Mapping[str, Any], image_size: int, class_names: Sequence[str], centre: float, look: float
) -> str:
    """16 hex digits that change whenever a picture's embedding or class may.

    They depend on the weights, the picture's size, the share of it that is shown, the classes, and the share of looks.

    Args:
        tensors: name → array of the network's weights.
    """
    digest = hashlib.sha256(json.dumps([image_size, list(class_names), centre, look]).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
