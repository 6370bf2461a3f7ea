"""Which split a picture belongs to: its folder's, or always the same one by a hash of its group."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fashion.errors import FashionError

if TYPE_CHECKING:
    from fashion.data.sources import Item

SPLIT_NAMES = {
    "train": "train", "training": "train", "validation": "validation", "val": "validation", "valid": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


def split_folders(root: Path) -> dict[str, Path]:
    """Split → its folder; none where each folder is a class.

    Raises:
        FashionError: if two folders are of one split.
    """
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    named = [path for path in folders if path.name.lower() in SPLIT_NAMES]
    if [path.name.lower() for path in named] == ["training"] and len(folders) > 1:
        named = []  # beside other classes it is one: sportswear
    found: dict[str, Path] = {}
    for path in named:
        other = found.setdefault(SPLIT_NAMES[path.name.lower()], path)
        if other != path:
            raise FashionError(f"{root} holds both {other.name} and {path.name}, which are one split; join the two.")
    return found


def share_of(name: str) -> float:
    """A number from 0 up to 1 that is always the same for a name, and evenly spread over names."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32


def hashed_split(group: str, validation: float) -> str:
    """Stable under added pictures: the split of a group depends on its own name alone."""
    return "validation" if _place(group) < validation else "train"


def all_judged(items: Sequence["Item"]) -> list["Item"]:
    """The items, each class with at least one picture to train on and, where it has two groups, one to validate on.

    Groups move as a whole.  A group of several classes stays in training where it is the only one of a class there.
    """
    group_of = [item.group for item in items]
    splits = {group: item.split for group, item in zip(group_of, items, strict=True)}
    pairs = sorted({(group, item.label) for group, item in zip(group_of, items, strict=True)}, key=_order)
    groups: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    for group, label in pairs:
        groups.setdefault(label, []).append(group)
        labels.setdefault(group, []).append(label)
    for own in groups.values():
        if all(splits[group] == "validation" for group in own):
            splits[own[-1]] = "train"
    trained = Counter(label for group, label in pairs if splits[group] == "train")
    for own in groups.values():
        if any(splits[group] == "validation" for group in own):
            continue
        spare = next((group for group in own if all(trained[label] > 1 for label in labels[group])), None)
        if spare is not None:
            splits[spare] = "validation"
            trained.subtract(labels[spare])
    return [
        item if item.split == splits[group] else replace(item, split=splits[group])
        for group, item in zip(group_of, items, strict=True)
    ]


def _order(pair: tuple[str, str]) -> tuple[float, str, str]:
    return _place(pair[0]), *pair


def _place(group: str) -> float:
    return share_of(f"split {group}")
