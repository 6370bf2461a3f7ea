"""The client says in one sentence what is wrong, whatever is at the other end of the line."""

import io
import json
import socket
import threading
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from uploads import jpeg, saved

from fashion import client as client_module
from fashion import connection
from fashion.client import Client
from fashion.connection import TooLargeError
from fashion.errors import FashionError


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of something that answers each connection with these bytes."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer_all() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

    threading.Thread(target=answer_all, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()


def page(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(content) + content


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (page(b"<html>hello</html>"), "not as task=serve does"),
        (page(b"[1, 2]"), "not as task=serve does"),
        (page(b'{"classes": 3}'), "not as task=serve does"),
        (b"", r"does not answer \(Remote end closed connection without response\)"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nhelp", "answered 502: Bad Gateway"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhelp", "does not speak HTTP"),
    ],
)
def test_something_else_answers(run_here, answer, words):
    with answering(answer) as url, pytest.raises(FashionError, match=words):
        run_here("task=search", f"server={url}", "query=x.jpg")


@pytest.mark.parametrize("status", [301, 302, 307])
def test_nothing_is_sent_on_to_another_address(status):
    """As a GET it would be answered as if the change had been made, and the key would be told."""
    asked: list[str] = []

    class Moved(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(status)

        def do_GET(self) -> None:
            self.answer(200 if self.path.startswith("/new") else status)

        def answer(self, code: int) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(code)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/new{self.path}")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Moved) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        client = Client(f"http://127.0.0.1:{server.server_port}", "open-sesame")
        for ask in (client.index, lambda: client.add({"a": jpeg()})):
            with pytest.raises(FashionError, match=r"/v1/\w+ sends on to http://127.0.0.1:\d+/new/v1/\w+; use"):
                ask()
        server.shutdown()
    assert asked == ["GET /v1/index", "POST /v1/items"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80a", "http://[", "http://", "127.0.0.1:8000", "ftp://x", "http://:80"]
)
def test_what_is_no_address(url):
    with pytest.raises(FashionError, match="^server is "):
        Client(url)


def test_a_key_that_cannot_be_sent():
    for key in ("abc\n", "Schlüssel€"):
        with pytest.raises(FashionError, match="api_key") as caught:
            Client("http://127.0.0.1:8000", key)
        assert key not in str(caught.value)


def test_columns_that_cannot_be_sent(server):
    client = Client(server.url)
    with pytest.raises(FashionError, match="column 'since' of 'a' is datetime.date"):
        client.add({"a": jpeg()}, {"a": {"since": date(2026, 1, 1)}})
    with pytest.raises(FashionError, match="columns has 'b', which is none of the items"):
        client.add({"a": jpeg()}, {"b": {"price": 1}})
    with pytest.raises(FashionError, match="cannot be sent as JSON"):
        client.add({b"a": jpeg()})  # type: ignore[dict-item]


def test_pictures_are_sent_as_they_are(keyed_server):
    """Base64 would make this one larger than the server's 0.2 MB."""
    client, large = Client(keyed_server.url), saved("BMP", (240, 240))
    assert len(large) < 200_000 < len(large) * 4 / 3
    how = {
        "filter": "label = 'hat' or label = '“é”'",
        "group_by": None,
        "score_threshold": -0.5,
        "fold_duplicates": True,
    }
    assert {hit["label"] for hit in client.search(large, k=3, **how)["hits"]} == {"hat"}
    assert len(client.classify(large)) == len(client.embed(large)) == 1


def test_what_a_search_cannot_be_asked(server):
    client = Client(server.url)
    for how in ({"together": True}, {"filter": date(2026, 1, 1)}, {"fold_duplicates": 1}, {"k": 1.5}):
        with pytest.raises(FashionError, match=f"answered 422: .*{next(iter(how))}"):
            client.search(jpeg(), **how)
    with pytest.raises(FashionError, match="answered 400: .*send a picture"):
        client.embed()
    for ask in (client.search, client.similar):
        with pytest.raises(FashionError, match="filter is '.udcff', which no server can read"):
            ask(jpeg() if ask == client.search else "hat/0.png", filter="\udcff")


def test_names_to_delete_come_one_by_one():
    with pytest.raises(FashionError, match="give them one by one"):
        Client("http://127.0.0.1:1").delete(["A1"])  # type: ignore[arg-type]


def test_a_picture_that_is_too_large_is_refused_by_itself(keyed_server):
    client, large = Client(keyed_server.url, "open-sesame"), saved("BMP", (300, 300))
    assert len(large) > 200_000  # the server's limit
    pictures = {f"A{at}": large if at == 2 else jpeg() for at in range(5)}
    answer = client.add(pictures)
    assert [one["status"] for one in answer["items"]] == ["added", "added", "refused", "added", "added"]
    assert answer["items"][2]["external_id"] == "A2"
    assert "answered 413" in answer["items"][2]["message"]
    assert answer["catalog_version"] == client.index()["version"]
    alone = client.update({}, {"A1": large})
    assert [one["status"] for one in alone["items"]] == ["refused"]
    assert alone["catalog_version"] == answer["catalog_version"]


def test_no_change_at_all_is_none(keyed_server):
    client = Client(keyed_server.url)  # not even a key is needed
    for answer in (client.add({}), client.update({}), client.delete()):
        assert answer == {"items": [], "catalog_version": 1}


class Noted:
    """Stands for the connection: notes what is asked, and answers as a server that takes so many items at once."""

    def __init__(self, most: int = 1_000_000):
        self.most, self.version = most, 1
        self.asked: list[tuple[str, str, list[str]]] = []

    def answer(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> dict[str, Any]:
        found = parse_qs(urlsplit(path).query)
        items = [one["external_id"] for one in json.loads(body)["items"]] if body else found.get("external_id", [])
        self.asked.append((method, path, items))
        if len(items) > self.most:
            raise TooLargeError("answered 413")
        self.version += 1
        if "after" in found:
            first = int(found["after"][0]) + 1
            return {"items": [{"id": first}], "after": first if first < 2 else None}
        return {"items": [{"external_id": name} for name in items], "catalog_version": self.version}


def noted(most: int = 1_000_000) -> tuple[Client, Noted]:
    client, notes = Client("http://127.0.0.1:1"), Noted(most)
    client.connection = notes  # type: ignore[assignment]
    return client, notes


def test_requests_have_as_many_items_as_a_server_takes():
    names = [f"A{at}" for at in range(70)]
    for ask, sizes in (
        (lambda client: client.add(dict.fromkeys(names, b"x")), [32, 32, 6]),
        (lambda client: client.update({name: {"price": 1} for name in names}), [70]),
        (lambda client: client.update({names[0]: {"price": 1}}, dict.fromkeys(names, b"x")), [32, 32, 6]),
        (lambda client: client.delete(*names), [70]),
    ):
        client, notes = noted()
        answer = ask(client)
        assert [len(items) for _, _, items in notes.asked] == sizes
        assert [one["external_id"] for one in answer["items"]] == names
        assert answer["catalog_version"] == notes.version  # that of the last


def test_requests_are_as_long_as_a_server_takes(monkeypatch):
    monkeypatch.setattr(client_module, "LONGEST_QUERY", 50)  # three of 15 letters
    monkeypatch.setattr(client_module, "LONGEST_BODY", 300)
    client, notes = noted()
    client.delete("A11", "A12", "A13", "A14", "A15", "A16", "A17")
    client.update({"B1": {"text": "x" * 200}, "B2": {"text": "y" * 400}, "B3": {"text": ""}, "B4": {"text": ""}})
    assert [len(items) for _, _, items in notes.asked] == [3, 3, 1, 1, 1, 2]


def test_requests_that_are_too_long_are_halved_and_no_item_is_lost():
    client, notes = noted(most=3)
    names = [f"A{at}" for at in range(11)]
    answer = client.add(dict.fromkeys(names, b"x"))
    assert [one["external_id"] for one in answer["items"]] == names
    assert answer["catalog_version"] == notes.version


def test_names_are_sent_as_they_are_whatever_is_in_them():
    strange = ["a&b=c", "50% + 1", "#é/ü?"]
    client, notes = noted()
    client.delete(*strange)
    for name in strange:
        client.item(name)
        client.similar(name, k=3)
    assert [items for _, _, items in notes.asked] == [strange, *([name] for name in strange for _ in range(2))]


def test_items_are_listed_to_the_last():
    client, _ = noted()
    assert [item["id"] for item in client.items()] == [0, 1, 2]


def refusals(monkeypatch: pytest.MonkeyPatch, status: int, retry_after: str) -> tuple[list[float], str]:
    """How long the client waited before a server that is busy twice, and what it said or got."""
    waited: list[float] = []
    answers = iter([status, status, 200])

    def opened(request: Any, timeout: float) -> Any:
        code = next(answers)
        if code == 200:
            return io.BytesIO(b'{"a": 1}')
        headers = Message()
        headers["Retry-After"] = retry_after
        raise urllib.error.HTTPError(request.full_url, code, "Busy", headers, io.BytesIO())

    monkeypatch.setattr(connection._OPENER, "open", opened)
    monkeypatch.setattr(connection.time, "sleep", waited.append)
    try:
        return waited, str(Client("http://127.0.0.1:1/").index())
    except FashionError as error:
        return waited, str(error)


def test_a_busy_server_is_asked_again_when_it_says_and_within_patience(monkeypatch):
    for status in (429, 503):
        assert refusals(monkeypatch, status, "3") == ([3, 3], "{'a': 1}")
    assert refusals(monkeypatch, 503, "0") == ([0.5, 0.5], "{'a': 1}")  # not at once, over and over
    for status, retry_after in ((503, "21"), (503, "soon"), (500, "1")):
        assert refusals(monkeypatch, status, retry_after) == ([], f"http://127.0.0.1:1 answered {status}: Busy")
