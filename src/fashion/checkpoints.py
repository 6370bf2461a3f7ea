"""Networks in files: what a training's checkpoint, or a bundle, holds, read without executing any of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fashion.errors import FashionError
from fashion.network import SiameseEncoder, network_from

AXES = {"axes.weight", "axes.bias"}
"""Tensors whose shapes differ in checkpoints from before today's looks."""


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
        hparams = offline(hparams)
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
    # Checkpoints from before that mark were written when a training had ended.
    return weights, {**saved["hyper_parameters"], "looks_fitted": saved.get("looks_fitted", True)}


def _bundled(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors.torch import load_file

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return load_file(folder / "weights.safetensors"), manifest["training"]


def offline(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters without torchvision's weights, which need no download where a network's own are at hand."""
    backbone = dict(hparams["backbone"])
    return {**hparams, "backbone": backbone | ({"weights": None} if "weights" in backbone else {})}


def check_rebuilt(network: nn.Module, hparams: Mapping[str, Any]) -> None:
    """Raise FashionError unless a checkpoint of the network can be read: its hyper-parameters make the same tensors."""
    with torch.random.fork_rng(devices=[]):  # this second network must not change the training's random numbers
        differing = _differing(network.state_dict(), network_from(offline(hparams)).state_dict())
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
