"""What an evaluation searches for, and among what."""

import numpy as np
import pytest

from fashion.data.arrays import PictureArray
from fashion.data.sources import Item
from fashion.errors import FashionError
from fashion.protocols import searched

E = np.eye(3, dtype=np.float32)


def array(labels: list[int], items: list[Item]) -> PictureArray:
    return PictureArray(np.zeros((len(items), 3, 1, 1), np.uint8), np.array(labels), tuple(items), (), "")


def part(path: str, box: str | None = None) -> Item:
    return Item(path, "", "test", {"bbox": box})


def product(path: str, number: str) -> Item:
    return Item(path, "", "test", {"product_id": number})


QUERY = array([0], [part("a.png", "0 0 5 5")])
GALLERY = array([0, 1, 0], [part("a.png", "0 0 5 5"), part("a.png", "5 5 9 9"), part("c.png")])


def test_a_query_finds_the_other_parts_of_its_picture_and_not_itself():
    found = searched(QUERY, E[:1], GALLERY, E, ["gallery"], "class")["gallery"]
    assert found.relevant.tolist() == [1]
    assert found.nearest.tolist() == [0]
    assert found.figures["mrr"].tolist() == [0.5]  # behind the other part, of another class, which stands first


@pytest.mark.parametrize(("named", "mrr"), [(0, 1), (1, 0)])
def test_filtered_searches_look_only_among_what_the_query_is_named(named, mrr):
    found = searched(QUERY, E[:1], GALLERY, E, ["filtered"], "class", np.array([named]))["filtered"]
    assert (found.figures["mrr"].tolist(), found.relevant.tolist()) == ([mrr], [1])


def test_relevance_by_a_column_is_of_each_pictures_own_value():
    queries = array([0, 0], [product("a.png", "p1"), product("b.png", "p2")])
    gallery = array([1, 1, 1], [product("c.png", "p2"), product("d.png", "p1"), product("e.png", "p3")])
    found = searched(queries, E[:2], gallery, E[[1, 0, 2]], ["gallery"], "product_id")["gallery"]
    assert (found.relevant.tolist(), found.figures["top1"].tolist()) == ([1, 1], [1, 1])
    some = array([1, 1, 1], [product("c.png", "p2"), product("d.png", ""), product("e.png", "p3")])
    with pytest.raises(FashionError, match="some pictures have no such column; set relevance=class"):
        searched(queries, E[:2], some, E, ["gallery"], "product_id")
