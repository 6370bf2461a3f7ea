"""Columns of dates, decimals, lists and NaN: searched, and written as JSON that any reader takes."""

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from helpers import write_pictures
from pyarrow import parquet

from fashion import VisualSearchEngine
from fashion.data.tables import read_rows
from fashion.errors import FashionError
from fashion.search.items import add_items, update_items
from fashion.search.listing import Listing
from fashion.search.selecting import select
from fashion.search.store import Store
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


@pytest.mark.parametrize(
    ("given", "held"),
    [
        (24.5, "24.5"),
        (10, "10"),
        (125.555, "125.555"),
        ("9.50", "9.50"),
        (Decimal("0.0001"), "0.0001"),
        ("12345678901234567890", "12345678901234567890"),
        (None, None),
    ],
)
def test_decimals_are_set_as_numbers_and_as_text(bundle, tmp_path, given, held):
    root = write_pictures(tmp_path / "shop", {".": {"hat": 2}})
    listing = Listing(
        root, [root / "hat/0.png", root / "hat/1.png"], {"price": [Decimal("9.99")] * 2, "none": [None] * 2}
    )
    engine, store = VisualSearchEngine(bundle), Store(tmp_path / "c")
    with store.writer():
        engine.sync(listing, store)
    add_items(engine, store, [root / "hat/0.png"], [{"external_id": "A", "price": given}])
    update_items(engine, store, {"hat/1.png": {"price": given}})
    expected = None if held is None else Decimal(held)
    assert engine.catalog.items["price"].to_pylist() == [Decimal("9.99"), expected, expected]
    if held is not None:
        assert select(f"price = {held}", engine.catalog.items).tolist() == [False, True, True]
        assert select("price < 9.995", engine.catalog.items).tolist() == [True, *[expected < 9.995] * 2]
    with store.writer():
        assert engine.sync(listing, store).other_columns == ["hat/1.png"]
        version = store.number()
        assert (engine.sync(listing, store).unchanged, store.number()) == (2, version)


@pytest.mark.parametrize("given", ["cheap", "inf", True, date(2026, 1, 1), 1e300, "1e20", "1e-19"])
def test_what_is_no_decimal_is_refused(bundle, dated, given):
    engine, store = VisualSearchEngine(bundle, dated), Store(dated)
    name = str(engine.catalog.items["external_id"][0])
    with pytest.raises(FashionError, match=r"column 'cost' \(number\); use a number, of at most 20 digits before"):
        update_items(engine, store, {name: {"cost": given, "tags": None}})


def test_dates_are_set_as_text(bundle, dated):
    engine, store = VisualSearchEngine(bundle, dated), Store(dated)
    name = str(engine.catalog.items["external_id"][1])
    engine.catalog.items = engine.catalog.items.drop_columns(["tags"])
    engine.catalog.write(dated)
    update_items(engine, store, {name: {"since": "2026-01-31"}})
    assert [row["since"] for row in engine.catalog.items.to_pylist()] == [date(2026, 1, 4), date(2026, 1, 31)]
    first = str(engine.catalog.items["external_id"][0])
    update_items(engine, store, {name: {"since": "2026-02-01"}, first: {"rating": 3.0}})  # a text beside a date
    assert [row["since"] for row in engine.catalog.items.to_pylist()] == [date(2026, 1, 4), date(2026, 2, 1)]
    with pytest.raises(
        FashionError,
        match=r"'tomorrow' in the column 'since' \(date\); use a value of its type, such as '2026-01-31'\.",
    ):
        update_items(engine, store, {name: {"since": "tomorrow"}})


def test_times_in_nanoseconds_are_cut_down(tmp_path):
    times = pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns"))
    parquet.write_table(pa.table({"path": ["a", "b"], "label": ["x", "y"], "when": times}), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("path,label,when\na,x,2023-11-14 22:13:20.123456789\nb,y,\n")
    for name in ("t.parquet", "t.csv"):
        first, second = read_rows(tmp_path / name)
        assert first["when"] == datetime(2023, 11, 14, 22, 13, 20, 123456)
        assert second["when"] is None


@pytest.mark.parametrize("text", ["file_mtime_ns > 1.5", "id >= 0.5 or id < 0.5"])
def test_whole_numbers_are_compared_with_fractions(dated, text):
    assert select(text, VisualSearchEngine(dated).catalog.items).all()


def test_a_list_is_nothing_to_group_by(dated, tmp_path):
    engine = VisualSearchEngine(dated)
    with pytest.raises(FashionError, match="group_by is 'tags', a column of lists or records; name one of single"):
        engine.search(tmp_path / "shop/hat/0.png", group_by="tags")
    assert len(engine.search(tmp_path / "shop/hat/0.png", group_by="since")[0].hits) == 2


def test_no_match_is_said_on_the_page_too(dated, tmp_path):
    engine = VisualSearchEngine(dated)
    (result,) = engine.search(tmp_path / "shop/hat/0.png")
    write_results(engine, [replace(result, match=False)], 1, tmp_path)
    page = (tmp_path / "results.html").read_text()
    assert "(no match)" in page
    assert "are drawn" not in page


def test_a_page_says_that_not_all_hits_are_drawn(dated, tmp_path):
    engine = VisualSearchEngine(dated)
    (result,) = engine.search(tmp_path / "shop/hat/0.png")
    write_results(engine, [replace(result, hits=result.hits * 300)], 1, tmp_path)
    page = (tmp_path / "results.html").read_text()
    assert "At most 40 queries and 12 hits of each are drawn; the table lists the others too." in page
    assert page.count(f"<td>{result.hits[0].name}</td>") == 300


def test_products_that_are_given_as_numbers_or_nan(bundle, tmp_path):
    root = write_pictures(tmp_path / "shop", {".": {"hat": 4}})
    engine = VisualSearchEngine(bundle)
    engine.sync(Listing(root, sorted(root.glob("hat/*.png")), {"product_id": [NAN, 12.0, 12, "13"]}))
    assert engine.catalog is not None
    assert engine.catalog.items["product_id"].to_pylist() == [None, "12", "12", "13"]


def test_a_column_of_short_floats_is_compared_as_it_was_written():
    items = pa.table({"price": pa.array([9.99, 20.0], pa.float32())})
    assert [select(text, items).tolist() for text in ("price = 9.99", "price > 9.99", "price = 1e300")] == [
        [True, False],
        [False, True],
        [False, False],
    ]
