"""All files below a folder, through links too: pictures often lie on another disk."""

import logging
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

Place = tuple[int, int]
"""What a folder is, by whatever path it was come to: its device and its number there."""


def files_below(folder: Path, besides: Path | None = None) -> Iterator[Path]:
    """The files below `folder`, hidden files and folders left out.

    Links are followed, except to a folder that the path came through already.  A folder that may not be read is left
    out with a warning.

    Args:
        besides: a folder that is left out too.
    """
    passed = [_place(one) for one in (folder, besides) if one is not None and one.is_dir()]
    return _below(folder, frozenset(passed))


def _below(folder: Path, passed: frozenset[Place]) -> Iterator[Path]:
    try:
        paths = list(folder.iterdir())
    except PermissionError:
        log.warning("%s may not be read; what it holds is left out.", folder)
        return
    for path in paths:
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and (place := _place(path)) not in passed:
            yield from _below(path, passed | {place})


def _place(folder: Path) -> Place:
    found = folder.stat()
    return found.st_dev, found.st_ino
