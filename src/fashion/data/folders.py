"""Which pictures a path, a pattern or a folder names, and which files in a folder are none that are read."""

import glob
import logging
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fashion.data.images import SUFFIXES
from fashion.data.walking import files_below
from fashion.errors import FashionError

log = logging.getLogger(__name__)

TABLES = (".csv", ".parquet", ".pq")

KINDS = 5
"""Kinds of files that are named; of more, the most frequent."""


def find_pictures(folder: Path) -> list[Path]:
    """All pictures below `folder` in sorted order, through links too, hidden ones left out; says what else lies there.

    Raises:
        FashionError: if there is no such folder, or no picture in it.
    """
    if folder.is_file():
        table = f"; a table is read with data=table data.source={folder}" if folder.suffix in TABLES else ""
        raise FashionError(f"{folder} is a file, and should be a folder of pictures{table}.")
    if not folder.is_dir():
        raise FashionError(f"{folder}: no such folder; check the path.")
    found: list[Path] = []
    others: list[Path] = []
    for path in files_below(folder):
        (found if path.suffix.lower() in SUFFIXES else others).append(path)
    found.sort()
    for path in found:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise FashionError(f"{str(path)!r} has a name that is not UTF-8; rename the file or its folder.") from None
    if others:
        log.info("%s: files of kinds that are not read: %s", folder, _counted(others))
    if not found:
        raise FashionError(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))}); name a folder that does.")
    return found


def expand(query: str | list[str], key: str = "query") -> list[Path]:
    """The pictures that `query`, the value of `key`, names: paths, patterns such as `shoes/*.jpg`, folders, in order.

    Raises:
        FashionError: if a pattern matches nothing or a folder holds no picture.
    """
    found: list[Path] = []
    for text in [query] if isinstance(query, str) else query:
        try:
            path = Path(text).expanduser()
            is_folder, exists = path.is_dir(), path.exists()
        except (OSError, RuntimeError) as error:  # ~user of an unknown user, or a name longer than any
            raise FashionError(f"{key}={text[:80]} is no path ({error!s:.80}); check it.") from None
        if is_folder:
            found += find_pictures(path)
        elif exists or not glob.has_magic(text):
            found.append(path)
        else:
            matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 — an absolute pattern is fine too
            if not matches:
                raise FashionError(f"{key}={text} matches no file; check the path.")
            found += map(Path, matches)
    return found


def class_name(label: str) -> str:
    """The label in Unicode's NFC: what looks the same is one class, also where macOS wrote accents apart."""
    return unicodedata.normalize("NFC", label)


def _counted(paths: Sequence[Path]) -> str:
    """How many there are of each suffix: "2 .avif, 1 without a suffix"."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    kinds = sorted(counts, key=lambda kind: (-counts[kind], kind))
    named = [f"{counts[kind]} {kind}" for kind in kinds[:KINDS]]
    more = sum(counts[kind] for kind in kinds[KINDS:])
    return ", ".join(named + ([f"{more} others"] if more else []))
