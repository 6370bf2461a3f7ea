"""What tests send to a server."""

import base64
import io

import httpx
from helpers import COLOURS, until
from PIL import Image

KEY = {"X-API-Key": "open-sesame"}
"""Of the fixtures `keyed_server` and `hasty_server`."""


def jpeg(colour: str = "hat", size: tuple[int, int] = (60, 80)) -> bytes:
    return saved("JPEG", size, colour)


def saved(kind: str, size: tuple[int, int], colour: str = "hat", **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(buffer, kind, **options)
    return buffer.getvalue()


def scans(width: int, height: int) -> bytes:
    """A grey JPEG, not progressive, with a scan for each of its three components: libjpeg keeps it whole."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content

    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    frame = b"\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x03" + components
    head = b"\xff\xd8" + segment(0xDB, b"\x00" + b"\x01" * 64) + segment(0xC0, frame)
    # One code in each table, of one bit: "nothing differs".
    head += b"".join(segment(0xC4, kind + b"\x01" + bytes(15) + b"\x00") for kind in (b"\x00", b"\x10"))
    blocks = bytes(-(-2 * -(-width // 8) * -(-height // 8) // 8))
    return head + b"".join(segment(0xDA, bytes([1, at, 0, 0, 63, 0])) + blocks for at in (1, 2, 3)) + b"\xff\xd9"


def until_in_work(url: str, count: int) -> None:
    """Wait until the server at `url` has begun so many requests, or has no more left."""
    until(lambda: f"fashion_requests_in_work {count}.0" in httpx.get(f"{url}/metrics").text)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()
