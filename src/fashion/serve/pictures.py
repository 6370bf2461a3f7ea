"""Pictures that the server stores and shows: decoded ones only, under names that it makes itself."""

import io
import uuid
from functools import lru_cache
from pathlib import Path

from fashion.data.images import BadPictureError, open_picture
from fashion.files import replacing

LARGEST = 1600
"""Stored pictures are shrunk to this, pixels: they are looked at, and searched at 64×64."""


SIZES = (64, 128, 256, 512, 1024)
"""Longer sides of what is shown, pixels."""

KEPT, LARGEST_KEPT = 2048, 256
"""So many thumbnails are cached, up to that size: 10 to 20 MB of photos, 120 MB if all of them were noise."""


def store_picture(data: bytes, folder: Path) -> Path:
    """Decode an uploaded picture and keep what was decoded, as a JPEG under a new name in `folder`.

    Raises:
        BadPictureError: if it is none.
    """
    image = open_picture(data, longest=LARGEST)
    image.thumbnail((LARGEST, LARGEST))
    path = folder / f"{uuid.uuid4().hex}.jpg"
    with replacing(path) as part:
        image.save(part, "JPEG", quality=92)
    return path


def reduced(side: int, longest: int) -> int:
    """By what factor a JPEG can be reduced as it is decoded: its longer side, `side` pixels, keeps `longest`."""
    return next(scale for scale in (8, 4, 2, 1) if scale == 1 or side >= scale * longest)


def rounded(size: int) -> int:
    """The next of a few sizes, pixels: each of a thousand would be drawn and kept by itself."""
    return next((one for one in SIZES if one >= size), SIZES[-1])


Box = tuple[float, ...] | None
"""The part of a picture that is looked at: left, top, right, bottom, pixels; None: all of it."""


def thumbnail(path: Path, size: int, box: Box = None) -> bytes:
    """A JPEG of that part of the picture, no side longer than `size`.

    Raises:
        BadPictureError: if the file is gone or damaged.
    """
    image = open_picture(path, longest=size, box=box)
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@lru_cache(maxsize=KEPT)
def _kept(path: Path, state: tuple[int, int], size: int, box: Box) -> bytes:
    """`thumbnail`; `state` is the file's, so that a new content is drawn anew."""
    return thumbnail(path, size, box)


def thumbnail_of(path: Path, size: int, box: Box = None) -> bytes:
    """`thumbnail`, of the file as it is now; small ones are kept."""
    state = state_of(path)
    return _kept(path, state, size, box) if size <= LARGEST_KEPT else thumbnail(path, size, box)


def state_of(path: Path) -> tuple[int, int]:
    """The file's bytes and time of change, which are others once its content is another.

    Raises:
        BadPictureError: if it is gone.
    """
    try:
        now = path.stat()
    except OSError as error:
        raise BadPictureError(f"The item's picture is gone ({error.strerror}).") from None
    return now.st_size, now.st_mtime_ns
