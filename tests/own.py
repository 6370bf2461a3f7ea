"""What tests name on the command line as parts of one's own."""

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from fashion.backbone import ConvNormAct, Trunk
from fashion.classifier import ClassifierModule
from fashion.data.datamodules import ImageDataModule
from fashion.data.sources import Item, Source, part_of


class Plain(Trunk):
    """Convolutions of stride 2, one after the other."""

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        self.layers = nn.Sequential(*(ConvNormAct(a, b, stride=2) for a, b in zip((3, *widths), widths, strict=False)))


class PutIn(ClassifierModule):
    """A classifier whose backbone is not the one that its settings describe."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.network.backbone = Plain((16, 32, 48, 64))


class JsonLines(ImageDataModule):
    """Pictures that a file of JSON lines lists: {"file": "a/1.jpg", "is": "dress", "part": "train"}."""

    def read(self) -> Source:
        path = Path(str(self.location)).resolve()
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        items = tuple(Item(row["file"], row["is"], row["part"]) for row in rows)
        class_names = tuple(sorted({item.label for item in items}))
        return part_of(Source(path.parent, items, class_names), self.classes, self.fold)


class Other(pl.LightningDataModule):
    """Data that are no `ImageDataModule`."""
