"""What task=index and task=embed take of a source, and what they say of the rest."""

import pytest
from helpers import write_pictures

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
