"""Mixed load for FASHION_SOAK seconds: bad pictures, changes, restarts.  Nothing crashes, grows or is lost."""

import io
import os
import random
import time

import httpx
import pytest
from PIL import Image

from fashion.benchmark.server import Server
from fashion.client import Client

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("FASHION_SOAK", "10"))


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (120, 90)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def pictures(dice: random.Random) -> tuple[bytes, set[int]]:
    """A picture file, or something that is none, and the statuses that may answer it."""
    good = encoded("JPEG")
    return dice.choice(
        [
            (good, {200}),
            (encoded("PNG"), {200}),
            (encoded("JPEG", "CMYK"), {200}),
            (encoded("TIFF", "I;16"), {200}),
            (good[: len(good) // 3], {422}),
            (b"<html><body>no picture</body></html>", {422}),
            (b"", {422}),
            (bytes(400_000), {413}),
            (encoded("PNG", "1", (6000, 6000)), {413}),  # a bomb: a few bytes, 36 million pixels
            (b"\x89PNG\r\n\x1a\n" + bytes(500), {422}),
        ]
    )


def test_mixed_load_and_restarts(served_folder):
    folder = served_folder
    options = ("server.api_key=open-sesame", "server.max_upload_mb=0.3", "server.max_pixels=30000000")
    dice, here, number = random.Random(0), set[str](), 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with Server(folder, *options) as server:
            client = Client(server.url, "open-sesame")
            known = {client.item(n)["external_id"] for n in ids(client)}
            assert here <= known  # what was acknowledged before the restart
            started, memory = time.monotonic(), None
            while time.monotonic() < min(end, started + max(SECONDS / 3, 3)):
                body, allowed = pictures(dice)
                response = httpx.post(f"{server.url}/v1/search", files={"file": body}, timeout=30)
                assert response.status_code in allowed, response.text
                assert httpx.get(f"{server.url}/healthz", headers={"X-Long": "x" * 9000}).status_code in (200, 400, 431)
                if dice.random() < 0.15:
                    number += 1
                    name = f"item{number}"
                    added = client.add({name: encoded("JPEG")}, {name: {"price": number}})
                    assert added["items"][0]["status"] == "added"
                    here.add(name)
                if here and dice.random() < 0.1:
                    gone = dice.choice(sorted(here))
                    assert client.delete(gone)["items"][0]["status"] == "deleted"
                    here.remove(gone)
                if memory is None and time.monotonic() > started + 2:
                    memory = server.memory_mb()
            if memory is not None:
                assert server.memory_mb() < 1.3 * memory
            if dice.random() < 0.5:
                server.process.kill()


def ids(client: Client) -> list[int]:
    answer = client.search(encoded("JPEG"), k=200)
    return [hit["id"] for hit in answer["hits"]]
