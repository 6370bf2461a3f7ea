"""Pictures that the server stores and shows: decoded ones only, under names that it makes itself."""

import io
import uuid
from functools import lru_cache
from pathlib import Path

from fashion.data.images import BadPictureError, open_picture
from fashion.files import replacing

LARGEST = 1600
"""Stored pictures are shrunk to this, pixels: they are looked at, and searched at 64×64."""


def store_picture(data: bytes, folder: Path) -> Path:
    """Decode an uploaded picture and keep what was decoded, as a JPEG under a new name in `folder`.

    Raises:
        BadPictureError: if it is none.
    """
    image = open_picture(data)
    image.thumbnail((LARGEST, LARGEST))
    path = folder / f"{uuid.uuid4().hex}.jpg"
    with replacing(path) as part:
        image.save(part, "JPEG", quality=92)
    return path


@lru_cache(maxsize=4096)
def thumbnail(path: Path, changed: int, size: int) -> bytes:
    """A JPEG of the picture, no side longer than `size`.

    Args:
        changed: the file's time of change, so that a new content is drawn anew.

    Raises:
        BadPictureError: if the file is gone or damaged.
    """
    image = open_picture(path, draft=size)
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def thumbnail_of(path: Path, size: int) -> bytes:
    """`thumbnail`, of the file as it is now."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise BadPictureError(f"The item's picture is gone ({error.strerror}).") from None
    return thumbnail(path, changed, size)
