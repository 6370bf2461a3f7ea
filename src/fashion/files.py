"""Files and folders that appear whole or not at all, and what their content hashes to."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.errors import FashionError, OutageError

log = logging.getLogger(__name__)

UNWRITABLE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space"),
    **dict.fromkeys((errno.EACCES, errno.EROFS), "let this user write there"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "move away what is in its place"),
}
"""What the system answers where no space is left or allowed, or a folder cannot be written; and the way out."""


def _umask() -> int:
    os.umask(mask := os.umask(0o077))
    return mask


UMASK = _umask()
"""The process's umask, read once: it can only be read by setting it."""


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def replacing(path: Path, instead: str = "choose another place") -> Iterator[Path]:
    """A temporary file beside `path` (same suffix) that takes its place when the block ends well.

    Args:
        instead: what else than making room can be done, for the error.

    Raises:
        FashionError: if the disk is full or the folder cannot be written, or a folder or device is there already.
    """
    with explained(path, instead):
        if path.exists() and not path.is_file():  # a device, such as /dev/null, would be gone for the whole machine
            raise FashionError(f"{path} is a folder or a device, not a file; {instead}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    part = Path(name)
    try:
        with explained(path, instead):
            yield part
            part.chmod(0o666 & ~UMASK)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The file's content; None where it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_array(path: Path, array: NDArray[Any]) -> None:
    """`np.save`, whose own writing does not say why it failed.

    Raises:
        OSError: with the system's reason, such as a full disk.
    """
    whole = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
        file.write(whole.data)


def flush(path: Path) -> None:
    """Wait until the file or folder is on the disk, so that a power cut finds the old version or the new one."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which stays: one process (or thread) at a time, others wait.

    It is released if the process dies.

    Raises:
        FashionError: if the file cannot be made.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("Waiting for another process, which works on the same (%s)", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: each process for itself
            pass
        yield


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place, old content and all, when the block ends well.

    The swap is two renames; `recover_folder` mends what a kill between them leaves.

    Raises:
        FashionError: if the disk is full or the parent folder cannot be written.
    """
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-new-", dir=folder.parent))
    try:
        with explained(folder):
            yield part
            part.chmod(0o777 & ~UMASK)
            old = _old(folder)
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                folder.rename(old)
            part.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        recover_folder(folder)


def recover_folder(folder: Path) -> None:
    """Put the old content back where a swap was cut off between its two renames."""
    old = _old(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}-old")


@contextmanager
def explained(path: Path, instead: str = "choose another place") -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a sentence.

    Raises:
        OutageError: that says so.
    """
    try:
        yield
    except OSError as error:
        if error.errno in UNWRITABLE:
            raise OutageError(
                f"{path} could not be written ({error.strerror}); what was there before is unharmed; "
                f"{UNWRITABLE[error.errno]}, or {instead}."
            ) from error
        raise
