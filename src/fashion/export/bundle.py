"""The bundle: a trained model as a folder that embeds and names pictures without torch."""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fashion.data.images import load_picture
from fashion.data.sources import read_source
from fashion.encoder import BATCH, UNFITTED, OnnxEncoder, TorchEncoder, network_arrays
from fashion.errors import FashionError
from fashion.export.card import model_card
from fashion.export.onnx import HEADS, export_heads, export_onnx
from fashion.files import UMASK, replacing_folder, sha256
from fashion.network import EMBEDDING, MEAN, STD
from fashion.quoting import briefly
from fashion.versions import versions

if TYPE_CHECKING:
    from fashion.data.datamodules import ImageDataModule

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference between torch's and ONNX Runtime's answers that an export may have, see `tolerance`."""

FILES = {"README.md", "manifest.json", "weights.safetensors", "encoder.onnx", "encoder.int8.onnx", *HEADS.values()}
"""All that a bundle may hold."""

STRAY = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers leave in folders that they show."""

UNTOLD = ("machine", "confusion")
"""What a manifest leaves out of a run's figures."""

ROWS = 512
"""Pictures whose neighbours are compared at a time: memory does not grow with the square of their number."""


def write_bundle(
    checkpoint: Path,
    folder: Path,
    *,
    data: "ImageDataModule | None" = None,
    metrics: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    note: str | None = None,
    heads: bool = True,
) -> Path:
    """Export a checkpoint: `encoder.onnx`, `weights.safetensors`, `manifest.json`, and a model card.

    Args:
        data: what the model was trained on: on its validation pictures ONNX Runtime must agree with torch, and an int8
            version is judged by them.  None, or of other classes: garments are drawn, and there is no int8 version.
        metrics: what the manifest says of the model's quality: a run's `metrics.json`.
        run: what else made the model: seed, epochs, batches, augmentation.
        note: what the model card says of the data and the commands.
        heads: write `embedder.onnx` and `classifier.onnx` too, which give one of the two answers each.

    Raises:
        FashionError: if the two disagree, the checkpoint's training did not end, or the folder holds anything but a
            bundle.
    """
    from safetensors.numpy import save_file

    check_replaceable(folder)
    encoder = TorchEncoder(checkpoint)
    if not encoder.looks_fitted:
        raise FashionError(UNFITTED % checkpoint)
    if data and data.class_names != encoder.class_names:  # its labels would mean others than the model's
        log.info("The run's pictures are of other classes now (%s); drawn ones stand in.", briefly(data.class_names))
        data = None
    shown = "validation" if data else "drawn"
    pictures = np.array(data.array("validation").pictures) if data else drawn_pictures(encoder.image_size)
    expected = encoder.raw(pictures)
    with replacing_folder(folder) as part:
        save_file(network_arrays(encoder.network), part / "weights.safetensors")
        (part / "weights.safetensors").chmod(
            0o666 & ~UMASK
        )  # it is written for its owner alone; a bundle is to be passed on
        export_onnx(encoder.network, encoder.image_size, part / "encoder.onnx")
        networks = [part / "encoder.onnx", *(export_heads(part / "encoder.onnx") if heads else ())]
        manifest = {
            "schema_version": 1,
            "fingerprint": encoder.fingerprint,
            "class_names": list(encoder.class_names),
            "image_size": encoder.image_size,
            "centre": encoder.centre,
            "embedding_dim": EMBEDDING,
            "normalisation": {"mean": MEAN, "std": STD, "of": 255, "inside_the_graph": True},
            "preprocessing": "the middle (a share `centre` of both sides) stretched to a square, RGB, uint8, [N,3,S,S]",
            "note": note,
            "training": encoder.hparams,
            "run": {**(run or {})},
            "metrics": {name: value for name, value in (metrics or {}).items() if name not in UNTOLD},
            "no_match": (metrics or {}).get("no_match"),
            "versions": versions("fashion", "torch", "onnx", "onnxruntime", "pillow"),
            "files": {path.name: sha256(path) for path in (*networks, part / "weights.safetensors")},
        }
        write_manifest(part, manifest)
        joint = OnnxEncoder(part).raw(pictures)
        manifest["agreement"] = check_agreement(expected, joint) | {"pictures": len(pictures), "pictures_of": shown}
        if heads:
            check_heads(part, pictures, joint)
        manifest["int8"] = _int8(part, data, manifest)
        (part / "README.md").write_text(model_card(manifest), encoding="utf-8")
        write_manifest(part, manifest)
    return folder


def check_replaceable(folder: Path) -> None:
    """Raise FashionError if the folder holds anything but a bundle, as it is replaced whole."""
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if (folder.exists() and not folder.is_dir()) or (held and "encoder.onnx" not in held):
        raise FashionError(f"{folder} exists and is no bundle, so it is not overwritten; name another folder.")
    others = sorted(held - FILES - STRAY)
    if others:
        raise FashionError(
            f"{folder} holds more than a bundle ({briefly(others)}), which would be lost; set bundle to another folder."
        )


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _int8(part: Path, data: "ImageDataModule | None", manifest: dict[str, Any]) -> dict[str, Any]:
    if data is None:
        return {
            "kept": False,
            "why": "not tried: check=false, or the pictures it was trained on are not at hand",
        }
    from fashion.export import int8

    # Its digest must stand in the manifest before it can be loaded to be measured.
    int8.quantized(part / "encoder.onnx", part / int8.NAME, int8.sample(data.array("train")))
    manifest["files"][int8.NAME] = sha256(part / int8.NAME)
    write_manifest(part, manifest)
    verdict = int8.judge(part, data.array("validation"), data.array("train"))
    if not verdict.kept:
        del manifest["files"][int8.NAME]
    return asdict(verdict)


def drawn_pictures(size: int) -> NDArray[np.uint8]:
    """Drawn garments [60,3,size,size], through the loader that all pictures come through."""
    with tempfile.TemporaryDirectory() as scratch:
        source = read_source("synthetic", None, cache=Path(scratch), drawing={"products": 30, "views": 2})
        return np.stack([load_picture(source.root / item.path, size) for item in source.items])


def tolerance(answers: NDArray[np.float32]) -> float:
    """How much others may differ from these; a share of the largest where that is above 1, as logits may be."""
    return TOLERANCE * max(1.0, float(np.abs(answers).max()))


def check_agreement(torch_says: tuple[Any, Any], onnx_says: tuple[Any, Any]) -> dict[str, float]:
    """The largest differences of embeddings and logits.

    Raises:
        FashionError: unless both are within the tolerance, and the ten nearest neighbours are the same.
    """
    differences = {}
    for what, one, other in zip(("embeddings", "logits"), torch_says, onnx_says, strict=True):
        difference = float(np.abs(one - other).max())
        differences[what] = difference
        if not difference <= tolerance(one):
            raise FashionError(
                f"The exported {what} differ from torch's by up to {difference:.2g}; nothing is written."
            )
    nearest = min(10, len(torch_says[0]))
    for at in range(0, len(torch_says[0]), ROWS):
        first, second = (e[at : at + ROWS] @ e.T for e in (torch_says[0], onnx_says[0]))
        last = -np.partition(-first, nearest - 1, axis=1)[:, nearest - 1]
        # A neighbour may change places only with one that is as near, within the tolerance.
        chosen = np.take_along_axis(first, np.argpartition(-second, nearest - 1, axis=1)[:, :nearest], axis=1)
        if (chosen < last[:, None] - 2 * TOLERANCE).any():
            raise FashionError("The exported model finds other neighbours than torch's; nothing is written.")
    return differences


def check_heads(folder: Path, pictures: NDArray[np.uint8], joint: tuple[Any, Any]) -> None:
    """Compare what each head's network says of the first pictures with what the joint one says.

    Raises:
        FashionError: if they differ.
    """
    import onnxruntime as ort

    for name, file, expected in zip(HEADS, HEADS.values(), joint, strict=True):
        session = ort.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
        (said,) = session.run([name], {"pictures": pictures[:BATCH]})  # in one pass, so not of thousands of pictures
        if not np.abs(said - expected[:BATCH]).max() <= tolerance(expected):
            raise FashionError(f"{file} differs from encoder.onnx; nothing is written.")
