"""A bundle's README: what the model is, what it was made of, how good it is, and what it cannot do."""

from collections.abc import Mapping
from typing import Any

SETTINGS = ("lr", "weight_decay", "label_smoothing", "mixup", "classification", "look")


def model_card(manifest: Mapping[str, Any]) -> str:
    """A model card, with the front matter that model hubs read."""
    size, dimension = manifest["image_size"], manifest["embedding_dim"]
    classes = manifest["class_names"]
    training = manifest["training"]
    backbone = training.get("backbone", {}).get("name", "")
    recipe = [f"{name} {training[name]}" for name in SETTINGS if name in training]
    int8 = manifest.get("int8", {})
    return f"""---
license: mit
library_name: fashion
pipeline_tag: image-feature-extraction
tags: [fashion, visual-search, image-classification, onnx]
---
# fashion encoder {manifest["fingerprint"]}

Pictures of {size}×{size} → an embedding of {dimension} numbers (length 1, compare by dot product) and the logits of
{len(classes)} classes, in one pass: {", ".join(classes)}.

```python
from fashion import VisualSearchEngine

engine = VisualSearchEngine("this/folder")
engine.classify("picture.jpg")
```

## Data and recipe
{data_sentence(manifest)}
Backbone `{backbone}`, trained from scratch, no other pictures or weights; the last stage: {", ".join(recipe)}.
int8: {int8.get("why", "not tried")}.

## Figures{f" ({manifest['metrics'].get('split', '')} split)" if manifest["metrics"] else ""}
{figures(manifest)}

## Limits
- It tells {len(classes)} kinds of garments apart and sees {size}×{size} pixels: no brands, no weave, no fine prints.
- What is none of its classes, several garments, or people, are named with confidence all the same; look at `match`.
- Validation pictures come from the same photographers as training pictures: expect less from strangers' photos.
"""


def data_sentence(manifest: Mapping[str, Any]) -> str:
    """What it was trained on, as far as it was noted."""
    pictures = manifest["metrics"].get("data_audit", {}).get("pictures")
    said = manifest.get("note") or ""
    return f"{said} {pictures} pictures, training and validation.".strip() if pictures else said


def figures(manifest: Mapping[str, Any]) -> str:
    """A table of the figures that have an interval."""
    values = manifest["metrics"].get("metrics", {})
    rows = [
        f"| {name} | {values[name]:.3f} | {low:.3f} – {high:.3f} |"
        for name, (low, high) in manifest["metrics"].get("intervals_95", {}).items()
        if name in values
    ]
    return "\n".join(["| metric | value | 95% interval |", "| --- | --- | --- |", *rows]) if rows else "Not evaluated."
