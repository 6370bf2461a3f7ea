"""Items that are a part of a picture are shown as that part."""

import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from helpers import COLOURS
from PIL import Image

from fashion import VisualSearchEngine
from fashion.benchmark.server import Server
from fashion.client import Client
from fashion.report.pictures import GAP, TEXT, TILE
from fashion.search.listing import Listing
from fashion.search.store import Store

BOXES = {"left": [0, 0, 80, 80], "right": [80, 0, 160, 80], "whole": None}


@pytest.fixture
def halves(bundle: Path, tmp_path: Path) -> Path:
    """A catalogue of three items of one picture: its left half is a dress' colour, its right half a hat's."""
    picture = Image.new("RGB", (160, 80), COLOURS["dress"])
    picture.paste(COLOURS["hat"], (80, 0, 160, 80))
    (tmp_path / "shop").mkdir()
    picture.save(tmp_path / "shop/both.png")
    engine, store = VisualSearchEngine(bundle), Store(tmp_path / "catalog")
    paths = [tmp_path / "shop/both.png"] * 3
    with store.writer():
        engine.sync(Listing(tmp_path / "shop", paths, {"external_id": list(BOXES)}, list(BOXES.values())), store)
    return store.folder


def colours(image: Image.Image) -> list[str]:
    """Which garment's colours the left and the right of the picture have."""
    values = np.asarray(image.convert("RGB"), dtype=int)
    middle = values[image.height // 2, [image.width // 4, 3 * image.width // 4]]
    return [min(COLOURS, key=lambda name: np.abs(one - COLOURS[name]).sum()) for one in middle]


SHOWN = {"left": ["dress", "dress"], "right": ["hat", "hat"], "whole": ["dress", "hat"]}


def test_a_server_shows_the_part_that_is_the_item(halves):
    with Server(halves) as server:
        items = [Client(server.url).item(name) for name in BOXES]
        answers = [httpx.get(f"{server.url}{item['image_url']}") for item in items]
    assert [item["payload"].get("bbox") for item in items] == ["0 0 80 80", "80 0 160 80", None]
    assert "bbox" not in items[2]["payload"]
    pictures = [Image.open(io.BytesIO(answer.content)) for answer in answers]
    assert [colours(picture) for picture in pictures] == list(SHOWN.values())
    assert len({answer.headers["etag"] for answer in answers}) == 3
    assert len({item["image_url"].partition("?")[2] for item in items}) == 3


def test_a_search_draws_the_part_that_is_the_item(halves, run_here, tmp_path):
    query = f"query={tmp_path}/shop/both.png"
    with Server(halves) as server:
        for where in (f"catalog={halves}", f"server={server.url}"):
            assert run_here("task=search", where, query, "k=3", out="found") == 1
            grid = Image.open(tmp_path / "found/results.png")
            for at, hit in enumerate(VisualSearchEngine(halves).search(tmp_path / "shop/both.png")[0].hits):
                left = TILE + 3 * GAP + at * (TILE + GAP)
                assert colours(grid.crop((left, TEXT, left + TILE, TEXT + TILE))) == SHOWN[hit.name]


def test_an_item_that_is_asked_about_is_drawn_and_named_as_its_part(halves, run_here, tmp_path, capsys):
    with Image.open(tmp_path / "shop/both.png") as picture:
        parts = {name: picture.crop(box) if box else picture.copy() for name, box in BOXES.items()}
    classes = {name: VisualSearchEngine(halves).classify(part)[0] for name, part in parts.items()}
    with Server(halves) as server:
        for where in (f"catalog={halves}", f"server={server.url}"):
            for name, shown in SHOWN.items():
                run_here("task=search", where, f"like={name}", "k=1", out="like")
                grid = Image.open(tmp_path / "like/results.png")
                assert colours(grid.crop((GAP, TEXT, GAP + TILE, TEXT + TILE))) == shown
                label, probability = classes[name]
                assert capsys.readouterr().out.startswith(f"{name}: {label} ({probability:.0%})\n")
