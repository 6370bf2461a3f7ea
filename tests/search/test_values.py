"""Columns of dates, decimals, lists and NaN: searched, and written as JSON that any reader takes."""

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from helpers import write_pictures

from fashion import VisualSearchEngine
from fashion.errors import FashionError
from fashion.search.listing import Listing
from fashion.search.values import plain
from fashion.tasks.search import write_results

NAN = float("nan")


@pytest.fixture
def dated(bundle: Path, tmp_path: Path) -> Path:
    """A catalogue of two items with columns of all those types."""
    root = write_pictures(tmp_path / "shop", {".": {"hat": 2}})
    paths = [root / "hat/0.png", root / "hat/1.png"]
    columns = {
        "since": [date(2026, 1, 4), None],
        "cost": [Decimal("9.90"), Decimal("50.00")],
        "rating": [NAN, 4.5],
    }
    engine = VisualSearchEngine(bundle)
    engine.sync(Listing(root, paths, columns))
    assert engine.catalog is not None
    # As catalogues of earlier versions may have it.
    engine.catalog.items = engine.catalog.items.append_column("tags", pa.array([["a", "b"], None]))
    engine.catalog.write(tmp_path / "dated")
    return tmp_path / "dated"


def test_every_value_has_a_form_in_json():
    moment = datetime(2026, 1, 4, 9, 30)
    values = {"a": moment, "b": [Decimal("9.90"), Decimal("50.00")], "c": {"d": NAN}, "e": timedelta(minutes=1)}
    written = json.dumps(plain(values), allow_nan=False)
    assert json.loads(written) == {"a": "2026-01-04T09:30:00", "b": [9.9, 50], "c": {"d": None}, "e": 60.0}


def test_results_are_json(run_here, dated, tmp_path):
    run_here("task=search", f"catalog={dated}", f"query={tmp_path}/shop/hat/0.png", "filter='cost < 50'")

    def never(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    (result,) = json.loads((tmp_path / "out/results.json").read_text(), parse_constant=never)
    (hit,) = result["hits"]
    item = hit["item"]
    assert (item["since"], item["cost"], item["rating"], item["tags"]) == ("2026-01-04", 9.9, None, ["a", "b"])


def test_a_list_is_nothing_to_group_by(dated, tmp_path):
    engine = VisualSearchEngine(dated)
    with pytest.raises(FashionError, match="group_by is 'tags', a column of list.*single values"):
        engine.search(tmp_path / "shop/hat/0.png", group_by="tags")
    assert len(engine.search(tmp_path / "shop/hat/0.png", group_by="since")[0].hits) == 2


def test_no_match_is_said_on_the_page_too(dated, tmp_path):
    engine = VisualSearchEngine(dated)
    (result,) = engine.search(tmp_path / "shop/hat/0.png")
    write_results(engine, [replace(result, match=False)], 1, tmp_path)
    assert "(no match)" in (tmp_path / "results.html").read_text()
