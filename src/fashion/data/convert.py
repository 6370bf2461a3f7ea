"""Public datasets' own list files → the table that `data=table` reads."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fashion.data.splitting import share_of
from fashion.errors import FashionError
from fashion.files import replacing

Row = dict[str, Any]
COLUMNS = ("path", "label", "split", "product_id", "is_query", "is_gallery", "bbox")
VALIDATION = 0.1
"""Share of the training products held out to validate: neither dataset has a validation split."""


def convert(kind: str, root: Path, table: Path) -> int:
    """Write the table of a dataset; returns its number of rows.

    Paths in the table are relative to it, so it is best written into `root`.

    Args:
        kind: `inshop` (DeepFashion In-shop Clothes Retrieval) or `sop` (Stanford Online Products).
        root: the folder of the dataset's list files and pictures, which may be in folders of their own.

    Raises:
        FashionError: if a list file is missing or has another form, or the first picture is missing.
    """
    readers = {"inshop": read_inshop, "sop": read_sop}
    if kind not in readers:
        raise FashionError(f"format is {kind!r}; choose from {', '.join(readers)}.")
    rows = list(readers[kind](root))
    try:
        prefix = root.resolve().relative_to(table.resolve().parent)
    except ValueError:
        raise FashionError(f"{table} should lie in {root} or above it, since its paths are relative to it.") from None
    if rows:
        prefix /= _above(root, rows[0]["path"]).relative_to(root)
    with replacing(table) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "path": (prefix / row["path"]).as_posix()} for row in rows)
    return len(rows)


def read_inshop(root: Path) -> Iterator[Row]:
    """`list_eval_partition.txt` (image, item, train | query | gallery), and boxes from `list_bbox_inshop.txt`.

    The class is the category in a picture's path: img/WOMEN/Dresses/id_00000002/02_1_front.jpg.
    """
    boxes = {}
    for line, words in _lines(root, "list_bbox_inshop.txt", 7, required=False):
        if not all(word.isdigit() for word in words[3:]):
            raise FashionError(f"list_bbox_inshop.txt, line {line}: {words[3:]} should be four whole numbers.")
        boxes[words[0]] = " ".join(words[3:])
    for line, (path, item, status) in _lines(root, "list_eval_partition.txt", 3):
        parts = path.split("/")
        if status not in ("train", "query", "gallery") or len(parts) < 4:
            raise FashionError(f"list_eval_partition.txt, line {line}: {path} {status} is not of its form.")
        split = _split(item) if status == "train" else "test"
        label = f"{parts[1]} {parts[2]}".replace("_", " ").lower()
        yield {
            "path": path, "label": label, "split": split, "product_id": item,
            "is_query": status == "query", "is_gallery": status == "gallery", "bbox": boxes.get(path, ""),
        }  # fmt: skip


def read_sop(root: Path) -> Iterator[Row]:
    """`Ebay_train.txt` and `Ebay_test.txt`: image, product, kind, path; test pictures search each other."""
    for name, fixed in (("Ebay_train.txt", None), ("Ebay_test.txt", "test")):
        for line, (_, product, _, path) in _lines(root, name, 4):
            label = path.partition("_final")[0]
            if "/" not in path or not label:
                raise FashionError(f"{name}, line {line}: {path} is not of its form (chair_final/1_0.JPG).")
            yield {
                "path": path, "label": label, "split": fixed or _split(product), "product_id": product,
                "is_query": "", "is_gallery": "", "bbox": "",
            }  # fmt: skip


def _split(product: str) -> str:
    """All pictures of a product in one split, whatever else the dataset holds."""
    return "validation" if share_of(product) < VALIDATION else "train"


def _above(root: Path, picture: str) -> Path:
    """`root`, or the folder in it, that a list's path to a picture starts from: In-shop's are below Img/."""
    for folder in (root, *sorted(root.rglob("*/"))):
        if (folder / picture).is_file():
            return folder
    raise FashionError(f"{picture} is not in {root}; unpack the dataset's pictures there, too (In-shop's img.zip).")


def _lines(root: Path, name: str, width: int, required: bool = True) -> Iterator[tuple[int, list[str]]]:
    """(line number, words) of a list file, its count and header left out."""
    path = next(iter(sorted(root.rglob(name))), None) if root.is_dir() else None
    if path is None:
        if required:
            raise FashionError(f"{root} holds no {name}; name the folder of the unpacked dataset.")
        return
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = text.split()
        if len(words) == 1 and words[0].isdigit():
            continue
        if number <= 2 and words and words[0] in ("image_name", "image_id"):
            continue
        if words and len(words) != width:
            raise FashionError(f"{path}, line {number}: {len(words)} words, and there should be {width}.")
        if words:
            yield number, words
