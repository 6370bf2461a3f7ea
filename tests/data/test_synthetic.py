import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from helpers import at_once

from fashion.data import synthetic
from fashion.data.sources import read_source
from fashion.data.synthetic import CLASSES, draw, product, write_dataset
from fashion.errors import FashionError


def pixels(number: int, view: int, seed: int = 0) -> np.ndarray:
    return np.asarray(draw(product(number, seed), view, 48, seed))


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "items.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_draws_the_same_and_another_does_not():
    np.testing.assert_array_equal(pixels(3, 1), pixels(3, 1))
    assert not np.array_equal(pixels(3, 1), pixels(3, 1, seed=1))


def test_views_of_a_product_differ_but_share_its_look():
    assert not np.array_equal(pixels(7, 0), pixels(7, 1))

    def hue(number: int, view: int) -> np.ndarray:
        middle = pixels(number, view)[12:36, 12:36].mean(axis=(0, 1))
        return middle / middle.sum()

    one, other = (np.array([hue(number, view) for number in range(0, 200, 10)]) for view in (0, 1))
    distances = np.linalg.norm(one[:, None] - other, axis=2)
    assert distances.diagonal().mean() < distances.mean() / 2


@pytest.mark.parametrize("label", CLASSES)
def test_every_class_shows_something_against_its_background(label):
    picture = pixels(CLASSES.index(label), 0).astype(int)
    assert picture.shape == (48, 48, 3)
    assert picture.std() > 8


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("drawn") / "set", products=40, views=2, size=32)


def test_splits_hold_whole_products_and_every_class(root):
    products, classes = defaultdict(set), defaultdict(set)
    for row in rows(root):
        products[row["product_id"]].add(row["split"])
        classes[row["split"]].add(row["label"])
    assert all(len(splits) == 1 for splits in products.values())
    assert {split: len(labels) for split, labels in classes.items()} == {"train": 10, "validation": 10, "test": 10}


def test_the_table_and_the_files_agree_and_are_a_source(root, tmp_path):
    assert {row["path"] for row in rows(root)} == {p.relative_to(root).as_posix() for p in root.rglob("*.jpg")}
    source = read_source("synthetic", str(root), cache=tmp_path, drawing={"products": 40, "views": 2, "size": 32})
    assert len(source.items) == 80
    assert source.class_names == CLASSES


def test_a_second_call_draws_nothing_and_other_settings_are_refused(root, monkeypatch):
    monkeypatch.setattr(synthetic, "draw", lambda *args: pytest.fail("drawn again"))
    assert write_dataset(root, products=40, views=2, size=32) == root
    with pytest.raises(FashionError, match=f"{root} holds something other"):
        write_dataset(root, products=50, views=2, size=32)


def test_a_call_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def broken(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "draw", broken)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "set", products=40)
    assert [path.name for path in tmp_path.iterdir()] == [".set.lock"]


def test_two_jobs_at_once_draw_once(tmp_path, monkeypatch):
    drawn, draw_one = [], synthetic.draw
    monkeypatch.setattr(synthetic, "draw", lambda *args: drawn.append(args) or draw_one(*args))
    roots = at_once(lambda: write_dataset(tmp_path / "set", products=30, views=1, size=16), 2)
    assert set(roots) == {tmp_path / "set"}
    assert len(drawn) == 30


def test_too_few_products_are_refused(tmp_path):
    with pytest.raises(FashionError, match="20 products"):
        write_dataset(tmp_path / "set", products=20)
