"""Where pictures come from: a folder, an archive, a URL, a table, or our own drawing — one list of items out."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from fashion.arguments import checked
from fashion.data.download import local_root
from fashion.data.folders import class_name, find_pictures
from fashion.data.images import SUFFIXES
from fashion.data.splitting import SPLIT_NAMES, all_judged, hashed_split, share_of, split_folders
from fashion.data.tables import COLUMNS, read_rows, text
from fashion.data.walking import files_below
from fashion.errors import FashionError
from fashion.quoting import CHOICES, briefly

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Item:
    """One picture: its path below the root, its class ("": unknown), and whatever else a table says about it."""

    path: str
    label: str
    split: str
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def box(self) -> tuple[float, ...] | None:
        """(left, top, right, bottom) in pixels where a table has a `bbox`, "left top right bottom"."""
        given = self.extra.get("bbox")
        if given in (None, ""):
            return None
        try:
            left, top, right, bottom = (float(value) for value in str(given).replace(",", " ").split())
        except ValueError:
            raise FashionError(
                f"{self.path}: bbox {given!r} should be four numbers: left top right bottom, in pixels."
            ) from None
        return left, top, right, bottom

    @property
    def group(self) -> str:
        """What must not be divided among splits: pictures of one `group`, of one product, or the picture alone."""
        given = (text(self.extra.get(key)) for key in ("group", "product_id"))
        return next(filter(None, given), self.path)


@dataclass(frozen=True)
class Source:
    """All items below one root, and the class names in the order that labels are numbered.

    has_splits: whether the source says which split an item belongs to; else the items were divided here, for training.
    """

    root: Path
    items: tuple[Item, ...]
    class_names: tuple[str, ...]
    has_splits: bool = True

    def split(self, name: str) -> list[Item]:
        return [item for item in self.items if item.split == name]


@checked("data")
def read_source(
    kind: str,
    source: str | None,
    *,
    cache: Path,
    drawing: dict[str, Any] | None = None,
    classes: Sequence[str] | str | None = None,
    validation_fraction: float = 0.15,
    fold: str | None = None,
    labels: bool = True,
) -> Source:
    """The items of a data source.

    Args:
        kind: `folder`, `table` or `synthetic`.
        source: for a folder: a path, archive, URL or `file:` URL; for a table: the CSV or Parquet file; for
            `synthetic`: where to draw, or None for a folder in the cache.
        cache: where downloads, extracted archives and drawings are kept.
        drawing: arguments of `synthetic.write_dataset`.
        classes: only these classes, in this order.
        validation_fraction: the share of each class that becomes the validation split where the source has no splits.
        fold: "i/n": the i-th of n parts of the training pictures is what recipes are compared on, in place of the
            validation pictures, which are left out, as are test pictures.
        labels: whether a table must give each picture a class, as training needs; a search does not.

    Raises:
        FashionError: if the source is missing, empty or malformed, `classes` names one it does not have, or an argument
            is out of its range.
    """
    if not 0 < validation_fraction < 1:
        raise FashionError(f"data.validation_fraction is {validation_fraction}; it should lie between 0 and 1.")
    if isinstance(classes, str):
        raise FashionError(f"data.classes is {classes!r}; it should be a list: data.classes=[{classes},…].")
    if kind == "synthetic":
        found = _table(_draw(source, cache, drawing or {}), validation_fraction, labels)
    elif source in (None, ""):
        raise FashionError("data.source is not set; name a folder, an archive, a URL or a table.")
    elif kind == "table":
        found = _table(Path(source).expanduser(), validation_fraction, labels)
    elif kind == "folder":
        found = _folder(local_root(source, cache), validation_fraction)
    else:
        raise FashionError(f"data.kind is {kind!r}; it should be folder, table or synthetic.")
    return part_of(found, classes, fold)


def part_of(source: Source, classes: Sequence[str] | None = None, fold: str | None = None) -> Source:
    """The source's items of those classes, divided anew for that fold; both as for `read_source`."""
    source = _subset(source, classes) if classes else source
    return source if fold is None else _folded(source, fold)


def _draw(source: str | None, cache: Path, drawing: dict[str, Any]) -> Path:
    from fashion.data.synthetic import write_dataset

    key = "-".join(f"{name}{value}" for name, value in sorted(drawing.items())) or "default"
    folder = Path(source).expanduser() if source else cache / "synthetic" / key
    return write_dataset(folder, **drawing) / "items.csv"


def _folder(root: Path, validation: float) -> Source:
    """root/{train,validation,test}/<class>/…, or root/<class>/… which is then split by a hash of each path."""
    of_splits = split_folders(root)
    items: list[Item] = []
    for split, folder in (of_splits or {"": root}).items():
        for path in find_pictures(folder):
            below = path.relative_to(folder)
            if len(below.parts) < 2:
                raise FashionError(
                    f"{path} lies in no class folder; lay pictures out as {root}/<class>/, or as "
                    f"{root}/{{train,validation,test}}/<class>/ (or use data=table)."
                )
            name = path.relative_to(root).as_posix()
            items.append(Item(name, class_name(below.parts[0]), split or hashed_split(name, validation)))
    if not of_splits:
        items = all_judged(items)
        return Source(root, tuple(items), tuple(sorted({item.label for item in items})), has_splits=False)
    others = [one for one in sorted(root.iterdir()) if one not in of_splits.values()]
    files = (path for one in others for path in (files_below(one) if one.is_dir() else [one]))
    left = sum(path.suffix.lower() in SUFFIXES for path in files)
    if left:
        where = f" ({', '.join(one.name for one in others[:3])})"
        splits = ", ".join(one.name for one in of_splits.values())
        log.warning("%s: %d pictures lie outside %s, and are left out%s.", root, left, splits, where)
    return Source(root, tuple(items), tuple(sorted({item.label for item in items})))


def _folded(source: Source, fold: str) -> Source:
    """The training pictures alone, part i of n of them as the validation split, by a hash of each one's group."""
    try:
        part, parts = (int(number) for number in str(fold).split("/"))
    except ValueError:
        part = parts = 0
    if not 1 <= part <= parts or parts < 2:
        raise FashionError(f"data.fold is {fold!r}; it should be i/n, such as 1/5 for the first of five.")
    items = [
        replace(
            item,
            split="validation" if int(share_of(item.group) * parts) == part - 1 else "train",
        )
        for item in source.split("train")
    ]
    return replace(source, items=tuple(items))


def _table(path: Path, validation: float, labels: bool) -> Source:
    """The table's rows; without a column `split` it is split by a hash of each path (or `group`, or product)."""
    if not path.is_file():
        raise FashionError(f"{path}: no such table; name a CSV or Parquet file with columns {', '.join(COLUMNS)}.")
    rows = read_rows(path)
    if not rows:
        raise FashionError(f"{path} holds no rows; each row should name one picture.")
    missing = [name for name in (("path", "label") if labels else ("path",)) if name not in rows[0]]
    if missing:
        needed = "path, label and, if it is not to be split here, split" if labels else "path and any others"
        raise FashionError(
            f"{path} lacks the column {missing[0]}; it has {', '.join(rows[0])}, and a table needs {needed}, with "
            "a comma, ; or tab between them."
        )
    root, columns = path.parent.resolve(), list(rows[0])
    items = []
    for line, row in enumerate(rows, start=1):
        name, label, split = (text(row.pop(column, None)) for column in COLUMNS)
        split = split.lower() if "split" in columns else hashed_split(Item(name, label, "", row).group, validation)
        if not name or (labels and not label) or split not in SPLIT_NAMES:
            said = f"path {name!r}" + f", label {label!r}" * labels + f", split {split!r}" * ("split" in columns)
            of = f" and the split one of {', '.join(SPLITS)}" if "split" in columns else ""
            raise FashionError(f"{path}, row {line}: {said}; each must be given{of}.")
        if "://" in name:
            raise FashionError(f"{path}, row {line}: {name} is an address; download the pictures and name their files.")
        below = _below(name, root)
        if below is None:
            raise FashionError(f"{path}, row {line}: {name} lies outside {root}; paths must stay below the table.")
        items.append(Item(below, class_name(label), SPLIT_NAMES[split], row))
    items = items if "split" in columns else all_judged(items)
    return Source(root, tuple(items), tuple(sorted({item.label for item in items} - {""})), "split" in columns)


def _below(name: str, root: Path) -> str | None:
    """The path relative to the root; None if it does not stay below it.

    It is judged as it is written: a folder on the way may be a link to elsewhere.
    """
    path = PurePath(name)
    if not path.is_absolute() and ".." not in path.parts:
        return name
    # Rare, and slow: an absolute path may lead to the root through a link.
    for whole in (Path(os.path.normpath(root / path)), (root / path).resolve()):
        if whole.is_relative_to(root):
            return whole.relative_to(root).as_posix() if path.is_absolute() else name
    return None


def _subset(source: Source, classes: Sequence[str]) -> Source:
    classes = [class_name(name) for name in classes]
    unknown = [name for name in classes if name not in source.class_names]
    if unknown:
        raise FashionError(f"data.classes names {unknown[0]!r}; the source has {briefly(source.class_names, CHOICES)}.")
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise FashionError(f"data.classes names a class twice: {briefly(twice)}.")
    items = tuple(item for item in source.items if item.label in classes)
    return replace(source, items=items, class_names=tuple(classes))
