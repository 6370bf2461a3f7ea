"""The web page in a real browser: a picture goes in, a grid of hits comes out."""

import base64
import io
import shutil
from pathlib import Path

import pytest
from browser import needs_browser, page
from PIL import Image
from uploads import jpeg, saved

from fashion.benchmark.server import Server
from fashion.client import Client

pytestmark = [needs_browser, pytest.mark.slow]


def hits(opened) -> list[str]:
    opened.wait_for_function(
        "document.querySelectorAll('#hits li').length > 0 && !document.querySelector('#results[aria-busy]')"
    )
    return opened.locator("#hits .label").all_inner_texts()


def shown(opened) -> None:
    """Every picture of the grid was loaded."""
    opened.wait_for_function(
        "[...document.querySelectorAll('#hits img')].every(one => one.complete && one.naturalWidth)"
    )


def test_pick_see_filter_and_go_on(server, shop):
    with page() as opened:
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(server.url)
        opened.wait_for_selector("#sample-list button")
        assert "18 items" in opened.inner_text("#catalog")
        opened.set_input_files("#file", str(shop / "hat/0.png"))
        assert len(hits(opened)) == 12
        shown(opened)
        assert "Looks like:" in opened.inner_text("#named")
        assert "most alike first" in opened.inner_text("#status")
        opened.select_option("#label", "shoes")
        opened.wait_for_function("document.querySelectorAll('#hits li').length == 6")
        assert set(hits(opened)) == {"shoes"}
        opened.click("#hits li:first-child button")
        opened.wait_for_function("document.querySelector('#query').alt.includes('shoes')")
        assert len(hits(opened)) == 5  # all shoes but itself
        opened.click("summary")
        opened.fill("#filter", "label = 'dress'")
        opened.keyboard.press("Enter")
        opened.wait_for_function("document.querySelector('#status').textContent.includes('Nothing matches')")
        opened.fill("#filter", "colour = 'red'")
        opened.keyboard.press("Enter")
        opened.wait_for_function("document.querySelector('#status').textContent.includes('colour')")
        assert all(url.startswith((server.url, "blob:", "data:")) for url in asked)


def carried(content: bytes, name: str, kind: str) -> str:
    """A script that makes what a paste or a drop carries: one file."""
    return f"""(() => {{
        const bytes = Uint8Array.from(atob("{base64.b64encode(content).decode()}"), (one) => one.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "{name}", {{type: "{kind}"}}));
        return data;
    }})()"""


def dropped(opened, where: str, what: str) -> list[bool]:
    """Drag it over that element and drop it; whether the browser was kept from opening the file itself."""
    return opened.evaluate(
        f"""["dragover", "drop"].map((name) => !document.querySelector("{where}").dispatchEvent(
            new DragEvent(name, {{dataTransfer: {what}, bubbles: true, cancelable: true}})))"""
    )


def test_paste_drop_and_a_bad_file(server, shop):
    make = carried((shop / "dress/0.png").read_bytes(), "q.png", "image/png")
    with page() as opened:
        opened.goto(server.url)
        opened.wait_for_selector("#sample-list button")
        assert opened.locator("#file").aria_snapshot() == '- button "Drop, paste or pick a picture of one garment"'
        opened.evaluate(f"document.dispatchEvent(new ClipboardEvent('paste', {{clipboardData: {make}}}))")
        assert len(hits(opened)) == 12
        opened.set_input_files("#file", {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"})
        opened.wait_for_function("document.querySelector('#status').textContent.includes('not a picture')")
        assert not opened.locator("#hits li").count()
        for where in ("#drop", "#results", "body"):
            opened.evaluate("document.querySelector('#hits').replaceChildren()")
            assert dropped(opened, where, make) == [True, True]
            assert len(hits(opened)) == 12
        assert opened.locator("#file").aria_snapshot() == '- button "Your picture. Drop, paste or pick another."'
        letter = carried(b"%PDF", "letter.pdf", "application/pdf")
        opened.evaluate(f"document.dispatchEvent(new ClipboardEvent('paste', {{clipboardData: {letter}}}))")
        assert "letter.pdf is not a picture" in opened.inner_text("#status")
        assert dropped(opened, "#results", letter) == [True, True]
        assert len(hits(opened)) == 12  # what was found before is still there


def test_a_large_transparent_picture_is_sent_on_white(server):
    """As the loader lays it: the browser's own JPEGs are black there."""
    cutout = Image.new("RGBA", (2000, 1000), (0, 0, 0, 0))
    cutout.paste((40, 180, 60, 255), (800, 300, 1200, 700))
    buffer = io.BytesIO()
    cutout.save(buffer, "PNG")
    with page() as opened:
        opened.goto(server.url)
        opened.evaluate("""() => {
            const send = window.fetch;
            window.fetch = (address, options) => {
                window.sent = options.body.get("file");
                return send(address, options);
            };
        }""")
        opened.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": buffer.getvalue()})
        hits(opened)
        corner = opened.evaluate("""async () => {
            const picture = await createImageBitmap(window.sent);
            const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
            context.drawImage(picture, 0, 0);
            return [picture.width, ...context.getImageData(5, 5, 1, 1).data];
        }""")
    assert corner == [1600, 255, 255, 255, 255]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_with_the_keyboard(server, scheme):
    with page(viewport={"width": 360, "height": 740}, color_scheme=scheme) as opened:
        opened.goto(server.url)
        opened.focus("#sample-list button")
        opened.keyboard.press("Enter")
        assert len(hits(opened)) == 12
        wide = opened.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360  # nothing to scroll sideways
        names = opened.evaluate(
            "[...document.querySelectorAll('button')].map(b => b.ariaLabel || b.textContent.trim())"
        )
        assert all(names)
        assert opened.get_attribute("#status", "aria-live") == "polite"


def test_a_choice_on_a_phone_stays_on_the_screen(server):
    with page(viewport={"width": 360, "height": 740}) as opened:
        opened.goto(server.url)
        opened.click("#sample-list button")
        assert len(hits(opened)) == 12
        assert opened.evaluate("scrollY") > 0  # a new question shows what was found, which lies below
        opened.evaluate("scrollTo(0, 0)")
        opened.focus("#label")
        opened.keyboard.press("ArrowDown")
        opened.wait_for_url("**label=*")
        assert len(set(hits(opened))) == 1
        assert opened.evaluate("document.activeElement.id") == "label"
        assert 0 <= opened.evaluate("document.activeElement.getBoundingClientRect().top") < 740


def focus(opened) -> str:
    return opened.evaluate("document.activeElement.id || document.activeElement.tagName")


def test_the_keyboard_stays_among_the_results(server):
    with page() as opened:
        opened.goto(server.url)
        opened.focus("#sample-list button")
        opened.keyboard.press("Enter")
        assert len(hits(opened)) == 12
        first = opened.get_attribute("#query", "src")
        opened.focus("#hits li:nth-child(2) button")
        opened.keyboard.press("Enter")
        opened.wait_for_function(f"document.querySelector('#query').getAttribute('src') != '{first}'")
        assert len(hits(opened)) == 12
        assert focus(opened) == "results"
        opened.focus("#hits li:nth-child(3) button")
        opened.go_back()
        opened.wait_for_function(f"document.querySelector('#query').getAttribute('src') == '{first}'")
        assert len(hits(opened)) == 12
        assert focus(opened) == "results"
        opened.focus("#hits li:nth-child(3) button")
        opened.go_back()
        opened.wait_for_function("!document.querySelector('#hits li')")
        assert focus(opened) == "results"
        opened.go_forward()
        assert len(hits(opened)) == 12
        opened.focus("#hits button")
        refusal = {"error": {"code": "busy", "message": "Ask again."}}
        opened.route("**/similar?*", lambda route: route.fulfill(status=429, json=refusal))
        opened.go_forward()
        opened.wait_for_function("document.querySelector('#status').textContent == 'Ask again.'")
        assert focus(opened) == "results"


def test_the_page_works_under_its_security_policy(server):
    """The other tests pass it by, see `browser.page`."""
    with page(bypass_csp=False) as opened:
        opened.goto(server.url)
        opened.wait_for_selector("#sample-list button")
        opened.click("#sample-list button")
        opened.wait_for_selector("#hits li img")


def test_the_documentation_page_needs_no_other_site(server):
    with page() as opened:
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(f"{server.url}/docs")
        opened.wait_for_selector("#operations-search-search_v1_search_post")
        assert all(url.startswith((server.url, "data:")) for url in asked)


def test_back_forward_and_an_address_to_send(server, shop):
    with page() as opened:
        opened.goto(server.url)
        opened.wait_for_selector("#sample-list button")
        opened.set_input_files("#file", str(shop / "hat/0.png"))
        first = hits(opened)
        opened.click("#hits li:nth-child(2) button")
        opened.wait_for_url("**/?item=*")
        second = hits(opened)
        opened.select_option("#label", "shoes")
        opened.wait_for_url("**/?item=*&label=shoes")
        assert set(hits(opened)) == {"shoes"}
        address = opened.url
        opened.go_back()
        opened.wait_for_function("document.querySelector('#query').alt == 'Your picture'")
        assert hits(opened) == first  # the file is still at hand
        opened.go_forward()
        opened.wait_for_function("document.querySelector('#query').alt != 'Your picture'")
        assert set(hits(opened)) == {"shoes"}
        opened.go_back()
        opened.go_back()
        opened.wait_for_function("!document.querySelector('#hits li')")
        assert opened.is_visible("#hint")
        opened.goto(address)
        assert set(hits(opened)) == {"shoes"} != set(second)
        assert opened.input_value("#label") == "shoes"
        opened.focus(".skip")
        opened.keyboard.press("Enter")
        assert opened.locator("#hits li").count()  # not taken for a step in the history


def few(route) -> None:
    """A catalogue's description with one label less, as if there were a hundred more frequent ones."""
    answer = route.fetch()
    index = answer.json()
    del index["labels"]["shoes"]
    route.fulfill(response=answer, json=index)


def test_a_label_that_is_too_rare_for_a_choice(server):
    with page() as opened:
        opened.route("**/v1/index", few)
        opened.goto(f"{server.url}/?item=3&label=shoes")
        assert set(hits(opened)) == {"shoes"}
        assert opened.input_value("#label") == "shoes"
        assert "and 1 more" in opened.inner_text("#label")
        opened.goto(f"{server.url}/?item=3")
        assert "shoes" not in opened.locator("#label option").all_inner_texts()


@pytest.fixture
def changing_server(served_folder):
    with Server(served_folder, "server.api_key=open-sesame") as started:
        yield started


def test_what_the_catalogue_says_stays_on_the_page_and_new(changing_server, shop):
    client = Client(changing_server.url, "open-sesame")
    name = "Women's long-sleeve cotton blend button-down shirts and " + "x" * 300
    client.update({"hat/0.png": {"label": name, "url": "https://example.com/<b>"}, "hat/1.png": {"label": ""}})
    with page(viewport={"width": 320, "height": 568}) as opened:
        opened.goto(changing_server.url)
        opened.wait_for_selector("#sample-list button")
        opened.set_input_files("#file", str(shop / "hat/0.png"))
        assert name in hits(opened)
        assert opened.evaluate("document.documentElement.scrollWidth") <= 320
        assert opened.evaluate("document.querySelector('#status').getBoundingClientRect().bottom") < 568
        assert opened.get_attribute(".detail a", "href") == "https://example.com/<b>"
        opened.select_option("#label", " ")
        opened.wait_for_function("document.querySelectorAll('#hits li').length == 1")
        assert hits(opened) == ["item"]
        opened.reload()
        opened.wait_for_selector("#sample-list button")
        assert opened.input_value("#label") == " "  # it stands in the address
        opened.set_input_files("#file", str(shop / "hat/0.png"))
        assert hits(opened) == ["item"]
        opened.select_option("#label", name)
        opened.wait_for_function("document.querySelectorAll('#hits li').length == 1")
        assert hits(opened) == [name]
        before = opened.get_attribute("#hits img", "src")
        client.add({"hat/0.png": jpeg("dress")}, {"hat/0.png": {"label": "sari"}})
        opened.select_option("#label", "")
        opened.wait_for_selector("#label option[value=sari]", state="attached")
        assert "sari" in hits(opened)
        assert before not in opened.evaluate("[...document.querySelectorAll('#hits img')].map((one) => one.src)")
        gone = opened.locator("#hits li").first.locator("button")
        client.delete(
            *(f"{label}/{at}.png" for label in ("hat", "dress", "shoes") for at in range(6) if label != "hat" or at)
        )
        opened.locator("#hits li", has_not_text="sari").first.locator("button").click()
        opened.wait_for_function("document.querySelector('#status').textContent.includes('no longer')")
        assert gone.count()  # what was found before is still there


def test_the_last_item_without_a_label_gets_one(changing_server):
    client = Client(changing_server.url, "open-sesame")
    client.update({"hat/1.png": {"label": ""}})
    with page() as opened:
        opened.route("**/v1/index", few)
        opened.goto(f"{changing_server.url}/?item=3&label=%20")
        assert hits(opened) == ["item"]
        client.update({"hat/1.png": {"label": "hat"}})
        opened.focus("#sample-list li:nth-child(3) button")
        opened.evaluate("document.querySelector('#k').value = '6'; document.querySelector('#how').requestSubmit()")
        opened.wait_for_function("document.querySelector('#label').value == ''")
        opened.wait_for_function("document.querySelectorAll('#hits li').length == 6")  # of all labels
        assert opened.url.endswith("/?item=3&k=6")
        assert opened.evaluate("document.activeElement.getAttribute('aria-label')").endswith("sample 3 of 12")
        opened.unroute("**/v1/index")
        opened.goto(f"{changing_server.url}/?item=3&label=sari")
        assert len(hits(opened)) == 12
        assert opened.url.endswith("/?item=3")


def test_one_item_of_each_product(changing_server):
    client = Client(changing_server.url, "open-sesame")
    with page() as opened:
        opened.goto(f"{changing_server.url}/?item=6&product=1")
        assert len(hits(opened)) == 12
        assert opened.is_hidden("#product")  # no item has a product yet
        client.update({f"{kind}/{at}.png": {"product_id": kind} for kind in ("hat", "shoes") for at in range(6)})
        opened.goto(f"{changing_server.url}/?item=6&k=24")
        assert len(hits(opened)) == 17
        opened.check("#product")
        opened.wait_for_function("document.querySelectorAll('#hits li').length == 8")
        assert sorted(hits(opened)) == ["dress"] * 6 + ["hat", "shoes"]
        assert opened.url.endswith("/?item=6&k=24&product=1")
        opened.reload()
        assert len(hits(opened)) == 8
        assert opened.is_checked("#product")


def test_a_server_of_few_hits_and_a_filter_that_is_asked_once(served_folder):
    with Server(served_folder, "server.max_k=5") as server, page() as opened:
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(server.url)
        opened.wait_for_selector("#sample-list button")
        opened.click("summary")
        opened.fill("#filter", "label != 'hat'")
        opened.keyboard.press("Enter")
        opened.wait_for_function("document.querySelector('#status').textContent.includes('Choose a picture')")
        opened.click("#sample-list button")
        assert len(hits(opened)) == 5
        asked.clear()
        opened.fill("#filter", "label = 'hat'")
        opened.keyboard.press("Enter")
        opened.wait_for_function(
            "[...document.querySelectorAll('#hits .label')].every((one) => one.textContent == 'hat')"
        )
        assert len([url for url in asked if "/similar" in url]) == 1


def test_nothing_of_a_picture_that_was_read_is_kept(server, shop):
    """But for the address by which the page shows it, and goes back to it."""
    with page() as opened:
        opened.add_init_script("""
            window.kept = {bitmaps: 0, addresses: 0};
            const make = createImageBitmap, close = ImageBitmap.prototype.close;
            window.createImageBitmap = async (...given) => {
                const made = await make(...given);
                kept.bitmaps++;
                return made;
            };
            ImageBitmap.prototype.close = function () { kept.bitmaps--; close.call(this); };
            for (const [name, step] of [["createObjectURL", 1], ["revokeObjectURL", -1]]) {
                const plain = URL[name].bind(URL);
                URL[name] = (given) => { kept.addresses += step; return plain(given); };
            }""")
        opened.goto(server.url)
        drawn = b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"></svg>'
        for given in (
            str(shop / "hat/0.png"),
            {"name": "x.svg", "mimeType": "image/svg+xml", "buffer": drawn},
            {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": saved("JPEG", (2000, 900))},
        ):
            opened.evaluate("document.querySelector('#hits').replaceChildren()")
            opened.set_input_files("#file", given)
            hits(opened)
        assert opened.evaluate("kept") == {"bitmaps": 0, "addresses": 3}


def test_what_only_the_browser_can_read_is_sent_as_a_jpeg_and_a_file_that_goes_is_still_asked(server, shop, tmp_path):
    head = b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90">'
    drawn = head + b'<rect width="90" height="90" fill="red"/></svg>'
    with page() as opened:
        opened.goto(server.url)
        opened.set_input_files("#file", {"name": "x.svg", "mimeType": "image/svg+xml", "buffer": drawn})
        assert len(hits(opened)) == 12
        copy = Path(shutil.copy(shop / "hat/0.png", tmp_path / "q.png"))
        opened.set_input_files("#file", str(copy))
        assert len(hits(opened)) == 12
        copy.unlink()
        opened.select_option("#k", "6")
        opened.wait_for_function("document.querySelectorAll('#hits li').length == 6")
        opened.set_input_files("#file", [str(shop / f"hat/{at}.png") for at in (1, 2)])
        opened.wait_for_function("document.querySelector('#query').alt.includes('1 more')")
        assert len(hits(opened)) == 6


def test_an_item_without_its_picture_is_drawn_as_such(keyed_server):
    with page(color_scheme="dark") as opened:
        opened.route("**/v1/images/**", lambda route: route.fulfill(status=404))
        opened.goto(keyed_server.url)
        opened.wait_for_function("document.querySelectorAll('#sample-list li').length == 12")
        opened.click("#sample-list button")
        opened.wait_for_selector(".gone")
        opened.wait_for_function("!document.querySelector('#sample-list li')")
        assert opened.inner_text(".gone >> nth=0") == "no picture"


def test_a_search_can_be_tried_on_the_documentation_page(server, shop):
    with page(bypass_csp=False) as opened:
        opened.goto(f"{server.url}/docs")
        block = opened.locator("#operations-search-search_v1_search_post")
        block.click()
        block.locator(".try-out__btn").click()
        block.locator("input[type=file]").first.set_input_files(str(shop / "hat/0.png"))
        block.locator(".execute").click()
        status = block.locator(".live-responses-table tbody td.response-col_status").first
        assert status.inner_text().startswith("200")
        assert opened.locator(".authorize").count()
