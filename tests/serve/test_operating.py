"""What those who run a server need: pages of other sites, proxies, logs, figures, rights."""

import httpx
import pytest
from uploads import jpeg

from fashion.benchmark.server import Server
from fashion.errors import FashionError


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


@pytest.mark.parametrize("origin", ["https://shop.example/", "shop.example", "https://Shop.example"])
def test_an_origin_that_no_browser_sends_is_refused(run_here, served_folder, origin):
    with pytest.raises(FashionError, match=rf"origins.*'{origin}' is no origin"):
        run_here("task=serve", f"catalog={served_folder}", f"server.origins=['{origin}']")
