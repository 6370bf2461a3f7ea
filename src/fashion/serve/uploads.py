"""Pictures out of a request: multipart files, or JSON with base64."""

import io
from typing import Any, TypeVar

from fastapi import Request
from PIL import Image
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from fashion.data.images import FORMATS
from fashion.serve.bodies import content_type
from fashion.serve.errors import ApiError, bad_json
from fashion.serve.settings import Settings

Model = TypeVar("Model", bound=BaseModel)


async def read_request(request: Request, settings: Settings, json_model: type[Model]) -> tuple[list[bytes], Model]:
    """The pictures of a request, and its other values, checked by `json_model` in either form.

    A multipart request has files named `file` and a field for each further value; a JSON one is `json_model`.

    Raises:
        ApiError: 400, 415 or 422, saying what is wrong.
    """
    if request.query_params:
        name = next(iter(request.query_params))
        raise ApiError(422, "invalid", f"{name}: send it in the request's body; nothing of the address is read.")
    kind = content_type(request)
    if kind == "multipart/form-data":
        form = await request.form(max_files=settings.max_pictures, max_fields=20)
        files = [value for value in form.getlist("file") if isinstance(value, UploadFile)]
        if not files:
            raise ApiError(400, "no_picture", "The request has no file named `file`; send a picture.")
        pictures = [await file.read() for file in files]
        fields = {name: form.getlist(name) for name in form if name != "file"}
        twice = [name for name, given in fields.items() if len(given) > 1 or name == "images"]
        if twice:
            wrong = "send pictures as files named `file`" if twice[0] == "images" else "send it once"
            raise ApiError(422, "invalid", f"{twice[0]}: {wrong}.")
        given = {name: value for name, (value,) in fields.items() if value != ""}
        values = checked(json_model, given | {"images": ["-"]})
    elif kind == "application/json":
        values = checked(json_model, await request.body())
        pictures = values.decoded()  # type: ignore[attr-defined]
    else:
        raise ApiError(
            415, "unsupported", "Send multipart/form-data with a file named `file`, or JSON with base64 in `images`."
        )
    if len(pictures) > settings.max_pictures:
        raise ApiError(422, "too_many", f"At most {settings.max_pictures} pictures a request; send less.")
    for picture in pictures:
        check_pixels(picture, settings.max_pixels)
    return pictures, values


def checked(model: type[Model], content: bytes | dict[str, Any]) -> Model:
    """`content` as a `model`.

    Raises:
        ApiError: 422, naming the value.
    """
    try:
        return model.model_validate_json(content) if isinstance(content, bytes) else model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise bad_json(first["ctx"]["error"]) from None
        where = ".".join(str(part) for part in first["loc"]) or "the request"
        raise ApiError(422, "invalid", f"{where}: {first['msg']}.") from None


def check_pixels(picture: bytes, most: int) -> None:
    """Refuse a picture by the size that its head names, before it is decoded.

    Raises:
        ApiError: 413.  What is no picture passes: the loader says so.
    """
    if not picture:
        raise ApiError(422, "bad_picture", "The picture is empty; send a file that has content.")
    try:
        with Image.open(io.BytesIO(picture), formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:  # Pillow's own limit, from which on it tells no size
        raise ApiError(
            413, "too_many_pixels", f"The picture has far more pixels than the {most:,} that are read."
        ) from None
    except Exception:  # the loader names what is wrong
        return
    if width * height > most:
        raise ApiError(413, "too_many_pixels", f"The picture has {width}×{height} pixels; at most {most:,} are read.")
