"""What tests send to a server."""

import base64
import io

from helpers import COLOURS
from PIL import Image

KEY = {"X-API-Key": "open-sesame"}
"""Of the fixture `keyed_server`."""


def jpeg(colour: str = "hat", size: tuple[int, int] = (60, 80)) -> bytes:
    return saved("JPEG", size, colour)


def saved(kind: str, size: tuple[int, int], colour: str = "hat", **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(buffer, kind, **options)
    return buffer.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()
