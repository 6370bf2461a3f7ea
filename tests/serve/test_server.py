"""A real server, asked over HTTP: what it answers, what it refuses, and what it survives."""

import contextlib
import io
import json
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from helpers import until
from PIL import Image
from uploads import KEY, jpeg, saved, text, until_in_work

from fashion import VisualSearchEngine
from fashion.benchmark.server import Server
from fashion.client import Client
from fashion.errors import FashionError
from fashion.search.items import delete_items
from fashion.search.store import Store
from fashion.tasks.serve import free_socket


def test_a_search_is_the_engines(server, shop):
    engine = VisualSearchEngine(server.catalog)
    picture = shop / "hat/0.png"
    (expected,) = engine.search(picture, k=4)
    answer = httpx.post(f"{server.url}/v1/search", files={"file": picture.read_bytes()}, data={"k": 4}).json()
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected.hits]
    np.testing.assert_allclose(
        [hit["score"] for hit in answer["hits"]], [hit.score for hit in expected.hits], atol=1e-5
    )
    assert answer["predicted"]["label"] == expected.predicted
    assert answer["model"] == engine.encoder.fingerprint
    assert answer["catalog_version"] == 1
    assert answer["hits"][0]["payload"] == {"external_id": "hat/0.png"}
    as_json = httpx.post(f"{server.url}/v1/search", json={"images": [text(picture.read_bytes())], "k": 4}).json()
    assert as_json["hits"] == answer["hits"]


ENDLESS = {
    "one header": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"x"),
    "many headers": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n"),
    "trailers": (
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"X: y\r\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ENDLESS)
def test_headers_without_end_are_cut_off(server, what):
    start, more = ENDLESS[what]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(start)
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it hangs up while we are sending
            while sent < 4_000_000:
                connection.sendall(more * (20_000 // len(more)))
                sent += 20_000
                time.sleep(0.01)
        assert sent < 4_000_000


def test_requests_on_one_connection_have_their_own_heads(server):
    with httpx.Client(base_url=server.url) as client:
        for _ in range(3):
            assert client.post("/v1/search", content=bytes(150_000)).status_code == 415
            assert client.get("/healthz", headers={"X-Long": "x" * 30_000}).status_code == 200


def test_filters_thresholds_and_groups_reach_the_engine(server, shop):
    ask = {"images": [text((shop / "hat/0.png").read_bytes())], "k": 18}
    hits = httpx.post(f"{server.url}/v1/search", json={**ask, "filter": "label = 'shoes'"}).json()["hits"]
    assert {hit["label"] for hit in hits} == {"shoes"}
    assert len(hits) == 6
    hits = httpx.post(f"{server.url}/v1/search", json={**ask, "group_by": "label"}).json()["hits"]
    assert sorted(hit["label"] for hit in hits) == ["dress", "hat", "shoes"]
    hits = httpx.post(f"{server.url}/v1/search", json={**ask, "score_threshold": 0.99}).json()["hits"]
    assert all(hit["score"] >= 0.99 for hit in hits)
    more = httpx.get(f"{server.url}/v1/items/3/similar", params={"k": 2, "filter": "label != 'hat'"}).json()
    assert 3 not in [hit["id"] for hit in more["hits"]]
    assert len(more["hits"]) == 2


def test_hidden_columns_are_unknown(server):
    """Else a path could be found letter by letter."""
    url = f"{server.url}/v1/items/3/similar"
    asked = [
        {"filter": f}
        for f in ("path >= 'a'", "label = 'x' or origin = 'source'", "not file_size < 5", "sha256 is null")
    ]
    for values in (*asked, {"group_by": "path"}, {"group_by": "file_mtime_ns"}):
        answer = httpx.get(url, params=values)
        assert answer.status_code == 422
        assert "external_id, label" in answer.json()["error"]["message"]
    known = httpx.get(f"{server.url}/v1/index").json()["columns"]
    assert not {"path", "origin", "sha256", "file_size", "file_mtime_ns"} & set(known)
    assert len(httpx.get(url, params={"filter": "id < 2"}).json()["hits"]) == 2


def test_pictures_are_embedded_and_named(server, shop):
    client, picture = Client(server.url), shop / "dress/1.png"
    engine = VisualSearchEngine(server.catalog)
    np.testing.assert_allclose(client.embed(picture, picture)[1], engine.embed_image(picture), atol=1e-5)
    named = client.classify(picture)[0]
    assert [one["label"] for one in named] == [label for label, _ in engine.classify(picture)]
    assert sum(one["probability"] for one in named) == pytest.approx(1, abs=1e-4)


def test_items_are_found_by_their_owners_name(server, shop):
    client = Client(server.url)
    assert client.item("hat/1.png") == client.item(7)
    how = {"k": 3, "filter": "label != 'hat'", "fold_duplicates": True}
    answers = client.similar("hat/1.png", **how), client.similar(7, **how)
    assert answers[0]["hits"] == answers[1]["hits"]
    label, probability = VisualSearchEngine(server.catalog).classify(shop / "hat/1.png")[0]
    for answer in answers:
        assert answer["predicted"] == {"label": label, "probability": pytest.approx(probability, abs=1e-4)}
    for path in ("items", "similar"):
        gone = httpx.get(f"{server.url}/v1/{path}", params={"external_id": "A17"})
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "no_such_item")
        assert "A17" in gone.json()["error"]["message"]
    assert httpx.get(f"{server.url}/v1/similar").status_code == 422
    parameters = httpx.get(f"{server.url}/openapi.json").json()["paths"]["/v1/similar"]["get"]["parameters"]
    assert {one["name"]: one["required"] for one in parameters} == {
        "external_id": True, **dict.fromkeys(("k", "filter", "group_by", "score_threshold", "fold_duplicates"), False)
    }  # fmt: skip


def test_items_are_listed_part_by_part(server, monkeypatch):
    from fashion import client as module

    monkeypatch.setattr(module, "MOST_LISTED", 5)
    client = Client(server.url)
    assert list(client.items()) == [client.item(number) for number in range(18)]
    assert [item["id"] for item in client.items("label = 'hat'")] == list(range(6, 12))
    assert list(client.items("label = 'robe'")) == []
    url = f"{server.url}/v1/items"
    part = httpx.get(url, params={"after": 5, "limit": 6, "filter": "label = 'hat'"}).json()
    assert (len(part["items"]), part["after"], part["catalog_version"]) == (6, None, 1)
    assert httpx.get(url, params={"filter": ""}).json()["after"] is None
    for values, words in (
        ({"limit": 1001}, "limit"),
        ({"after": 10**30}, "after"),
        ({"filter": "path >= 'a'"}, "external_id, label"),
        ({"external_id": "hat/1.png", "limit": 5}, "limit: an external_id names one item"),
        ({"external": "x"}, "external"),
    ):
        answer = httpx.get(url, params=values)
        assert answer.status_code == 422
        assert words in answer.json()["error"]["message"]


def test_items_and_their_pictures_are_shown_by_id(server):
    item = httpx.get(f"{server.url}/v1/items/7").json()
    assert item["external_id"] == "hat/1.png"
    assert "sha256" not in item["payload"]
    response = httpx.get(f"{server.url}{item['image_url']}")
    image = Image.open(io.BytesIO(response.content))
    assert image.format == "JPEG"
    again = httpx.get(f"{server.url}{item['image_url']}", headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304
    index = httpx.get(f"{server.url}/v1/index").json()
    assert (index["items"], index["labels"]["shoes"], index["writable"]) == (18, 6, True)


@pytest.mark.parametrize(
    ("send", "status", "words"),
    [
        ({"files": {"file": b"no picture"}}, 422, "not a picture"),
        ({"files": {"file": b""}}, 422, "empty"),
        ({"files": {"other": b"x"}}, 400, "no file named `file`"),
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "multipart"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "not JSON"),
        ({"json": {"images": ["?"]}}, 422, "base64"),
        ({"json": {"images": []}}, 422, "images"),
        ({"json": {"images": [text(jpeg())], "k": 0}}, 422, "k"),
        ({"json": {"images": [text(jpeg())], "k": 5000}}, 422, "at most 200"),
        ({"json": {"images": [text(jpeg())], "kk": 5}}, 422, "kk"),
        ({"json": {"images": [text(jpeg())], "filter": "colour = 'red'"}}, 422, "colour"),
        ({"json": {"images": [text(jpeg())], "filter": "__import__('os')"}}, 422, "filter"),
        ({"json": {"images": ["?"] * 33}}, 422, "At most 32"),  # before any is decoded
        ({"files": [("file", jpeg())] * 33}, 422, "At most 32"),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_what_is_wrong(server, send, status, words):
    response = httpx.post(f"{server.url}/v1/search", **send)
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    assert words in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "path",
    ["/v1/items/99", f"/v1/items/{10**30}", "/v1/images/99", "/v1/items/99/similar", "/nothing", "/static/../app.py"],
)
def test_what_is_not_there_is_404(server, path):
    response = httpx.get(server.url + path)
    assert response.status_code == 404
    assert response.json()["error"]["code"]


def test_a_wrong_method_is_told_the_right_ones(server):
    for method, path, allowed in (
        ("PUT", "/v1/items", "DELETE, GET, HEAD, PATCH, POST"),
        ("POST", "/v1/images/3", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("POST", "/static/page.js", "GET, HEAD"),
        ("HEAD", "/v1/search", "POST"),
    ):
        response = httpx.request(method, server.url + path)
        assert (response.status_code, response.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/", "/healthz", "/docs", "/static/page.js", "/v1/index", "/v1/images/3"])
def test_a_head_is_a_get_without_its_body(server, path):
    got, headed = httpx.get(server.url + path), httpx.head(server.url + path)
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["content-length"] == str(len(got.content))


def test_health_metrics_and_documentation(server):
    assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{server.url}/readyz").json()["catalog_version"] == 1
    assert httpx.head(f"{server.url}/healthz").status_code == 200
    assert httpx.get(f"{server.url}/v1/index").status_code == 200
    metrics = httpx.get(f"{server.url}/metrics").text
    assert "fashion_catalog_items 18.0" in metrics
    for asked in ('method="GET",path="/healthz"', 'method="HEAD",path="/healthz"', 'method="GET",path="/v1/index"'):
        assert f'fashion_requests_total{{{asked},status="200"}}' in metrics
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert {"/v1/search", "/v1/embed", "/v1/classify", "/v1/items", "/v1/images/{number}"} <= document["paths"].keys()
    image = document["paths"]["/v1/images/{number}"]["get"]["responses"]
    assert list(image["200"]["content"]) == ["image/jpeg"]
    assert "content" not in image["304"]
    assert list(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == ["text/plain"]
    told = {name: set(operation["responses"]) for name, operation in document["paths"]["/v1/items"].items()}
    assert {"401", "403", "409", "503"} <= told["post"] == told["patch"] == told["delete"]
    assert told["get"] == {"200", "400", "404", "408", "413", "422", "429", "503"}
    assert "415" in document["paths"]["/v1/search"]["post"]["responses"]
    assert "refused" in document["components"]["schemas"]["ItemStatus"]["properties"]["status"]["enum"]
    for page in ("/", "/docs"):
        content = httpx.get(server.url + page).text
        assert not re.findall(r"""(?:src|href|url)\s*[=(:]\s*["']?(?:https?:)?//[^"')\s]+""", content)
    assert httpx.get(f"{server.url}/redoc").status_code == 404  # it would load a logo from elsewhere


def test_torch_is_not_in_the_process(server):
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "torch" not in maps
    assert "lightning" not in maps


def test_pages_of_other_hosts_and_sites_are_kept_out(server):
    for host in ("evil.example", "127.0.0.1.evil.example:80", "[", "localhost@evil.example"):
        strange = httpx.get(f"{server.url}/v1/index", headers={"Host": host})
        assert (strange.status_code, strange.json()["error"]["code"]) == (400, "bad_host")
    for host in ("localhost:8000", "LOCALHOST", "[::1]:8000"):
        assert httpx.get(f"{server.url}/v1/index", headers={"Host": host}).status_code == 200
    foreign = httpx.request(
        "DELETE", f"{server.url}/v1/items?external_id=hat/0.png", headers={"Origin": "http://evil.example"}
    )
    assert foreign.status_code == 403
    nonsense = httpx.request("DELETE", f"{server.url}/v1/items?external_id=hat/0.png", headers={"Origin": "http://["})
    assert nonsense.status_code == 403
    for proxied in ({"X-Forwarded-For": "203.0.113.9"}, {"Forwarded": "for=203.0.113.9"}, {"Via": "1.1 front"}):
        # A proxy on this machine asks for others, who have given no key.
        refused = httpx.request("DELETE", f"{server.url}/v1/items?external_id=hat/0.png", headers=proxied)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "read_only")
        assert httpx.get(f"{server.url}/v1/index", headers=proxied).status_code == 200
    headers = httpx.get(f"{server.url}/").headers
    assert "default-src 'self'" in headers["content-security-policy"]


def test_where_there_is_a_key_it_decides_whatever_page_sends_it(keyed_server):
    """Behind a proxy a page's own Origin is the proxy's name, while Host is 127.0.0.1."""
    page = {"Origin": "https://search.shop.example"}
    url = f"{keyed_server.url}/v1/items?external_id=nobody"
    assert httpx.delete(url, headers=page).status_code == 401
    assert httpx.delete(url, headers=page | KEY).json()["items"][0]["status"] == "unknown"


def test_items_come_and_go_with_the_key_only(keyed_server, tmp_path):
    url = f"{keyed_server.url}/v1/items"
    body = {"items": [{"external_id": "mine", "image": text(jpeg()), "columns": {"label": "hat", "price": 3}},
                      {"external_id": "bad", "image": text(b"no picture")}]}  # fmt: skip
    for headers in ({}, {"X-API-Key": "wrong-key"}, {"Authorization": "Bearer wrong"}):
        assert httpx.post(url, json=body, headers=headers).status_code == 401
    client = Client(keyed_server.url, "open-sesame")
    answer = httpx.post(url, json=body, headers=KEY).json()
    statuses = {item["external_id"]: item["status"] for item in answer["items"]}
    assert statuses == {"mine": "added", "bad": "refused"}
    number = next(item["id"] for item in answer["items"] if item["id"] is not None)
    assert client.item(number)["payload"]["price"] == 3
    assert Image.open(io.BytesIO(client.image(number))).format == "JPEG"
    hits = client.search(jpeg(), k=3, filter="price = 3")["hits"]
    assert [hit["id"] for hit in hits] == [number]
    stored = list((keyed_server.catalog / "pictures").iterdir())
    assert len(stored) == 1
    assert "mine" not in stored[0].name
    assert client.add({"mine": jpeg("dress")})["items"][0]["status"] == "replaced"
    assert [one["status"] for one in client.delete("mine", "nobody")["items"]] == ["deleted", "unknown"]
    with pytest.raises(FashionError, match="404.*no item"):
        client.item(number)


def test_limits(keyed_server):
    url = f"{keyed_server.url}/v1/search"
    assert httpx.post(url, files={"file": bytes(300_000)}).status_code == 413

    def chunks():
        for _ in range(30):
            yield bytes(10_000)

    assert httpx.post(url, content=chunks(), headers={"content-type": "application/json"}).status_code == 413
    large = httpx.post(url, files={"file": saved("PNG", (600, 600))})
    assert large.status_code == 413
    assert "600×600" in large.json()["error"]["message"]
    for kind, options, status in (("PNG", {}, 413), ("JPEG", {"progressive": True}, 413), ("JPEG", {}, 200)):
        picture = saved(kind, (400, 400), **options)
        assert httpx.post(url, files=[("file", picture)]).status_code == 200
        several = httpx.post(url, files=[("file", picture)] * 2)  # each is small enough, both together are not
        assert several.status_code == status
        assert status == 200 or "together" in several.json()["error"]["message"]
    strange = httpx.get(f"{keyed_server.url}/healthz", headers={"host": "elsewhere.example"})
    assert strange.status_code == 400
    metrics = httpx.get(f"{keyed_server.url}/metrics").text  # what was refused at the door counts too
    assert 'fashion_requests_total{method="GET",path="/healthz",status="400"} 1.0' in metrics
    assert 'fashion_requests_total{method="POST",path="/v1/search",status="413"} 5.0' in metrics


@pytest.mark.slow
def test_a_full_queue_says_so_at_once(served_folder):
    picture = jpeg(size=(490, 500))
    # So many clients on a busy machine may take long to send what they began.
    with Server(served_folder, "server.workers=1", "server.queue=1", "server.read_timeout_s=30") as server:

        def ask(_: int) -> tuple[int, dict]:
            response = httpx.post(f"{server.url}/v1/search", files={"file": picture}, timeout=30)
            return response.status_code, dict(response.headers)

        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(ask, range(240)))
        assert {status for status, _ in answers} == {200, 503}
        assert all(headers["retry-after"] for status, headers in answers if status == 503)
        assert ask(0)[0] == 200


def test_a_new_version_swaps_in_without_a_lost_request(keyed_server, bundle):
    statuses: list[int] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client() as client:
            while not done.is_set():
                statuses.append(client.post(f"{keyed_server.url}/v1/search", files={"file": jpeg()}).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    engine = VisualSearchEngine(bundle, keyed_server.catalog)
    for name in ("hat/0.png", "hat/1.png"):
        delete_items(engine, Store(keyed_server.catalog), [name])
    try:
        until(lambda: httpx.get(f"{keyed_server.url}/v1/index").json()["version"] == 3 and statuses)
    finally:
        done.set()
        asking.join()
    assert set(statuses) == {200}
    assert httpx.get(f"{keyed_server.url}/v1/index").json()["items"] == 16


def test_a_stop_finishes_what_is_running(keyed_server):
    """The request has arrived in part when the server is told to stop."""

    def closed() -> bool:
        with socket.socket() as another:
            return another.connect_ex(("127.0.0.1", keyed_server.port)) != 0

    body = json.dumps({"images": [text(jpeg())]}).encode()
    with socket.create_connection(("127.0.0.1", keyed_server.port)) as connection:
        head = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:10])
        until_in_work(keyed_server.url, 1)
        keyed_server.process.send_signal(signal.SIGTERM)
        until(closed)
        connection.sendall(body[10:])
        connection.settimeout(60)
        assert b" 200 " in connection.recv(100)
    assert keyed_server.process.wait(60) in (0, -signal.SIGTERM)  # uvicorn passes the signal on once it is done


def test_search_through_a_server_shows_what_a_local_one_does(run_here, server, shop, tmp_path, capsys):
    query = f"query={shop}/hat"
    run_here("task=search", f"catalog={server.catalog}", query, "k=3", out="local")
    printed = capsys.readouterr().out
    run_here("task=search", f"server={server.url}", query, "k=3", out="remote")
    assert "hat/0.png" in printed
    assert capsys.readouterr().out == printed
    local, remote = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("local", "remote"))
    assert len(remote) == 6
    for one, other in zip(local, remote, strict=True):
        assert one.keys() == other.keys()
        assert {name: one[name] for name in ("query", "predicted", "match")} == {
            name: other[name] for name in ("query", "predicted", "match")
        }
        for hit, same in zip(one["hits"], other["hits"], strict=True):
            assert hit.keys() == same.keys()
            assert (hit["rank"], hit["id"], hit["label"]) == (same["rank"], same["id"], same["label"])
            assert hit["path"] == f"{shop}/{same['path']}"
            assert same["item"] == {name: hit["item"][name] for name in ("id", "label", "external_id")}
    assert (tmp_path / "remote/results.png").exists()
    results = []
    for where in (f"catalog={server.catalog}", f"server={server.url}"):
        for like in ("like=3", "like=dress/3.png"):
            run_here("task=search", where, like, "k=2", out="like")
            results.append(capsys.readouterr().out)
    label, probability = VisualSearchEngine(server.catalog).classify(shop / "dress/3.png")[0]
    assert results[0].startswith(f"dress/3.png: {label} ({probability:.0%})\n")
    assert results == [results[0]] * 4
    with pytest.raises(FashionError, match="k is 500; this server gives at most 200 hits"):
        run_here("task=search", f"server={server.url}", query, "k=500")
    with pytest.raises(FashionError, match="does not answer"):
        run_here("task=search", "server=http://127.0.0.1:9", query)
    with pytest.raises(FashionError, match="should start with http"):
        Client("localhost:8000")


def test_an_item_without_its_picture_is_searched_with(run_here, keyed_server, capsys):
    client = Client(keyed_server.url, "open-sesame")
    number = client.add({"a": jpeg()})["items"][0]["id"]
    for path in (keyed_server.catalog / "pictures").iterdir():
        path.unlink()
    for where in (f"catalog={keyed_server.catalog}", f"server={keyed_server.url}"):
        for like in ("a", number):
            run_here("task=search", where, f"like={like}", "k=2", out="like")
            assert capsys.readouterr().out.startswith("a: its picture is gone\n")
            said = json.loads(Path("like/results.json").read_text())[0]
            assert (said["predicted"], said["probability"]) == (None, None)


def test_a_model_that_was_not_exported_is_not_served(run_here, run_folder, shop):
    run_here("task=index", f"encoder={run_folder}", f"pictures={shop}", "catalog=c")
    with pytest.raises(FashionError, match="task=export"):
        run_here("task=serve", "catalog=c")


def test_a_port_that_is_taken_is_said_before_anything_is_served(run_here, server, served_folder):
    with pytest.raises(FashionError, match=f"server.port={server.port} cannot be served .*choose another port"):
        run_here("task=serve", f"catalog={served_folder}", f"server.port={server.port}")


def test_small_answers_are_not_held_back():
    """asyncio sets TCP_NODELAY only where the protocol is named; without it an answer waits 40 ms for the client."""
    with free_socket("127.0.0.1", 0) as free:
        assert free.proto == socket.IPPROTO_TCP


def test_each_value_of_a_search_is_read_where_it_belongs(server):
    url = f"{server.url}/v1/search"
    picture = {"file": jpeg()}
    for request, words in (
        ({"params": {"k": 1}, "files": picture}, "k: send it in the request's body"),
        ({"files": picture, "data": {"images": "x"}}, "images: send pictures as files"),
        ({"files": picture, "data": {"k": ["1", "2"]}}, "k: send it once"),
    ):
        answer = httpx.post(url, **request)
        assert answer.status_code == 422, answer.text
        assert words in answer.json()["error"]["message"]
    for path, name in (
        ("items/0/similar?k=1&k=2", "k"), ("similar?k=1&external_id=a&k=2", "k"), ("items?limit=1&limit=2", "limit"),
        ("images/0?v=a&v=b", "v"),
    ):  # fmt: skip
        answer = httpx.get(f"{server.url}/v1/{path}")
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"]["message"] == f"{name}: send it once."
    for path in ("index", "items/0", "images/0"):  # of what no route reads nothing is said, be it sent once or twice
        for query in ("a=1", "a=1&a=2"):
            assert httpx.get(f"{server.url}/v1/{path}?{query}").status_code == 200
    packed = httpx.post(url, content=b"x", headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})
    assert packed.status_code == 415
    for answer in (
        httpx.post(url, files=picture, data={"k": 2, "filter": "", "group_by": ""}),
        httpx.get(f"{server.url}/v1/items/0/similar", params={"k": 2, "filter": "", "group_by": ""}),
    ):
        assert len(answer.json()["hits"]) == 2
    for name in ("k", "fold_duplicates"):
        answer = httpx.post(url, files=picture, data={name: ""})
        assert (answer.status_code, answer.json()["error"]["message"].split(":")[0]) == (422, name)


def test_addresses_of_pictures_change_with_their_content(keyed_server):
    client = Client(keyed_server.url, "open-sesame")
    number = client.add({"a": jpeg("dress")})["items"][0]["id"]
    before = client.item(number)["image_url"]
    assert client.add({"a": jpeg("hat")})["items"][0]["id"] == number
    after = client.item(number)["image_url"]
    assert before != after
    assert httpx.get(f"{keyed_server.url}{after}").content == client.image(number)
    assert client.search(jpeg("hat"), k=1, filter="external_id = 'a'")["hits"][0]["image_url"] == after


def test_what_is_known_already_is_not_sent_again(server):
    url = f"{server.url}{Client(server.url).item(0)['image_url']}"
    tag = httpx.get(url).headers["etag"]
    for given, status in ((f"W/{tag}", 304), (f'"x", {tag}', 304), ("*", 304), ('"x"', 200)):
        assert httpx.get(url, headers={"If-None-Match": given}).status_code == status
    for path in ("/", "/static/page.js"):
        assert httpx.get(f"{server.url}{path}").headers["cache-control"] == "no-cache"
    assert "frame-ancestors 'none'" in httpx.get(f"{server.url}/docs").headers["content-security-policy"]
    assert httpx.get(f"{server.url}/v1/index/").status_code == 404  # no way to an address behind the proxy


def test_the_index_says_what_a_page_needs(server):
    described = Client(server.url).index()
    assert described["max_k"] == 200
    assert described["unlabelled"] == 0
    assert {one["label"] for one in described["samples"]} == {"dress", "hat", "shoes"}
    assert httpx.get(f"{server.url}{described['samples'][0]['image_url']}").status_code == 200


def test_what_is_no_http_is_told_so_in_the_shape_of_all_errors(server):
    for sent, code in ((b"NONSENSE\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000, 431)):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.settimeout(10)
            raw.sendall(sent)
            answer = raw.recv(2000)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert f" {code} ".encode() in head
        assert json.loads(body)["error"]["message"]
