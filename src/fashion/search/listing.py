"""What a catalogue's source holds now: pictures, what is said of them, and what their files are."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fashion.errors import FashionError
from fashion.files import sha256


@dataclass(frozen=True)
class Content:
    """What is noted of a picture's file: bytes, time of change, SHA-256."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Listing:
    """What the source holds now: N pictures below `root`, and `columns` of N values each.

    boxes: the part of each picture to look at, or None for all of it.  contents: what another machine noted of the
    files, which then are not read here.  made_from: the overrides that name this source to `task=index`, from any
    folder, for the commands in messages; empty: nothing is known of it.
    """

    root: Path
    paths: Sequence[Path]
    columns: Mapping[str, Sequence[Any]]
    boxes: Sequence[Sequence[float] | None] | None = None
    contents: Sequence[Content] | None = None
    made_from: Mapping[str, Any] = field(default_factory=dict)

    def external_ids(self) -> list[str]:
        """One a picture.

        Raises:
            FashionError: if one comes twice, or an item has none.
        """
        named = self.columns.get("external_id")
        given = named or [path.relative_to(self.root).as_posix() for path in self.paths]
        nameless = next((path for path, value in zip(self.paths, given, strict=True) if value in (None, "")), None)
        if nameless is not None:
            raise FashionError(
                f"{nameless} has no external_id; give it one, or leave that column out, and paths are taken."
            )
        ids = [str(value) for value in given]
        if len(set(ids)) != len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            if named is None:
                raise FashionError(
                    f"{self.root / twice} stands in more than one row; add a column external_id, with a name for each."
                )
            raise FashionError(f"external_id {twice!r} comes more than once in {self.root}; give each item its own.")
        return ids


def contents_of(paths: Sequence[Path], noted: Sequence[Content | None] | None = None) -> list[Content]:
    """What each picture's file is now.

    Args:
        noted: what was noted of each; a file that was not touched since is not read again.
    """

    def content(at: int) -> Content:
        before, stat = noted[at] if noted else None, _stat(paths[at])
        return before if before and (before.size, before.mtime_ns) == stat else Content(*stat, content_hash(paths[at]))

    def contents(start: int) -> list[Content]:
        return [content(at) for at in range(start, min(start + 256, len(paths)))]

    with ThreadPoolExecutor(4) as pool:
        return list(itertools.chain.from_iterable(pool.map(contents, range(0, len(paths), 256))))


def box_texts(listing: Listing) -> list[str]:
    """Each picture's box as text; empty for the whole picture."""
    return [box_text(box) for box in listing.boxes] if listing.boxes else [""] * len(listing.paths)


def content_hash(path: Path) -> str:
    """SHA-256 of the file; of an unreadable one, a value that no content and no other file has."""
    try:
        return sha256(path)
    except OSError:
        return f"unreadable {path}"


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def content_key(sha256: str, box: str = "") -> str:
    """What names a picture's content and the part of it that is embedded, given as text; in journals too."""
    return f"{sha256} {box}"


def box_of(text: str | None) -> tuple[float, ...] | None:
    """What a box's text says; None for the whole picture."""
    return tuple(float(value) for value in text.split()) if text else None


def box_text(box: Sequence[float] | None) -> str:
    return " ".join(f"{value:g}" for value in box) if box else ""
