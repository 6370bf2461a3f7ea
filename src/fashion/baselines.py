"""What a search must be better than: embeddings that nobody trained."""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.data.blocks import in_blocks
from fashion.errors import FashionError

Pictures = NDArray[np.uint8]
Vectors = NDArray[np.float32]
Embed = Callable[[Pictures], Vectors]


def random_vectors(pictures: Pictures) -> Vectors:
    """[N,3,S,S] → [N,64] of length 1, which know nothing of the pictures."""
    seed = zlib.crc32(np.ascontiguousarray(pictures).data)  # two splits of one size must not get the same vectors
    return _unit(np.random.default_rng(seed).normal(size=(len(pictures), 64)))


def raw_pixels(pictures: Pictures) -> Vectors:
    """[N,3,S,S] → [N,3·16·16] of length 1: the picture at 16×16, less its mean."""
    small = in_blocks(np.asarray(pictures)).mean(axis=(3, 5), dtype=np.float32).reshape(len(pictures), -1)
    return _unit(small - small.mean(axis=1, keepdims=True))


def colour_histogram(pictures: Pictures) -> Vectors:
    """[N,3,S,S] → [N,4³] of length 1: square roots of how often each of 64 colours occurs."""
    red, green, blue = np.moveaxis(np.asarray(pictures) >> 6, 1, 0)
    codes = (red * 16 + green * 4 + blue).reshape(len(pictures), -1)
    return _unit(np.sqrt(np.stack([np.bincount(row, minlength=64) for row in codes])))


def imagenet(pictures: Pictures) -> Vectors:
    """[N,3,S,S] → [N,512] of length 1: ResNet-18 with torchvision's ImageNet weights, which are downloaded."""
    import torch

    from fashion.backbone import TorchvisionBackbone

    network = TorchvisionBackbone("resnet18", "imagenet").eval()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    parts = []
    with torch.inference_mode():
        for at in range(0, len(pictures), 64):
            batch = torch.from_numpy(np.array(pictures[at : at + 64])).float() / 255
            batch = (batch - mean[:, None, None]) / deviation[:, None, None]
            parts.append(network(batch).mean(dim=(2, 3)).numpy())
    return _unit(np.concatenate(parts))


BASELINES: dict[str, Embed] = {
    "random": random_vectors,
    "pixels": raw_pixels,
    "histogram": colour_histogram,
    "imagenet": imagenet,
}


def baseline(name: str) -> Embed:
    """The baseline of that name.

    Raises:
        FashionError: if there is none.
    """
    if name not in BASELINES:
        raise FashionError(f"baselines names {name!r}; choose from {', '.join(BASELINES)}.")
    return BASELINES[name]


def _unit(vectors: NDArray[Any]) -> Vectors:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
