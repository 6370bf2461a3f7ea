"""The one network behind both tasks: pictures → (unit embedding, class logits) in one forward pass."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashion.backbone import build_backbone
from fashion.errors import FashionError

EMBEDDING = 64
"""Length of an embedding."""

KIND = 32
"""How many of an embedding's numbers say what kind of garment it is; the others say what it looks like."""

KIND_SHARE = 2 / 3
"""Share of the kind in the cosine of two embeddings (docs/experiments.md)."""

MEAN, STD = 127.5, 64.0
"""Centre and scale that the network subtracts and divides by, of 255."""


class SiameseEncoder(nn.Module):
    """Backbone → an embedding of length 1 in two parts, kind and look, and class logits from the first.

    "Siamese" because the same weights see the anchor, the positive and the negative.

    The **kind**, from the mean over the map, is what classes and triplets of them train.  The logits are cosines
    between it and one learned direction a class, times a learned scale ("NormFace",
    https://arxiv.org/abs/1704.06369): what is trained to classify is then already arranged for search by cosine.

    The **look**, from the means over the map's four quarters, is trained to tell a picture from the others: what
    classes do not teach, and what finds pictures of classes that were never trained on.

    The cosine of two embeddings is two thirds the cosine of their kinds and one third that of their looks.

    Args:
        backbone: settings for `build_backbone`.
        classes: how many classes; at least 2.
        dropout: share of the pooled features dropped in training.
    """

    def __init__(self, backbone: Mapping[str, Any], classes: int, dropout: float = 0.0):
        super().__init__()
        self.backbone = build_backbone(backbone)
        self.dropout = nn.Dropout(dropout)
        self.kind = nn.Linear(self.backbone.out_channels, KIND)
        self.look = nn.Linear(4 * self.backbone.out_channels, EMBEDDING - KIND)
        self.directions = nn.Parameter(torch.randn(classes, KIND))
        self.log_scale = nn.Parameter(torch.tensor(16.0).log())

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """[N,3,H,W] pictures of values 0…255 (uint8 or float) → embeddings [N,64] of length 1, logits [N,classes]."""
        kinds, looks = self.parts(pictures)
        embeddings = torch.cat([kinds * KIND_SHARE**0.5, looks * (1 - KIND_SHARE) ** 0.5], dim=1)
        return embeddings, self.logits(kinds)

    def parts(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """[N,3,H,W] pictures of values 0…255 → kinds [N,32] and looks [N,32], each of length 1."""
        x = (pictures.to(self.kind.weight.dtype) - MEAN) / STD
        features = self.backbone(x)
        kinds = self.kind(self.dropout(features.mean(dim=(2, 3))))
        looks = self.look(self.dropout(quarters(features).flatten(1)))
        return unit(kinds.float()), unit(looks.float())

    def logits(self, kinds: Tensor) -> Tensor:
        """Kinds [N,32] of length 1 → class logits [N,classes]."""
        logits: Tensor = self.log_scale.exp() * kinds @ F.normalize(self.directions.float()).T
        return logits


def quarters(features: Tensor) -> Tensor:
    """[N,C,H,W] → [N,C,2,2], the mean of each quarter; the middle of an odd side counts in both halves."""
    sides = features.shape[-2:]
    # F.adaptive_avg_pool2d, of which only even sides can be exported to ONNX.
    pooled = F.avg_pool2d(features, [(side + 1) // 2 for side in sides], [max(side // 2, 1) for side in sides])
    # A side of 1, of a network that shrinks pictures more than ours, is both halves.
    return pooled if min(sides) > 1 else pooled.expand(-1, -1, 2, 2)


def unit(x: Tensor) -> Tensor:
    """[N,D] → the same directions, of length 1."""
    # What F.normalize computes; its `expand` would be three more operations of the exported graph.
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)


def network_from(hparams: Mapping[str, Any]) -> SiameseEncoder:
    """A network with fresh weights, as a checkpoint's (or bundle's) hyper-parameters describe it."""
    return SiameseEncoder(hparams["backbone"], len(hparams["class_names"]), hparams.get("dropout", 0.0))


def load_network(checkpoint: Path) -> tuple[SiameseEncoder, dict[str, Any]]:
    """The network of a checkpoint (or of a bundle's folder), in eval mode, and its hyper-parameters.

    Only tensors and plain values are read (`weights_only=True`, safetensors): a checkpoint cannot run code.

    Returns:
        The network, and the hyper-parameters: `backbone`, `class_names`, `image_size` and the training settings.

    Raises:
        FashionError: if the file is missing, is damaged, or was not written by one of our training tasks.
    """
    if not checkpoint.exists():
        raise FashionError(f"{checkpoint}: no such checkpoint; name a run folder or a .ckpt file.")
    weights: Mapping[str, Tensor] = {}
    try:
        weights, hparams = _bundled(checkpoint) if checkpoint.is_dir() else _checkpointed(checkpoint)
        hparams = {**hparams, "backbone": {**hparams["backbone"], "weights": None}} if "weights" in hparams[
            "backbone"] else hparams  # fmt: skip
        network = network_from(hparams)
        missing, unknown = network.load_state_dict(weights, strict=False)
        absent = [name for name in missing if not name.endswith("num_batches_tracked")]
        if absent or unknown:
            raise KeyError(*absent, *unknown)
    except Exception as error:  # damaged archives raise whatever the unpickler met
        if "embed.weight" in weights:
            raise FashionError(f"{checkpoint} was made before embeddings had two parts; train it again.") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FashionError(
            f"{checkpoint} is not a checkpoint of this project ({reason}); name one that task=classify or "
            "task=triplet wrote."
        ) from error
    return network.eval(), dict(hparams)


def _checkpointed(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "network."
    weights = {k[len(prefix) :]: v for k, v in saved["state_dict"].items() if k.startswith(prefix)}
    return weights, saved["hyper_parameters"]


def _bundled(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors.torch import load_file

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return load_file(folder / "weights.safetensors"), manifest["training"]


def fingerprint(tensors: Mapping[str, Any], image_size: int, class_names: Sequence[str]) -> str:
    """16 hex digits that change whenever the weights, the picture size or the classes do.

    Args:
        tensors: name → array of the network's weights (numpy arrays, or tensors on the CPU).
    """
    digest = hashlib.sha256(json.dumps([image_size, list(class_names)]).encode())
    for name in sorted(tensors):
        array = tensors[name]
        array = array.detach().cpu().contiguous().numpy() if isinstance(array, Tensor) else array
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
