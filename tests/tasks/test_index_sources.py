"""What task=index and task=embed take of a source, and what they say of the rest."""

import pytest
from helpers import write_pictures

from fashion.errors import FashionError
from fashion.search.catalog import Catalog


@pytest.fixture
def shop(tmp_path):
    """20 pictures of each of two classes, and a table that names them without splits."""
    root = write_pictures(tmp_path / "shop", {".": {"dress": 20, "hat": 20}})
    rows = (f"{label}/{at}.png,{label}" for label in ("dress", "hat") for at in range(20))
    (root / "items.csv").write_text("\n".join(["path,label", *rows]))
    return root


@pytest.mark.parametrize(("kind", "name"), [("folder", "."), ("table", "items.csv")])
def test_all_of_a_source_without_splits_is_taken(run_here, bundle, shop, kind, name, caplog):
    caplog.set_level("INFO")
    given = (f"encoder={bundle}", f"data={kind}", f"data.source={shop / name}")
    assert run_here("task=index", *given, "catalog=c") == 40
    assert "split" not in Catalog.open("c").items.column_names
    assert run_here("task=embed", *given, "embeddings=parts") == 40
    assert "other splits" not in caplog.text
    assert run_here("task=index", *given, "catalog=t", "split=train") < 40  # as training divides them


def test_pictures_in_other_splits_are_mentioned(run_here, bundle, pictures, caplog):
    caplog.set_level("INFO")
    index = ("task=index", f"encoder={bundle}", "data=folder", f"data.source={pictures}", "catalog=c")
    assert run_here(*index) == 36
    assert "21 of 57 pictures are in other splits than train; split=all takes them." in caplog.text
    assert run_here(*index, "split=all") == 57
    assert set(Catalog.open("c").items["split"].to_pylist()) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("columns", "cells", "labels"),
    [("path,price", ("1", "2"), [None, None]), ("path,label", ("", "red hat"), [None, "red hat"])],
)
def test_a_table_that_is_searched_needs_no_labels(run_here, bundle, shop, columns, cells, labels):
    table = shop / "items.csv"
    table.write_text("\n".join([columns, *(f"hat/{at}.png,{cell}" for at, cell in enumerate(cells))]))
    given = (f"encoder={bundle}", "data=table", f"data.source={table}")
    assert run_here("task=index", *given, "catalog=c") == 2
    run_here("task=embed", *given, "embeddings=parts")
    assert run_here("task=index", f"encoder={bundle}", "embeddings=parts", "catalog=joined") == 2
    for name in ("c", "joined"):
        assert Catalog.open(name).items["label"].to_pylist() == labels
    run_here("task=search", "catalog=c", f"query={shop}/hat/0.png", 'filter="label is null"')
    with pytest.raises(FashionError, match=r"lacks the column label|row 1: path 'hat/0.png', label ''"):
        run_here("task=evaluate", *given)


def test_a_table_that_is_searched_needs_paths(run_here, bundle, shop):
    (shop / "items.csv").write_text("picture;price\nhat/0.png;3\n")
    with pytest.raises(FashionError, match="lacks the column path; it has picture;price, and a table needs path and"):
        run_here("task=index", f"encoder={bundle}", "data=table", f"data.source={shop}/items.csv", "catalog=c")
