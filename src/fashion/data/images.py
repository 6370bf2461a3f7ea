"""The one hardened picture loader: whatever the file is, out comes a small uint8 RGB array, or one clear sentence.

Training, indexing and serving all read pictures through `load_picture`, so a query is resized exactly as the
pictures that the model learned from.
"""

import contextlib
import io
import math
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from fashion.errors import FashionError

# Pillow's warnings of bombs and EXIF: MAX_PIXELS decides.  For the whole process: `catch_warnings` is not thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")

Picture = NDArray[np.uint8]
"""[3, H, W] uint8 RGB."""

Given = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""What callers may give for a picture: a path, a file's bytes, an open picture, its values."""

MAX_PIXELS = 64_000_000
"""Pictures with more pixels are refused before any is decoded; a 64-megapixel camera still fits."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""What may be decoded at all: Pillow knows formats that start other programs (EPS) or are seldom exercised."""

JPEGS = ("JPEG", "MPO")
"""What Pillow calls JPEGs; MPO: phones put a second picture behind the first, which is not looked at."""

DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    ArithmeticError,
    LookupError,
    TypeError,
    EOFError,
    struct.error,
    zlib.error,
)
"""Pillow's decoders raise many kinds of error on damaged files; each of them means just that."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""

BAND = 1 << 16
"""Values that are scaled at a time: all of a huge picture's as fractions would take up gigabytes."""


class BadPictureError(FashionError):
    """A picture that cannot be used; the message names the file and the reason."""


def load_picture(
    source: str | Path | bytes, size: int, box: Sequence[float] | None = None, centre: float = 1.0
) -> Picture:
    """Read one picture, upright, on white, as [3, size, size] uint8 RGB.

    The picture (or its middle) is stretched to a square, not cut to one: garments fill the frame, and their ends tell
    them apart.
    JPEGs are decoded at a reduced scale, never below twice `size` ("draft"), which is nearly twice as fast and
    changes values by 0.7 of 255 on average.

    Args:
        source: a path, or the bytes of a picture file.
        size: width and height of the result, pixels.
        box: (left, top, right, bottom) in pixels of the upright picture, to look at a part of it only.
        centre: the share of its width and of its height that is looked at, in the middle.

    Raises:
        BadPictureError: if the file is missing, is no picture, is damaged or truncated, or has too many pixels.
    """
    return squared(open_picture(source, draft=math.ceil(2 * size / centre), box=box), size, centre)


def as_picture(given: Given, size: int, centre: float = 1.0) -> Picture:
    """`load_picture` of a path, a file's bytes, a PIL image, or an array [H,W,3] (or [H,W]).

    Raises:
        BadPictureError: as for `load_picture`, or if the array is no picture.
    """
    if isinstance(given, str | Path | bytes):
        return load_picture(given, size, centre=centre)
    try:
        image = given if isinstance(given, Image.Image) else Image.fromarray(given)
    except (TypeError, ValueError, AttributeError) as error:
        raise BadPictureError(f"The array is no picture ({error}); give [height,width,3] of uint8.") from error
    return squared(upright(image), size, centre)


def squared(image: Image.Image, size: int, centre: float = 1.0) -> Picture:
    """The middle of an RGB picture, a share `centre` of its sides, stretched to [3, size, size] uint8."""
    left, top = (side * (1 - centre) / 2 for side in image.size)
    middle = (left, top, image.width - left, image.height - top)
    small = image.resize((size, size), Image.Resampling.BICUBIC, middle, reducing_gap=2.0)
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def open_picture(
    source: str | Path | bytes,
    draft: int | None = None,
    longest: int | None = None,
    box: Sequence[float] | None = None,
) -> Image.Image:
    """Decode one picture: upright by its EXIF orientation, mode RGB, transparency laid on white.

    Args:
        source: a path, or the bytes of a picture file.
        draft: decode a JPEG at the smallest scale that keeps both sides at least this long, pixels.
        longest: the same for the longer side only; overrides `draft`.
        box: (left, top, right, bottom) in pixels of the upright picture, to cut out of the picture at full size.

    Raises:
        BadPictureError: as for `load_picture`.
    """
    name = _name(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            least = None if draft is None else (draft, draft)
            if longest is not None:
                least = (longest, 1) if image.width > image.height else (1, longest)
            if least is not None and box is None and image.format in JPEGS:
                image.draft("RGB", least)
            image.load()
            return upright(image) if box is None else _cut(upright(image), box, name)
    except Image.DecompressionBombError:
        raise BadPictureError(
            f"{name} has more than the {MAX_PIXELS:,} pixels that are decoded; make it smaller."
        ) from None
    except FileNotFoundError:
        raise BadPictureError(f"{name}: no such file; check the path.") from None
    except IsADirectoryError:
        raise BadPictureError(f"{name} is a folder; name a picture in it.") from None
    except UnidentifiedImageError:
        raise BadPictureError(f"{name} is not a picture that can be read ({', '.join(FORMATS)}).") from None
    except (*DAMAGED, MemoryError) as error:
        raise BadPictureError(f"{name} is damaged ({error}); replace the file or leave it out.") from error


def _name(source: str | Path | bytes) -> str:
    return "The file" if isinstance(source, bytes) else str(source)


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says, if it can be read, mode RGB, transparency laid on white.

    What is so already is given back as it is: each copy of a picture of 40 megapixels is 160 MB.
    """
    turn = None
    with contextlib.suppress(*DAMAGED):
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return _rgb(image if turn is None else image.transpose(turn))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey of 16 bits and wider, or of 0…1, as 8 bits; Pillow's own conversion clips at 255 instead of scaling."""
    most = grey.max(initial=0)
    top = 65535.0 if most > 255 else 1.0 if most <= 1 and grey.dtype.kind == "f" else 255.0
    values, scaled = grey.reshape(-1), np.empty(grey.size, np.uint8)
    for at in range(0, grey.size, BAND):
        scaled[at : at + BAND] = (values[at : at + BAND].astype(np.float64) / top * 255).clip(0, 255)
    return scaled.reshape(grey.shape)


def _cut(image: Image.Image, box: Sequence[float], name: str) -> Image.Image:
    left, top, right, bottom = (round(value) for value in box)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
    if left >= right or top >= bottom:
        raise BadPictureError(f"{name}: the bbox {tuple(box)} holds no pixel of its {image.width}×{image.height}.")
    return image.crop((left, top, right, bottom))
