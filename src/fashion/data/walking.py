"""All files below a folder, through links too: pictures often lie on another disk."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

Place = tuple[int, int]
"""A folder's device and inode, the same by whatever path it is reached."""


def files_below(folder: Path) -> Iterator[Path]:
    """The files below `folder`, hidden files and folders left out, and catalogues and runs among them.

    Links are followed, except to a folder that the path came through already.  What may not be read is left out with a
    warning.
    """
    runs: list[Path] = []
    yield from _below(folder, frozenset([_place(folder)]), runs)
    if runs:
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        log.info("Left out, as runs or sweeps wrote what is there: %s%s", min(runs), more)


def _below(folder: Path, passed: frozenset[Place], runs: list[Path]) -> Iterator[Path]:
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except PermissionError:
        log.warning("%s may not be read; what it holds is left out.", folder)
        return
    for path in paths:
        try:
            if path.is_file():
                yield path
                continue
            place = path.is_dir() and not _is_catalogue(path) and _place(path)
        except PermissionError:
            log.warning("%s may not be read; it is left out.", path)
            continue
        if place and _is_run(path):
            runs.append(path)
        elif place and place not in passed:
            yield from _below(path, passed | {place}, runs)


def _is_run(folder: Path) -> bool:
    """Whether a run or a sweep wrote it, so its pictures are drawn from others."""
    return (folder / ".hydra/config.yaml").exists() or (folder / "multirun.yaml").exists()


def _is_catalogue(folder: Path) -> bool:
    """Whether task=index made it: the pictures in it were added by requests, and are items of it already.

    A copy may have lost the link to the current version.
    """
    versions = folder / "versions"
    return versions.is_dir() and (os.path.lexists(folder / "current") or any(versions.glob("[0-9]*/manifest.json")))


def _place(folder: Path) -> Place:
    found = folder.stat()
    return found.st_dev, found.st_ino
