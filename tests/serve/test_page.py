"""The web page in a real browser: a picture goes in, a grid of hits comes out."""

import base64
import io

import pytest
from browser import needs_browser, page
from PIL import Image

pytestmark = [needs_browser, pytest.mark.slow]


def hits(opened) -> list[str]:
    opened.wait_for_function(
        "document.querySelectorAll('#hits li').length > 0 && !document.querySelector('#hits.busy')"
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
        opened.evaluate(f"document.dispatchEvent(new ClipboardEvent('paste', {{clipboardData: {make}}}))")
        assert len(hits(opened)) == 12
        opened.set_input_files("#file", {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"})
        opened.wait_for_function("document.querySelector('#status').textContent.includes('not a picture')")
        assert not opened.locator("#hits li").count()
        for where in ("#drop", "#results", "body"):
            opened.evaluate("document.querySelector('#hits').replaceChildren()")
            assert dropped(opened, where, make) == [True, True]
            assert len(hits(opened)) == 12
        assert opened.locator("#file").aria_snapshot() == '- button "Drop, paste or pick a picture of one garment"'
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
