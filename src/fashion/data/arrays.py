"""A split's decoded pictures as one memory-mapped uint8 array, kept on the disk; an epoch decodes nothing."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.data.images import BadPictureError
from fashion.data.loading import THREADS, keep_good, load_pictures
from fashion.data.sources import Item
from fashion.errors import FashionError
from fashion.files import locked, replacing, sha256, write_text

log = logging.getLogger(__name__)

LOADER_VERSION = 4
"""Raised whenever `load_picture` or the cache's files change, so that old caches are not used."""


@dataclass(frozen=True)
class PictureArray:
    """The readable pictures of one split, decoded.

    pictures: [N,3,S,S] uint8, memory-mapped.  labels: [N] int64.  items: N, in the same order.
    skipped: (path, reason) of what could not be read.  digest: of all files' names and contents.
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    items: tuple[Item, ...]
    skipped: tuple[tuple[str, str], ...]
    digest: str


ROLES = ("is_query", "is_gallery")
"""Columns that mark a picture as a query of an evaluation, or as part of its gallery."""


def without_repeats(items: Sequence[Item]) -> list[Item]:
    """The items, each (box of a) picture once under the same label.

    A repeat would count twice in training, and find itself in evaluations.  Catalogues have them, such as the sizes of
    a shoe with one photo.
    """
    first: dict[tuple[str, tuple[float, ...] | None, str], Item] = {}
    for item in items:
        before = first.setdefault((item.path, item.box, item.label), item)
        roles = {name: True for name in ROLES if _says_yes(item, name) and not _says_yes(before, name)}
        if roles:  # a picture may be a query in one row, and of the gallery in another
            first[item.path, item.box, item.label] = replace(before, extra=before.extra | roles)
    if len(first) < len(items):
        again = "%d of %d rows show a picture again that another row has with this label; they are left out."
        log.warning(again, len(items) - len(first), len(items))
    return list(first.values())


def _says_yes(item: Item, column: str) -> bool:
    return str(item.extra.get(column)).strip().lower() in ("true", "1", "1.0", "yes")


def where_true(array: PictureArray, column: str) -> PictureArray | None:
    """The pictures whose table says yes in `column` (`is_query`, `is_gallery`); None where it says so of none."""
    rows = np.flatnonzero([_says_yes(item, column) for item in array.items])
    return rows_of(array, rows) if len(rows) else None


def rows_of(array: PictureArray, rows: NDArray[np.int64]) -> PictureArray:
    """Some of the pictures, in memory."""
    items = tuple(array.items[int(row)] for row in rows)
    return replace(array, pictures=np.asarray(array.pictures[rows]), labels=array.labels[rows], items=items)


def picture_array(
    root: Path,
    items: Sequence[Item],
    class_names: Sequence[str],
    size: int,
    cache: Path,
    on_bad_image: str = "fail",
    centre: float = 1.0,
    contents: Sequence[str] | None = None,
) -> PictureArray:
    """Decode `items` once, as `load_picture` does, into a file that later calls map.

    Its name depends on the pictures' content, the size and `centre`.

    Args:
        contents: the items' `content_digests`, where they are known already.

    Raises:
        FashionError: if a picture cannot be read and `on_bad_image` is `fail`, or none can.
    """
    contents = content_digests(root, items) if contents is None else contents
    digest, key = _digests(items, contents, size, centre)
    folder = cache / "pictures" / key
    listed = folder / "skipped.json"
    whole = [listed, folder / "pictures.npy"]
    if not all(path.exists() for path in whole):
        with locked(folder / ".lock"):
            if not all(path.exists() for path in whole):  # another process may have been sooner
                _decode(root, items, size, centre, folder, on_bad_image)
    report = json.loads(listed.read_text(encoding="utf-8"))
    skipped = tuple((path, reason) for _, path, reason in report)
    left_out = {at for at, _, _ in report}
    if skipped and on_bad_image == "fail":
        path, reason = skipped[0]
        raise BadPictureError(
            f"{reason} ({len(skipped)} such pictures, {path} the first; data.on_bad_image=skip leaves them out)"
        )
    if skipped:
        log.warning("%d pictures cannot be read and are left out, %s the first.", len(skipped), skipped[0][0])
    kept = tuple(item for at, item in enumerate(items) if at not in left_out)
    numbers = {name: at for at, name in enumerate(class_names)}
    return PictureArray(
        np.load(folder / "pictures.npy", mmap_mode="r"),
        np.array([numbers[item.label] for item in kept], dtype=np.int64),
        kept,
        skipped,
        digest,
    )


def content_digests(root: Path, items: Sequence[Item]) -> list[str]:
    """What each item's file hashes to."""

    def content(item: Item) -> str:
        try:
            return sha256(root / item.path)
        except OSError as error:
            return f"unreadable: {error.strerror}"

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(content, items))


def _digests(items: Sequence[Item], contents: Sequence[str], size: int, centre: float) -> tuple[str, str]:
    """A digest of names and contents (what `data.digests` pins), and the cache's key, which knows the settings too."""
    lines = sorted(f"{item.path} {digest}" for item, digest in zip(items, contents, strict=True))
    settings = [LOADER_VERSION, size, centre, [(item.path, item.box) for item in items], lines]
    return (
        hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16],
        hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:24],
    )


def _decode(root: Path, items: Sequence[Item], size: int, centre: float, folder: Path, on_bad_image: str) -> None:
    from rich.progress import track

    skipped: list[tuple[int, str, str]] = []  # a table may name one picture twice, with another box
    with replacing(folder / "pictures.npy", "set cache_dir to a larger disk") as part:
        array = np.lib.format.open_memmap(part, "w+", np.uint8, (len(items), 3, size, size))
        with part.open("r+b") as file:  # reserved, as writing into the map on a full disk would kill the process
            os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
        count = 0
        decoded = load_pictures([root / item.path for item in items], size, [item.box for item in items], centre)
        shown = track(decoded, f"Decoding pictures at {size}×{size}", total=len(items))
        for _, picture in keep_good(
            shown, on_bad_image, lambda at, bad: skipped.append((at, items[at].path, str(bad))), "data.on_bad_image"
        ):
            array[count] = picture
            count += 1
        if not count:
            reason = f" ({skipped[0][2]})" if skipped else ""
            raise FashionError(
                f"None of the {len(items)} pictures below {root} can be read{reason}; check the data source."
            )
        array.flush()
        if count < len(items):
            _shorten(part, array, count)
        del array
    write_text(folder / "skipped.json", json.dumps(skipped))  # last: it says that the array beside it is whole


def _shorten(path: Path, array: np.memmap[Any, Any], count: int) -> None:
    """Make the file of a mapped array as long as its first rows, in place: it may be larger than the memory."""
    rows = array[:count]
    with path.open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(rows))
        assert file.tell() == array.offset  # NumPy leaves room for any number of rows
        file.truncate(array.offset + rows.nbytes)


def relabelled(array: PictureArray, column: str) -> tuple[PictureArray, NDArray[np.int64]]:
    """The same pictures numbered by the values of a column, such as `product_id`, and the class of each such number.

    Pictures whose value no other picture has are left out.

    Raises:
        FashionError: if a picture has no such value, one value is of two classes, or no two pictures share one.
    """
    values = [item.extra.get(column) for item in array.items]
    if any(value in (None, "") for value in values):
        raise FashionError(f"task.batches.by is {column!r}, and some training pictures have no such column.")
    names, numbers, counts = np.unique(np.array(values, dtype=str), return_inverse=True, return_counts=True)
    alone = counts[numbers] < 2
    if alone.all():
        raise FashionError(f"task.batches.by is {column!r}, and no two training pictures share one; leave it out.")
    if alone.any():
        log.warning("%d training pictures are left out: no other one has their %s.", alone.sum(), column)
        return relabelled(rows_of(array, np.flatnonzero(~alone)), column)
    class_of = np.zeros(len(names), np.int64)
    class_of[numbers] = array.labels
    mixed = np.flatnonzero(class_of[numbers] != array.labels)
    if len(mixed):
        raise FashionError(f"{column} {names[numbers[mixed[0]]]!r} is of two classes; give each class its own.")
    return replace(array, labels=numbers.astype(np.int64)), class_of
