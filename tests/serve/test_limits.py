"""What keeps a server alive: deadlines, places in the queue, rates, and one answer for each kind of bad request."""

import asyncio
import base64
import contextlib
import io
import json
import re
import socket
import struct
import zlib

import httpx
import pytest
from fastapi import Request
from PIL import Image
from uploads import KEY, jpeg, saved, scans, text, until_in_work

from fashion.benchmark.server import Server
from fashion.client import Client
from fashion.data.images import open_picture
from fashion.errors import FashionError
from fashion.serve import pictures
from fashion.serve.errors import ApiError
from fashion.serve.pictures import SIZES, rounded, store_picture, thumbnail_of
from fashion.serve.rates import Rates
from fashion.serve.schemas import Pictures
from fashion.serve.settings import Settings
from fashion.serve.uploads import counted, read_request

JSON = {"content-type": "application/json"}
ROUTES = [("POST", "/v1/search"), ("POST", "/v1/embed"), ("POST", "/v1/items"), ("PATCH", "/v1/items")]


def opened(server: Server, head: str, body: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(head.replace("\n", "\r\n").encode() + body)
    return connection


def upload(server: Server, method: str = "POST", path: str = "/v1/search", length: int = 1000) -> socket.socket:
    """A request whose body has only begun."""
    head = f"{method} {path} HTTP/1.1\nHost: localhost\nX-API-Key: open-sesame\nContent-Type: application/json\n"
    return opened(server, head + f"Content-Length: {length}\n\n", b"{")


def answer(connection: socket.socket) -> tuple[int, dict]:
    """Status and error of the one answer that comes before the server hangs up, or goes on waiting."""
    received = b""
    while not received.endswith(b"}"):
        part = connection.recv(4096)
        if not part:
            break
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_each_route_says_the_same_of_the_same_mistake(keyed_server, method, path):
    def code(**sent) -> tuple[int, str]:
        sent.setdefault("headers", {})
        response = httpx.request(method, keyed_server.url + path, **{**sent, "headers": sent["headers"] | KEY})
        return response.status_code, response.json()["error"]["code"]

    def chunks():
        for _ in range(30):
            yield bytes(10_000)

    assert code(content=chunks(), headers=JSON) == (413, "too_large")
    assert code(content=b"{", headers=JSON) == (400, "bad_json")
    assert code(content=b"x", headers={"content-type": "text/plain"}) == (415, "unsupported")
    assert code(json={}) == (422, "invalid")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_body_that_does_not_end_is_hung_up_on(hasty_server, method, path):
    with upload(hasty_server, method, path) as stalled:
        status, error = answer(stalled)
        assert (status, error["code"]) == (408, "too_slow")
        assert stalled.recv(1) == b""


@pytest.mark.parametrize("head", ["GET /healthz HTTP/1.1\nHost: localhost\nX-A: ", "\n\n", ""])
def test_a_head_that_does_not_end_is_hung_up_on(hasty_server, head):
    with opened(hasty_server, head) as stalled:
        received = stalled.recv(1000)
        assert received.startswith(b"HTTP/1.1 408 " if head.strip() else b"")
        assert received == b"" or stalled.recv(1000) == b""


@pytest.mark.parametrize("padding", ["?a={0} HTTP/1.1", " HTTP/1.1\nX: {0}", " HTTP/1.1{1}"])
def test_a_head_has_64_kilobytes(server, padding):
    """Also where it arrives in one piece, and in whatever part of it they are."""
    for size, expected in ((60_000, 200), (67_000, 431)):
        padded = "GET /healthz" + padding.format("x" * size, "\nX: y" * (size // 6))
        with opened(server, f"{padded}\nHost: localhost\nConnection: close\n\n") as connection:
            assert f" {expected} ".encode() in connection.recv(100)
    assert httpx.get(f"{server.url}/healthz").status_code == 200


@pytest.mark.parametrize(("second", "status"), [(f"GET /{'x' * 67_000} HTTP/1.1\n\n", 431), ("NONSENSE\n\n", 400)])
def test_requests_before_one_that_is_refused_are_answered(server, second, status):
    """All in one piece, so that none is answered yet when the last is refused."""
    valid = "GET /healthz HTTP/1.1\nHost: localhost\n\n"
    with opened(server, valid * 2 + second) as connection:
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    assert re.findall(rb"HTTP/1.1 (\d+) ", received) == [b"200", b"200", str(status).encode()]


def test_a_body_has_one_deadline_however_it_drips(hasty_server):
    """Each byte came in time, and the whole never did."""
    with upload(hasty_server, length=100_000) as dripping:
        dripping.settimeout(0.2)
        received = b""
        for _ in range(50):
            with contextlib.suppress(TimeoutError):
                received = dripping.recv(100)
                break
            dripping.sendall(b" ")
        assert b" 408 " in received


def test_a_place_is_taken_before_the_body_is_read(served_folder):
    """Two places: the third upload is sent away at once, and a place comes back when an upload ends."""
    settings = ("server.workers=1", "server.queue=1", "server.read_timeout_s=30", "server.api_key=open-sesame")
    with Server(served_folder, *settings) as server:
        with upload(server) as first, upload(server, path="/v1/items") as second:
            until_in_work(server.url, 2)
            with upload(server) as third:
                status, error = answer(third)
            assert (status, error["code"]) == (503, "busy")
            adding = httpx.post(f"{server.url}/v1/items", json={"items": []}, headers=KEY)
            assert (adding.status_code, adding.headers["retry-after"]) == (503, "1")
            first.close()
            until_in_work(server.url, 1)
            assert httpx.post(f"{server.url}/v1/search", files={"file": jpeg()}).status_code == 200
            second.close()
        until_in_work(server.url, 0)


def test_changes_that_wait_leave_places_to_searches(served_folder):
    settings = ("server.workers=1", "server.queue=3", "server.read_timeout_s=30", "server.api_key=open-sesame")
    with Server(served_folder, *settings) as server:
        with upload(server, path="/v1/items"), upload(server, path="/v1/items"):
            until_in_work(server.url, 2)
            adding = httpx.post(f"{server.url}/v1/items", json={"items": []}, headers=KEY)
            assert (adding.status_code, adding.headers["retry-after"]) == (503, "1")
            assert httpx.post(f"{server.url}/v1/search", files={"file": jpeg()}).status_code == 200
        until_in_work(server.url, 0)


def test_the_key_is_asked_for_before_anything_is_read(keyed_server):
    head = "POST /v1/items HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: 1000\n\n"
    with opened(keyed_server, head) as connection:
        assert answer(connection)[0] == 401
    strange = httpx.patch(f"{keyed_server.url}/v1/items", json={"items": []}, headers={"X-API-Key": "open sesame"})
    assert strange.json()["error"] == {
        "code": "wrong_key", "message": "Changes need the API key, in the header X-API-Key, and this is another."
    }  # fmt: skip
    assert httpx.patch(f"{keyed_server.url}/v1/items", content=b"{").status_code == 401


def png(width: int, height: int) -> bytes:
    """A head that promises so many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("picture", "status"),
    [
        (png(7000, 7000), 413),
        (png(20000, 20000), 413),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100000 1000\n%%EndComments\n", 422),
        (b"P6\n9000 9000\n255\n" + bytes(100), 422),
    ],
)
def test_only_pictures_of_known_formats_are_looked_into(server, picture, status):
    response = httpx.post(f"{server.url}/v1/search", json={"images": [base64.b64encode(picture).decode()]})
    assert response.status_code == status


def test_base64_and_heads_are_left_to_a_worker():
    """All other requests wait while the event loop decodes: 55 ms for seven megabytes."""

    async def receive() -> dict:
        return {"type": "http.request", "body": json.dumps({"images": ["?"]}).encode()}

    scope = {"type": "http", "method": "POST", "query_string": b"", "headers": [(b"content-type", b"application/json")]}
    pictures, _ = asyncio.run(read_request(Request(scope, receive), Settings(), Pictures))
    with pytest.raises(ApiError, match="not base64"):
        pictures()


def test_jpegs_count_for_what_decoding_them_takes():
    def pixels(data: bytes, longest: int | None = None) -> int:
        with Image.open(io.BytesIO(data)) as image:
            return counted(image, data, longest)

    assert pixels(saved("JPEG", (640, 480))) == 640 * 480 // 8
    for whole in (saved("JPEG", (640, 480), progressive=True), scans(640, 480), saved("PNG", (640, 480))):
        assert open_picture(whole).size == (640, 480)
        assert pixels(whole) == 640 * 480
    padded = saved("JPEG", (640, 480)).replace(b"\xff\xc0", b"\xff\xff\xc0")
    assert pixels(padded) == 640 * 480 // 8


@pytest.mark.parametrize(("size", "by"), [((3200, 2400), 2), ((900, 8000), 4), ((1599, 1599), 1), ((20000, 300), 8)])
def test_what_is_stored_is_decoded_no_larger_than_needed_and_counted_so(tmp_path, monkeypatch, size, by):
    data, seen = saved("JPEG", size), []
    thumbnail = Image.Image.thumbnail
    monkeypatch.setattr(Image.Image, "thumbnail", lambda self, box: (seen.append(self.size), thumbnail(self, box)))
    with Image.open(store_picture(data, tmp_path)) as stored:
        assert max(stored.size) == min(max(size), pictures.LARGEST)
    (decoded,) = seen
    with Image.open(io.BytesIO(data)) as image:
        share = counted(image, data, pictures.LARGEST)
    assert share == size[0] * size[1] // by
    assert decoded[0] * decoded[1] <= 1.02 * size[0] * size[1] / by**2


def test_thumbnails_have_few_sizes_and_large_ones_are_not_kept(server, tmp_path):
    assert {rounded(size) for size in range(16, 1025)} == set(SIZES)
    small, same, next_one = (httpx.get(f"{server.url}/v1/images/3?size={size}") for size in (65, 128, 129))
    assert small.headers["etag"] == same.headers["etag"] != next_one.headers["etag"]
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(size=(2000, 2000)))
    pictures._kept.cache_clear()
    for size in SIZES:
        assert thumbnail_of(path, size) == thumbnail_of(path, size)
    assert pictures._kept.cache_info().currsize == 3


def test_a_rate_is_each_addresss_own():
    rates = Rates(2)
    answers = [rates.refusal("a", now=0) for _ in range(12)]
    assert [answer is None for answer in answers] == [True] * 10 + [False] * 2  # five seconds' at once
    assert answers[-1] is not None
    assert (answers[-1].status, answers[-1].headers) == (429, {"Retry-After": "1"})
    assert rates.refusal("b", now=0) is None
    assert rates.refusal("a", now=0.5) is None
    assert rates.refusal("a", now=0.6) is not None
    assert len(rates.buckets) == 2


def test_a_quiet_address_saves_up_five_seconds_and_a_refusal_costs_nothing():
    rates = Rates(2)
    assert rates.refusal("a", now=0) is None
    answers = [rates.refusal("a", now=1000) for _ in range(12)]
    assert [one is None for one in answers] == [True] * 10 + [False] * 2
    assert rates.refusal("a", now=1000.5) is None  # one token came, and the two refusals took none
    slow = Rates(0.1)  # less than one in five seconds
    assert slow.refusal("a", now=0) is None
    assert slow.refusal("a", now=0).headers == {"Retry-After": "10"}


def test_the_address_that_was_quiet_longest_is_forgotten_first(monkeypatch):
    monkeypatch.setattr("fashion.serve.rates.ADDRESSES", 2)
    rates = Rates(0.2)  # one request, then wait
    assert [rates.refusal(name, now=0) is None for name in ("a", "b", "a", "c")] == [True, True, False, True]
    assert set(rates.buckets) == {"a", "c"}


def test_a_server_with_a_rate_limit_says_429(served_folder):
    with Server(served_folder, "server.rate_limit=0.5") as server, httpx.Client(base_url=server.url) as client:
        answers = [client.get("/v1/index") for _ in range(10)]
        for path in ("/healthz", "/readyz", "/metrics"):  # what watches the server is not refused
            assert client.get(path).status_code == 200
    assert {one.status_code for one in answers} == {200, 429}
    refused = next(one for one in answers if one.status_code == 429)
    assert refused.json()["error"]["code"] == "too_many_requests"
    assert int(refused.headers["retry-after"]) >= 1


def test_the_client_waits_for_as_long_as_it_is_told(served_folder):
    with Server(served_folder, "server.rate_limit=0.5") as server:
        client, hasty = Client(server.url), Client(server.url, patience=0)
        assert all(client.item(number)["id"] == number for number in range(3))  # two and a half of them at once
        with pytest.raises(FashionError, match="answered 429"):
            list(map(hasty.item, range(14)))


def test_numbers_too_large_in_a_filter_are_refused(server):
    body = {"images": [text(jpeg())], "filter": "id = 99999999999999999999"}
    assert httpx.post(f"{server.url}/v1/search", json=body).status_code == 422
