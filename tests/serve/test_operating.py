"""What those who run a server need: pages of other sites, proxies, logs, figures, rights."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from browser import needs_browser, page
from helpers import until
from uploads import KEY, jpeg

from fashion.benchmark.server import Server
from fashion.client import Client
from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.serve.app import create_app
from fashion.serve.describing import image_url
from fashion.serve.settings import Settings
from fashion.tasks.serve import make_service


@contextmanager
def proxied(server: Server, path: str) -> Iterator[str]:
    """The address of a proxy that shows the server below `path`, and takes that off what it asks for."""

    class Passing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(f"{path}/"):
                self.send_error(404)
                return
            sent = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = httpx.request(
                self.command, server.url + self.path.removeprefix(path), headers=sent, content=content
            )
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *said: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Passing) as proxy:
        threading.Thread(target=proxy.serve_forever).start()
        yield f"http://127.0.0.1:{proxy.server_port}{path}"
        proxy.shutdown()


@pytest.fixture
def below(served_folder) -> Iterator[tuple[Server, str]]:
    """A server, and where its proxy shows it."""
    settings = ("server.root_path=/find", "server.api_key=open-sesame")
    with Server(served_folder, *settings) as server, proxied(server, "/find") as address:
        yield server, address


def test_a_server_lives_below_a_path(below):
    server, address = below
    found = Client(address).search(jpeg(), k=1)["hits"][0]
    assert found["image_url"].startswith("/find/v1/images/")
    for item in (found, Client(address).item(found["id"]), Client(address).index()["samples"][0]):
        assert httpx.get(address.removesuffix("/find") + item["image_url"]).status_code == 200
    documentation = httpx.get(f"{address}/docs")
    assert "'unsafe-inline'" in documentation.headers["content-security-policy"]
    assert "'/find/openapi.json'" in documentation.text
    assert httpx.get(f"{address}/openapi.json").json()["servers"] == [{"url": "/find"}]
    assert httpx.put(f"{server.url}/v1/items").headers["allow"] == "DELETE, GET, HEAD, PATCH, POST"
    assert httpx.delete(f"{address}/v1/items?external_id=nobody", headers=KEY).status_code == 200
    assert httpx.get(f"{server.url}/healthz").status_code == 200  # as what watches it asks, beside the proxy
    metrics = httpx.get(f"{address}/metrics").text
    assert 'path="/v1/search"' in metrics
    assert "/find" not in metrics


@needs_browser
@pytest.mark.slow
def test_the_page_works_below_a_path(below, shop):
    with page() as opened:
        opened.goto(f"{below[1]}/")
        opened.wait_for_selector("#sample-list img")
        opened.set_input_files("#file", str(shop / "hat/0.png"))
        opened.wait_for_function("document.querySelectorAll('#hits li').length == 12")
        opened.wait_for_function(
            "[...document.querySelectorAll('#hits img')].every(one => one.complete && one.naturalWidth)"
        )
        opened.goto(f"{below[1]}/?item=7")
        opened.wait_for_function("document.querySelector('#query').naturalWidth")
        opened.click("footer a")
        opened.wait_for_selector(".opblock")


@pytest.mark.parametrize("path", ["find", "/find/", "/f nd"])
def test_a_root_path_that_is_none_is_refused(run_here, served_folder, path):
    with pytest.raises(FashionError, match=f"root_path.*'{path}' is no path"):
        run_here("task=serve", f"catalog={served_folder}", f"server.root_path='{path}'")


def test_the_log_tells_of_changes_refusals_and_the_end(served_folder):
    with Server(served_folder, "server.api_key=open-sesame", "server.access_log=true") as server:
        client = Client(server.url, "open-sesame")
        client.add({"a": jpeg(), "bad": b"no picture"})
        client.update({"a": {"price": 3}})
        client.delete("a", "nobody")
        proxied = KEY | {"X-Forwarded-For": "203.0.113.9"}
        assert httpx.delete(f"{server.url}/v1/items?external_id=nobody", headers=proxied).status_code == 200
        assert httpx.delete(f"{server.url}/v1/items?external_id=a", headers={"X-API-Key": "wrong"}).status_code == 401
        server.process.terminate()
        server.process.wait(40)
        server.log.seek(0)
        said = server.log.read().decode()
    for line in (
        "127.0.0.1 changed the catalogue: 1 added, 1 refused; version 2, ",
        "127.0.0.1 changed the catalogue: 1 changed; version 3, ",
        "127.0.0.1 changed the catalogue: 1 deleted, 1 unknown; version 4, ",
        "203.0.113.9 changed the catalogue: 1 unknown; version 4, ",
        "127.0.0.1 was refused DELETE /v1/items: Changes need the API key",
        '"PATCH /v1/items HTTP/1.1" 200',
        "The server has stopped",
    ):
        assert line in said
    assert "open-sesame" not in said


def test_only_trusted_proxies_say_for_whom_they_ask(served_folder):
    """To others each address would be a quiet one, which no rate limit holds."""

    def statuses(trusted: str) -> set[int]:
        with Server(served_folder, "server.rate_limit=1", f"server.trusted_proxies={trusted}") as server:
            asked = [{"X-Forwarded-For": f"203.0.113.{at}"} for at in range(12)]
            return {httpx.get(f"{server.url}/v1/index", headers=one).status_code for one in asked}

    assert statuses("[127.0.0.0/8]") == {200}
    assert statuses("[172.16.0.0/12,192.168.0.1]") == {200, 429}


def test_a_proxy_that_is_no_address_is_refused(run_here, served_folder):
    with pytest.raises(FashionError, match=r"trusted_proxies.*172\.18\.0\.1/16 has host bits set"):
        run_here("task=serve", f"catalog={served_folder}", "server.trusted_proxies=[172.18.0.1/16]")


def test_figures_are_enough_for_an_alarm(served_folder):
    """When the catalogue is old or cannot be used, memory runs out, or one method fails."""
    began = time.time()
    with Server(served_folder, "server.reload_s=0.1") as server:
        client = Client(server.url)
        client.delete("hat/0.png")
        assert httpx.request("PROPFIND", f"{server.url}/healthz").status_code == 405
        stranger = Catalog.open(served_folder)
        stranger.fingerprint = "another"
        stranger.write(served_folder)
        until(lambda: client.index()["unused_version"])
        figures = {}
        for line in httpx.get(f"{server.url}/metrics").text.splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                figures[name] = float(value)
        created = client.index()["created"]
    assert (figures["fashion_catalog_version"], figures["fashion_unused_version"]) == (2, 3)
    assert began - 1 <= figures["fashion_catalog_created_seconds"] <= time.time()
    assert figures["fashion_catalog_created_seconds"] == datetime.fromisoformat(created).timestamp()
    assert figures["process_resident_memory_bytes"] > 1e7
    assert figures['fashion_requests_total{method="DELETE",path="/v1/items",status="200"}'] == 1
    assert figures['fashion_request_seconds_count{method="DELETE",path="/v1/items"}'] == 1
    assert 'fashion_request_seconds_count{method="other",path="/healthz"}' in figures


def test_a_catalogue_that_the_server_may_not_write_is_read_only(served_folder):
    served_folder.chmod(0o555)
    if os.access(served_folder, os.W_OK):
        pytest.skip("nothing is read-only for root")
    with Server(served_folder, "server.api_key=open-sesame") as server:
        client = Client(server.url, "open-sesame")
        assert not client.index()["writable"]
        assert client.search(jpeg())["hits"]
        refused = httpx.delete(f"{server.url}/v1/items?external_id=hat/0.png", headers=KEY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "read_only")
        assert httpx.delete(f"{server.url}/v1/items?external_id=hat/0.png").status_code == 401
        server.log.seek(0)
        assert b"may not be written by this user" in server.log.read()


def test_only_the_listed_columns_are_shown_and_searched_by(served_folder):
    settings = ("server.columns=[price,prise]", "server.api_key=open-sesame")
    with Server(served_folder, *settings) as server:
        client = Client(server.url, "open-sesame")
        client.update({"hat/0.png": {"price": 30, "cost": 12, "product_id": "hat"}})
        assert client.index()["columns"] == ["id", "external_id", "label", "price"]
        (hit,) = client.search(jpeg(), k=5, filter="price = 30")["hits"]
        shown = {"external_id": "hat/0.png", "price": 30}
        assert hit["payload"] == client.item("hat/0.png")["payload"] == shown
        for how in ({"filter": "cost < 20"}, {"group_by": "product_id"}):
            for ask in (client.search, client.similar):
                with pytest.raises(FashionError, match=f"answered 422.*{'cost' if 'filter' in how else 'product_id'}"):
                    ask(jpeg() if ask == client.search else "hat/0.png", **how)
        server.log.seek(0)
        assert b"server.columns names price, prise, which the catalogue does not have (yet)" in server.log.read()


def test_pictures_are_kept_for_good_under_the_address_of_their_content(server):
    url = server.url + Client(server.url).item(7)["image_url"]
    kept = httpx.get(url)
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    again = httpx.get(f"{url}&size=128", headers={"If-None-Match": "*"})
    assert (again.status_code, again.headers["cache-control"]) == (304, kept.headers["cache-control"])
    catalog = Catalog.open(server.catalog)
    catalog.picture(catalog.item(8)).touch()  # it may hold something else by now
    changed = server.url + Client(server.url).item(8)["image_url"]
    # Of another content, of whatever it is then, and of a file that is not as it was embedded.
    for other in (url[:-1] + "-", url.partition("?")[0], changed):
        assert httpx.get(other).headers["cache-control"] == "private, max-age=60"


def test_a_tag_is_of_the_picture_as_it_is_now(keyed_server):
    client = Client(keyed_server.url, "open-sesame")
    client.add({"a": jpeg("hat")})
    url = keyed_server.url + client.item("a")["image_url"]
    before = httpx.get(url)
    known = {"If-None-Match": before.headers["etag"]}
    assert httpx.get(url, headers=known).status_code == 304
    (picture,) = (keyed_server.catalog / "pictures").iterdir()
    picture.write_bytes(jpeg("dress"))
    after = httpx.get(url, headers=known)
    assert after.status_code == 200
    assert after.content != before.content
    known = {"If-None-Match": after.headers["etag"]}
    assert httpx.get(url, headers=known).status_code == 304
    picture.unlink()
    for headers in ({}, known, {"If-None-Match": "*"}):
        assert httpx.get(url, headers=headers).status_code == 404


def test_pages_of_the_origins_that_are_listed_may_search_and_nothing_else(served_folder):
    shop, other = {"Origin": "https://shop.example"}, {"Origin": "https://evil.example"}
    allowed = "access-control-allow-origin"

    def preflight(origin: dict, method: str, headers: str = "content-type") -> httpx.Response:
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
        return client.options("/v1/search", headers=origin | asked)

    with (
        Server(served_folder, "server.origins=[https://shop.example]", "server.rate_limit=1") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        assert preflight(shop, "POST").headers[allowed] == "https://shop.example"
        assert allowed not in preflight(other, "POST").headers
        for method, headers in (("DELETE", "content-type"), ("POST", "x-api-key")):
            assert preflight(shop, method, headers).status_code == 400
        found = client.post("/v1/search", files={"file": jpeg()}, headers=shop)
        assert (found.status_code, found.headers[allowed]) == (200, "https://shop.example")
        assert allowed not in client.get("/v1/index", headers=other).headers
        adding = client.post("/v1/items", json={"items": []}, headers=shop)
        assert adding.json()["error"]["code"] == "foreign_origin"
        refused = next(one for _ in range(10) if (one := client.get("/v1/index", headers=shop)).status_code == 429)
        assert refused.headers[allowed] == "https://shop.example"  # else the page could not read what is wrong
        assert "Retry-After" in refused.headers["access-control-expose-headers"]


def test_pages_of_the_origins_may_read_that_the_server_failed(served_folder, caplog):
    app = create_app(make_service(served_folder, None, Settings(origins=["https://shop.example"])))

    @app.get("/v1/broken")
    async def broken() -> None:
        raise RuntimeError("nobody foresaw this")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/v1/broken", headers={"Origin": "https://shop.example"})

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert "nobody foresaw this" not in answer.text
    assert "GET /v1/broken failed" in caplog.text
    assert "nobody foresaw this" in caplog.text


def test_a_picture_that_is_only_looked_at_takes_a_place_too(served_folder):
    service = make_service(served_folder, None, Settings(workers=1, queue=0))
    address = image_url(service.catalog.item(0), service.settings)

    async def ask(tag: str) -> httpx.Response:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(address, headers={"If-None-Match": tag})

    tag = asyncio.run(ask("none")).headers["etag"]
    assert asyncio.run(ask(tag)).status_code == 304
    with service.place():
        assert asyncio.run(ask(tag)).status_code == 503


@pytest.mark.parametrize("origin", ["https://shop.example/", "shop.example", "https://Shop.example"])
def test_an_origin_that_no_browser_sends_is_refused(run_here, served_folder, origin):
    with pytest.raises(FashionError, match=rf"origins.*'{origin}' is no origin"):
        run_here("task=serve", f"catalog={served_folder}", f"server.origins=['{origin}']")
