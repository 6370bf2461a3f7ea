"""The bundle: a trained model as a folder that embeds and names pictures without torch."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.encoder import OnnxEncoder, TorchEncoder, network_arrays
from fashion.errors import FashionError
from fashion.export.onnx import export_onnx
from fashion.files import replacing_folder, sha256
from fashion.network import EMBEDDING, MEAN, STD

TOLERANCE = 1e-4
"""Largest difference between torch's and ONNX Runtime's embeddings and probabilities that an export may have."""


def write_bundle(
    checkpoint: Path,
    folder: Path,
    *,
    pictures: NDArray[np.uint8] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Export a checkpoint: `encoder.onnx`, `weights.safetensors`, `manifest.json`, and a model card.

    Args:
        pictures: [N,3,S,S] on which ONNX Runtime must agree with torch; None: noise from a fixed seed.
        metrics: what the manifest says of the model's quality: a run's `metrics.json`.

    Raises:
        FashionError: if the two disagree, or the folder holds something other than a bundle.
    """
    from safetensors.numpy import save_file

    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "encoder.onnx").exists())):
        raise FashionError(f"{folder} exists and is no bundle, so it is not overwritten; name another folder.")
    encoder = TorchEncoder(checkpoint)
    if pictures is None:
        shape = (64, 3, encoder.image_size, encoder.image_size)
        pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = encoder(pictures)
    with replacing_folder(folder) as part:
        save_file(network_arrays(encoder.network), part / "weights.safetensors")
        export_onnx(encoder.network, encoder.image_size, part / "encoder.onnx")
        manifest = {
            "schema_version": 1,
            "fingerprint": encoder.fingerprint,
            "class_names": list(encoder.class_names),
            "image_size": encoder.image_size,
            "embedding_dim": EMBEDDING,
            "normalisation": {"mean": MEAN, "std": STD, "of": 255, "inside_the_graph": True},
            "preprocessing": "stretched to a square, RGB, uint8, [N,3,S,S]",
            "training": _hparams(checkpoint),
            "metrics": dict(metrics or {}),
            "no_match": (metrics or {}).get("no_match"),
            "versions": {name: version(name) for name in ("fashion", "torch", "onnx", "onnxruntime", "pillow")},
            "files": {name: sha256(part / name) for name in ("encoder.onnx", "weights.safetensors")},
        }
        (part / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        (part / "README.md").write_text(_card(manifest), encoding="utf-8")
        check_agreement(expected, OnnxEncoder(part)(pictures))
    return folder


def check_agreement(torch_says: tuple[Any, Any], onnx_says: tuple[Any, Any]) -> None:
    """Raise FashionError unless embeddings, probabilities and ten nearest neighbours are the same."""
    for what, one, other in zip(("embeddings", "probabilities"), torch_says, onnx_says, strict=True):
        difference = float(np.abs(one - other).max())
        if not difference <= TOLERANCE:
            raise FashionError(
                f"The exported {what} differ from torch's by up to {difference:.2g}; nothing is written."
            )
    first, second = (e @ e.T for e in (torch_says[0], onnx_says[0]))
    tenth = -np.sort(-first, axis=1)[:, min(9, len(first) - 1)]
    # A neighbour may change places only with one that is as near, within the tolerance.
    chosen = np.take_along_axis(first, np.argsort(-second, axis=1)[:, :10], axis=1)
    if (chosen < tenth[:, None] - 2 * TOLERANCE).any():
        raise FashionError("The exported model finds other neighbours than torch's; nothing is written.")


def _hparams(checkpoint: Path) -> dict[str, Any]:
    from fashion.network import load_network

    return load_network(checkpoint)[1]


def _card(manifest: Mapping[str, Any]) -> str:
    """A model card, with the front matter that model hubs read."""
    figures = manifest["metrics"].get("metrics", {})
    ranges = manifest["metrics"].get("intervals_95", {})
    rows = [
        f"| {name} | {figures[name]:.3f} | {low:.3f} – {high:.3f} |"
        for name, (low, high) in ranges.items()
        if name in figures
    ]
    table = "\n".join(["| metric | value | 95% interval |", "| --- | --- | --- |", *rows]) if rows else "Not evaluated."
    split = manifest["metrics"].get("split", "")
    size = manifest["image_size"]
    return f"""---
license: mit
library_name: fashion
pipeline_tag: image-feature-extraction
tags: [fashion, visual-search, image-classification, onnx]
---
# fashion encoder {manifest["fingerprint"]}

Pictures of {size}×{size} → an embedding of {EMBEDDING} numbers (length 1, compare by dot product) and the logits of
{len(manifest["class_names"])} classes: {", ".join(manifest["class_names"])}.

```python
from fashion import VisualSearchEngine

engine = VisualSearchEngine("this/folder")
engine.classify("picture.jpg")
```

## Figures{f" ({split} split)" if split else ""}
{table}

## Limits
It tells kinds of garments apart, at {size}×{size} pixels: no brands, no fine textures.  Pictures unlike its training
pictures (several garments, people, drawings) are named with confidence all the same.
"""
