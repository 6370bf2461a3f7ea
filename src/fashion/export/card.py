"""A bundle's README: what the model is, what it was made of, how good it is, and what it cannot do."""

from collections.abc import Mapping
from typing import Any

from fashion.network import KIND

SETTINGS = ("lr", "muon", "weight_decay", "label_smoothing", "margin", "mixup", "cutmix", "classification", "look")
RUN = ("data.training_size", "data.batch_size", "seed")
"""What else a card says of the recipe; a manifest says more."""

ALONE = """import numpy as np
import onnxruntime
from PIL import Image, ImageOps

picture = ImageOps.exif_transpose(Image.open("picture.jpg")).convert("RGBA")
picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
width, height = picture.size
left, top = width * {edge:g}, height * {edge:g}
picture = picture.resize(({size}, {size}), box=(left, top, width - left, height - top))
pictures = np.asarray(picture).transpose(2, 0, 1)[None]  # [N,3,{size},{size}] uint8; the network normalises them
session = onnxruntime.InferenceSession("encoder.onnx")
embedding, logits = session.run(["embedding", "logits"], {{"pictures": pictures}})
probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()"""


def model_card(manifest: Mapping[str, Any]) -> str:
    """A model card, with the front matter that model hubs read."""
    size, dimension = manifest["image_size"], manifest["embedding_dim"]
    classes = manifest["class_names"]
    training = manifest["training"]
    backbone = training.get("backbone", {}).get("name", "")
    recipe = [f"{name} {training[name]}" for name in SETTINGS if name in training]
    run = manifest.get("run", {})
    recipe += [f"{name.removeprefix('data.')} {run[name]}" for name in RUN if run.get(name) is not None]
    int8 = manifest.get("int8", {})
    return f"""---
library_name: fashion
pipeline_tag: image-feature-extraction
tags: [fashion, visual-search, image-classification, onnx]
---
# fashion encoder {manifest["fingerprint"]}

Pictures of {size}×{size}, stretched from the middle {manifest["centre"]:.0%} of width and height → an embedding of
{dimension} numbers (length 1, compare by dot product) and the logits of {len(classes)} classes, in one pass:
{", ".join(classes)}.
The embedding's first {KIND} numbers say what kind of garment it is, the others what it looks like; the look's share of
a cosine is {training.get("look", 0.25):g}.

```python
from fashion import VisualSearchEngine

engine = VisualSearchEngine("this/folder")
engine.classify("picture.jpg")
```

Without this package, by ONNX Runtime and Pillow alone:

```python
{ALONE.format(size=size, edge=(1 - manifest["centre"]) / 2)}
```

{matching(manifest)}
## Data and recipe
{data_sentence(manifest)}
Backbone `{backbone}`, {origin(manifest)}; the last stage ({stage(manifest)}): {", ".join(recipe)}.
int8: {int8.get("why", "not tried")}.

## Figures{f" ({manifest['metrics'].get('split', '')} split)" if manifest["metrics"] else ""}
{figures(manifest)}

## Limits
- {tells(manifest)}It sees {size}×{size} pixels: no brands, no weave, no fine prints.
- Pictures of none of its classes, of several garments, or of people are named with confidence too; look at `match`.
- The figures are of held-out pictures of the same collection: expect less from other photographers' pictures.
"""


def matching(manifest: Mapping[str, Any]) -> str:
    """When the nearest item is an answer, as far as that was calibrated."""
    no_match = manifest.get("no_match") or {}
    if "threshold" not in no_match:
        return ""
    return f"The nearest item counts as an answer (`match`) from a cosine of {no_match['threshold']:.3f} on.\n"


def tells(manifest: Mapping[str, Any]) -> str:
    if manifest["training"].get("classification") == 0:
        return "Nothing taught its logits, so its names mean nothing: search with it.  "
    return f"It tells {len(manifest['class_names'])} kinds of garments apart.  "


def stage(manifest: Mapping[str, Any]) -> str:
    """What the last stage of training was: names or triplets, and how long."""
    kind = "triplets or another loss of pairs" if "classification" in manifest["training"] else "a classifier"
    epochs = manifest["metrics"].get("epochs")
    return f"{kind}, {epochs} epochs" if epochs else kind


def origin(manifest: Mapping[str, Any]) -> str:
    """What the last stage of training started from, and what else taught it."""
    weights = manifest["training"].get("backbone", {}).get("weights")
    metrics = manifest["metrics"]
    if "pretrained" not in metrics:  # no metrics.json beside the checkpoint
        start = "of unknown origin"
    else:
        start = f"started from `{metrics['pretrained']}`" if metrics["pretrained"] else (
            f"started from {weights} weights" if weights else "trained from scratch")  # fmt: skip
    teachers = metrics.get("teacher") or []
    named = ", ".join(f"`{one}`" for one in ([teachers] if isinstance(teachers, str) else teachers))
    return f"{start}, taught by {named} too" if named else start


def data_sentence(manifest: Mapping[str, Any]) -> str:
    """What it was trained on, as far as it was noted."""
    metrics = manifest["metrics"]
    pictures = metrics.get("data_pictures") or metrics.get("data_audit", {}).get("pictures")  # so in older bundles
    said = manifest.get("note") or ""
    return f"{said} {pictures} pictures, training and validation.".strip() if pictures else said


def figures(manifest: Mapping[str, Any]) -> str:
    """A table of the figures that have an interval; of all where none has, as of pictures of one group."""
    values, intervals = (manifest["metrics"].get(name, {}) for name in ("metrics", "intervals_95"))
    between = {name: f"{low:.3f} – {high:.3f}" for name, (low, high) in intervals.items() if name in values}
    rows = [
        f"| {name} | {values[name]:.3f} | {between.get(name, '–')} |"
        for name in between or values
        if values[name] is not None
    ]
    return "\n".join(["| metric | value | 95% interval |", "| --- | --- | --- |", *rows]) if rows else "Not evaluated."
