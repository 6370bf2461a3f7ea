"""The one network behind both tasks: pictures → (unit embedding, class logits) in one forward pass."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
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


AXES = {"axes.weight", "axes.bias"}
"""Tensors of another shape where a checkpoint is from before the looks were what they are."""


class SiameseEncoder(nn.Module):
    """Backbone → an embedding of length 1 in two parts, kind and look, and class logits from the first.

    "Siamese" because the same weights see the anchor, the positive and the negative.

    The **kind**, from the mean over the last map, is what classes and triplets of them train.  The logits are cosines
    between it and one learned direction a class, times a learned scale ("NormFace",
    https://arxiv.org/abs/1704.06369): what is trained to classify is then already arranged for search by cosine.

    The **look**, from the means over 4×4 parts of the middle map, is trained by no loss: classes reach into the last
    layers and wipe out what does not tell them apart, which is what finds pictures of other classes.  After training,
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

        Each is divided by the square root of its standard deviation: half way between principal components as they
        are, where light decides, and whitened ones, where noise does.
        """
        # On the CPU, as not every device computes in double precision.
        features = (self.parts(batch.to(self.axes.weight.device))[1].cpu() for batch in batches)
        weight, bias = principal_axes(features, EMBEDDING - KIND)
        self.axes.weight.copy_(weight)
        self.axes.bias.copy_(bias)


@contextmanager
def precisely(device: torch.device) -> Iterator[None]:
    """Where all is computed with all digits: an Nvidia GPU would round factors to ten bits (TF32).

    It does so in convolutions; in products of matrices where `torch.set_float32_matmul_precision` lets it.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        # What is not given would be PyTorch's default, not what was set before.
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


def _offline(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters of a network whose weights are at hand: torchvision's are not downloaded once more."""
    backbone = dict(hparams["backbone"])
    return {**hparams, "backbone": backbone | ({"weights": None} if "weights" in backbone else {})}


def check_rebuilt(network: nn.Module, hparams: Mapping[str, Any]) -> None:
    """Raise FashionError unless a checkpoint of the network can be read: its hyper-parameters make the same tensors."""
    with torch.random.fork_rng(devices=[]):  # the training draws what it would have drawn
        differing = _differing(network.state_dict(), network_from(_offline(hparams)).state_dict())
    if differing:
        raise FashionError(
            f"The module's network is not the one that model.name={hparams['backbone'].get('name')} stands for "
            f"({differing[0]} differs), so its checkpoints could not be read; put a backbone of your own into "
            "fashion.backbone.BACKBONES and name it by model.name."
        )


def _differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that only one of two states has, or in another shape; batch norm's counters may be missing."""
    first, second = (
        {plain(name): value.shape for name, value in state.items() if not name.endswith("num_batches_tracked")}
        for state in (one, other)
    )
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def plain(name: str) -> str:
    """A tensor's name without what torch.compile puts into it."""
    return name.replace("_orig_mod.", "")


def load_network(checkpoint: Path) -> tuple[SiameseEncoder, dict[str, Any]]:
    """The network of a checkpoint (or of a bundle's folder), in eval mode, and its hyper-parameters.

    Only tensors and plain values are read (`weights_only=True`, safetensors): a checkpoint cannot run code.

    Returns:
        The network, and the hyper-parameters: `backbone`, `class_names`, `image_size` and the training settings; of a
        checkpoint whether its looks were fitted, too (`looks_fitted`).

    Raises:
        FashionError: if the file is missing, is damaged, or was not written by one of our training tasks.
    """
    if not checkpoint.exists():
        raise FashionError(f"{checkpoint}: no such checkpoint; name a run folder or a .ckpt file.")
    weights: Mapping[str, Tensor] = {}
    differing: list[str] = []
    try:
        weights, hparams = _bundled(checkpoint) if checkpoint.is_dir() else _checkpointed(checkpoint)
        hparams = _offline(hparams)
        network = network_from(hparams)
        differing = _differing(network.state_dict(), weights)
        if differing:
            raise ValueError(f"its {differing[0]} is not of the network that it describes")
        network.load_state_dict(weights, strict=False)
    except Exception as error:  # damaged archives raise whatever the unpickler met
        if isinstance(error, FashionError):
            raise FashionError(f"{checkpoint}: {error}") from error
        if weights.keys() & {"embed.weight", "look.weight"} or (differing and {*differing} <= AXES):
            raise FashionError(
                f"{checkpoint} was made by an earlier version, of other embeddings; train it again."
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FashionError(
            f"{checkpoint} is not a checkpoint of this project ({reason}); name one that task=classify or "
            "task=triplet wrote."
        ) from error
    return network.eval(), dict(hparams)


def _checkpointed(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "network."
    weights = {plain(k[len(prefix) :]): v for k, v in saved["state_dict"].items() if k.startswith(prefix)}
    # Those of before the mark were written by trainings that ended.
    return weights, {**saved["hyper_parameters"], "looks_fitted": saved.get("looks_fitted", True)}


def _bundled(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors.torch import load_file

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return load_file(folder / "weights.safetensors"), manifest["training"]


def fingerprint(
    tensors: Mapping[str, Any], image_size: int, class_names: Sequence[str], centre: float, look: float
) -> str:
    """16 hex digits that change whenever what comes of a picture may.

    That is with the weights, the picture's size, the share of it that is shown, the classes, or the share of looks.

    Args:
        tensors: name → array of the network's weights.
    """
    digest = hashlib.sha256(json.dumps([image_size, list(class_names), centre, look]).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
