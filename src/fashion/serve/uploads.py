"""Pictures out of a request: multipart files, or JSON with base64."""

import io
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request
from PIL import Image
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser

from fashion.data.images import FORMATS, JPEGS, MAX_PIXELS
from fashion.serve.bodies import content_type_of
from fashion.serve.errors import ApiError, misfit
from fashion.serve.pictures import reduced
from fashion.serve.schemas import Pictures
from fashion.serve.settings import Settings

Model = TypeVar("Model", bound=Pictures)

MultiPartParser.spool_max_size = sys.maxsize  # no file on the disk: the whole body, which is limited, is in memory


async def read_request(
    request: Request, settings: Settings, json_model: type[Model]
) -> tuple[Callable[[], list[bytes]], Model]:
    """What gives the pictures of a request, and its other values, checked by `json_model` in either form.

    A multipart request has files named `file` and a field for each further value; a JSON one is `json_model`.

    Returns:
        A function that decodes base64 and looks into the pictures' heads, which takes its time: for a worker to call.
        It raises ApiError as well.

    Raises:
        ApiError: 400, 415 or 422, saying what is wrong.
    """
    check_address(request)
    content_type, files = content_type_of(request), None
    if content_type == "multipart/form-data":
        files, fields = await _read_form(request, settings.max_pictures)
        values = checked(json_model, fields | {"images": ["-"]})
    elif content_type == "application/json":
        values = checked(json_model, await request.body())
        check_count(len(values.images), settings.max_pictures)
    else:
        raise ApiError(
            415, "unsupported", "Send multipart/form-data with a file named `file`, or JSON with base64 in `images`."
        )

    def pictures() -> list[bytes]:
        found = values.decoded() if files is None else files
        check_pixels(found, settings.max_pixels)
        return found

    return pictures, values


def check_address(request: Request) -> None:
    """Refuse values in the address of a request that has a body.

    Raises:
        ApiError: 422.
    """
    if request.query_params:
        name = next(iter(request.query_params))
        raise ApiError(422, "invalid", f"{name}: send it in the request's body; nothing of the address is read.")


async def _read_form(request: Request, most: int) -> tuple[list[bytes], dict[str, Any]]:
    """A form's files, and its other fields."""
    try:
        form = await request.form(max_files=most, max_fields=20)
    except HTTPException as error:
        if str(error.detail).startswith("Too many files"):
            check_count(most + 1, most)
        raise
    files = [value for value in form.getlist("file") if isinstance(value, UploadFile)]
    if not files:
        raise ApiError(400, "no_picture", "The request has no file named `file`; send a picture.")
    fields = {name: form.getlist(name) for name in form if name != "file"}
    twice = [name for name, given in fields.items() if len(given) > 1 or name == "images"]
    if twice:
        wrong = "send pictures as files named `file`" if twice[0] == "images" else "send it once"
        raise ApiError(422, "invalid", f"{twice[0]}: {wrong}.")
    return [await file.read() for file in files], {name: value for name, (value,) in fields.items()}


def check_count(count: int, most: int) -> None:
    """Refuse too many pictures.

    Raises:
        ApiError: 422.
    """
    if count > most:
        raise ApiError(422, "too_many", f"At most {most} pictures a request; send less.")


def checked(model: type[Model], content: bytes | dict[str, Any]) -> Model:
    """`content` as a `model`.

    Raises:
        ApiError: 422, naming the value.
    """
    try:
        return model.model_validate_json(content) if isinstance(content, bytes) else model.model_validate(content)
    except ValidationError as error:
        raise misfit(error.errors()[0]) from None


def check_pixels(pictures: Sequence[bytes], most: int, longest: int | None = None) -> None:
    """Refuse pictures by the sizes that their heads name, before any is decoded.

    Args:
        most: pixels of all of them together, as `counted` counts them.
        longest: see `counted`.

    Raises:
        ApiError: 413; 422, if one is empty.  What is no picture passes: the loader says so.
    """
    total = 0
    for picture in pictures:
        if not picture:
            raise ApiError(422, "bad_picture", "The picture is empty; send a file that has content.")
        try:
            with Image.open(io.BytesIO(picture), formats=FORMATS) as image:
                size, count = f"{image.width}×{image.height}", counted(image, picture, longest)
        except Image.DecompressionBombError:  # above Pillow's own limit, where it tells no size
            size, count = "far too many", most + 1
        except Exception:  # the loader names what is wrong
            continue
        total += count
        if total > most:
            what = f"The picture has {size} pixels" if total == count else "The pictures have too many pixels together"
            raise ApiError(
                413, "too_many_pixels",
                f"{what}; a request may have {most:,}, for which a JPEG counts an eighth (unless it is progressive, of "
                f"several scans, or has more than {MAX_PIXELS:,}).",
            )  # fmt: skip


def counted(image: Image.Image, data: bytes, longest: int | None) -> int:
    """For how many pixels a picture counts that is open and not decoded.

    A JPEG is decoded at a half, a quarter or an eighth of its sides, which takes such a share of the time, and less
    memory.  One of several scans is kept whole until the last.

    Args:
        data: the picture's file.
        longest: the pixels that its longer side is to have at least; None: as few as a search looks at.
    """
    pixels = image.width * image.height
    if image.format not in JPEGS or pixels > MAX_PIXELS or not _is_of_one_scan(data):
        return pixels
    return pixels // (8 if longest is None else reduced(max(image.size), longest))


def _is_of_one_scan(jpeg: bytes) -> bool:
    """Whether the first scan has all components, and is not the first of a progressive file."""
    at, components = 2, -1
    while at + 10 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:
            return jpeg[at + 4] == components
        if marker in (0xC0, 0xC1):  # frames of one scan or several; all others, such as progressive ones, have several
            components = jpeg[at + 9]
        at += 2 + length
    return False
