"""A bundle's README: what the model is, how good, and what it cannot do."""

from collections.abc import Mapping
from typing import Any


def model_card(manifest: Mapping[str, Any]) -> str:
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

Pictures of {size}×{size} → an embedding of {manifest["embedding_dim"]} numbers (length 1, compare by dot product) and
the logits of {len(manifest["class_names"])} classes: {", ".join(manifest["class_names"])}.

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
