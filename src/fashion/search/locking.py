"""One writer of a catalogue at a time."""

import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from fashion.errors import BusyError, OutageError
from fashion.files import explained

log = logging.getLogger(__name__)


@contextmanager
def only_writer(folder: Path, patience: float) -> Iterator[None]:
    """Hold the folder's lock, over all processes of this machine; released if the process dies.

    Args:
        patience: seconds to wait for another writer.

    Raises:
        BusyError: that names who holds it.
        OutageError: if the file system has no locks, or cannot be written.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+", encoding="utf-8")
    with lock:
        try:
            _take(lock, folder, patience)
        except BlockingIOError:
            lock.seek(0)
            raise BusyError(
                f"{folder} is being written by {lock.read().strip() or 'another process'}; wait until it is done, or "
                "stop it."
            ) from None
        except OSError as error:
            raise OutageError(
                f"{folder} cannot be locked ({error.strerror}), so two could write it at a time; put the catalogue on "
                "a file system that has locks."
            ) from error
        now = datetime.now(UTC).isoformat(timespec="seconds")
        note = f"process {os.getpid()} on {socket.gethostname()} since {now}\n"
        with suppress(OSError):  # it is for others' messages only; unbuffered, or closing would fail, too
            lock.truncate(0)
            os.write(lock.fileno(), note.encode())
        yield


def _take(lock: IO[str], folder: Path, patience: float) -> None:
    """Lock it, as soon as no other writer has it; raise BlockingIOError where patience ends."""
    end, said = time.monotonic() + patience, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise
        if not said:
            log.info("Waiting for another writer of %s", folder)
            said = True
        time.sleep(0.05)
