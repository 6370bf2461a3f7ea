"""Where models lie, and what the files beside them say: a run's `metrics.json`, a bundle's `manifest.json`."""

import json
from pathlib import Path
from typing import Any

from fashion.errors import FashionError
from fashion.files import read_json
from fashion.quoting import as_typed

PRETRAINED = Path(__file__).parent / "weights"
"""The bundle that comes with the package."""

SHIPPED = {"pretrained": PRETRAINED, "pretrained-int8": PRETRAINED / "encoder.int8.onnx"}
"""What `encoder=` may name of it.  Catalogues note these names, so that they may move to another installation."""


def figures_of(checkpoint: Path) -> dict[str, Any] | None:
    """What its run's `metrics.json` says of a checkpoint; None if nothing, or of another checkpoint."""
    facts = read_json(checkpoint.parent.parent / "metrics.json")
    return facts if isinstance(facts, dict) and facts.get("checkpoint", "last.ckpt") == checkpoint.name else None


def no_match_of(facts: Any) -> float | None:
    """The calibrated threshold that a run's figures or a bundle's manifest names; None: it was not calibrated."""
    try:
        return float(facts["no_match"]["threshold"])
    except (KeyError, TypeError, ValueError):
        return None


def read_bundle_manifest(folder: Path) -> dict[str, Any]:
    """A bundle's `manifest.json`, checked for what loading needs."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["schema_version"] != 1:
            raise FashionError(
                f"{path} has schema version {manifest['schema_version']}; this version reads 1. Update fashion."
            )
        for key in ("class_names", "image_size", "fingerprint", "files"):
            manifest[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FashionError(f"{path} is not the manifest of a bundle ({error}); export the bundle again.") from error
    return dict(manifest)


def find_model(path: Path) -> Path:
    """The checkpoint or bundle that `path` means: a .ckpt file, a bundle folder, a run folder, or `pretrained`
    (`pretrained-int8`).

    A run folder means the checkpoint that its `metrics.json` names, else the last one, else its bundle.  A bundle's
    .onnx file means that network of the bundle: `encoder.int8.onnx` for the int8 one.

    Raises:
        FashionError: if there is none.
    """
    path = path.expanduser()
    if str(path) in SHIPPED and not path.exists():
        return SHIPPED[str(path)]
    if path.is_file() and path.suffix in (".ckpt", ".onnx"):
        return path
    if (path / "encoder.onnx").is_file():
        return path
    facts = read_json(path / "metrics.json")
    named = str(facts.get("checkpoint", "last.ckpt")) if isinstance(facts, dict) else "last.ckpt"
    for name in (named, "last.ckpt"):
        checkpoint = path / "checkpoints" / Path(name).name
        if checkpoint.is_file():
            return checkpoint
    if (path / "bundle" / "encoder.onnx").is_file():
        return path / "bundle"
    what = "holds no checkpoint or bundle" if path.exists() else "does not exist"
    raise FashionError(
        f"{path} {what}; name a run folder of task=classify or task=triplet, a .ckpt file, an exported bundle, or "
        "pretrained."
    )


def bundle_of(model: Path) -> Path:
    """The bundle (or a bundle's network) that `model` is, or the bundle that lies in its run's folder.

    Raises:
        FashionError: if the model was not exported yet.
    """
    found = find_model(model)
    if found.is_dir() or found.suffix == ".onnx":
        return found
    bundle = found.parent.parent / "bundle"
    if not (bundle / "encoder.onnx").is_file():
        raise FashionError(
            f"The server needs {model} as a bundle; make it with: "
            f"python run.py task=export {as_typed('encoder', found.parent.parent)}"
        )
    return bundle
