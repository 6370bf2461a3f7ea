"""The filter language: against a slow reading in Python, and what it refuses."""

import operator
import random
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from fashion.errors import FashionError
from fashion.search.filters import Among, Both, Either, Missing, Not, columns_of, parse
from fashion.search.selecting import select

ROWS = [
    {"label": "dress", "price": 10.0, "stock": 3, "sale": True, "brand name": "a", "task.module.0.lr": 0.5},
    {"label": "hat", "price": 50.0, "stock": 0, "sale": False, "brand name": None},
    {"label": None, "price": None, "stock": 7, "sale": None, "brand name": "o'b"},
    {"label": "shoes", "price": 99.5, "stock": None, "sale": True, "brand name": "c"},
]
ITEMS = pa.Table.from_pylist(ROWS)


def found(text: str) -> list[int]:
    return select(text, ITEMS).nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("label = 'dress'", [0]),
        ("label == 'dress' OR label='hat'", [0, 1]),
        ("label != 'dress'", [1, 3]),
        ("label <> 'dress'", [1, 3]),
        ("price < 50", [0]),
        ("price<=50", [0, 1]),
        ("price > 1e1 and sale = true", [3]),
        ("stock > 2.5", [0, 2]),
        ("not price >= 50", [0]),
        ("not label = 'dress' and price > 60", [3]),
        ("not label = 'hat' or label = 'hat'", [0, 1, 3]),
        ("NOT sale = TRUE AND price IS NOT NULL", [1]),
        ("label in ('dress', 'shoes')", [0, 3]),
        ("label not in ('dress', 'shoes')", [1]),
        ("stock in (0, 3)", [0, 1]),
        ("label is null", [2]),
        ("label is not null and not (sale = false or price = 10)", [3]),
        ("\"brand name\" = 'o''b'", [2]),
        ("sale != true or price is null", [1, 2]),
        ("task.module.0.lr=.5 and task.module.0.lr<1.5 and price>.5", [0]),
        ("label = 'dress' or label = 'hat' and price > 60", [0]),
        ("(label = 'dress' or label = 'hat') and price > 60", []),
    ],
)
def test_finds_the_rows_that_it_is_true_for(text, rows):
    assert found(text) == rows


def test_the_columns_that_a_filter_names():
    text = 'price < 5 and not ("brand name" is null or price in (7, 8)) and sale = true'
    assert columns_of(parse(text)) == ["price", "brand name", "sale"]


def truth(tree, row):
    """SQL's three values, read off slowly: True, False or None (unknown)."""
    if isinstance(tree, Not):
        inner = truth(tree.part, row)
        return None if inner is None else not inner
    if isinstance(tree, Both | Either):
        first, second = truth(tree.first, row), truth(tree.second, row)
        decisive = isinstance(tree, Either)
        if first is decisive or second is decisive:
            return decisive
        return None if None in (first, second) else not decisive
    value = row[tree.column]
    if isinstance(tree, Missing):
        return value is None
    if value is None:
        return None
    if isinstance(tree, Among):
        return value in tree.values
    operations = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
                  ">=": operator.ge}  # fmt: skip
    return operations[tree.operator](value, tree.value)


def a_filter(dice: random.Random, depth: int) -> str:
    if depth and dice.random() < 0.7:
        inner = [a_filter(dice, depth - 1) for _ in range(2)]
        return dice.choice([f"not ({inner[0]})", f"({inner[0]} and {inner[1]})", f"({inner[0]}) or {inner[1]}"])
    column, value = dice.choice([("label", "'hat'"), ("price", "50"), ("stock", "3"), ("sale", "true")])
    test = dice.choice([f"{dice.choice(['=', '!='])} {value}", f"in ({value}, {value})", "is null", "is not null"])
    return f"{column} {test}"


def test_agrees_with_a_slow_reading():
    dice = random.Random(0)
    for _ in range(300):
        text = a_filter(dice, 3)
        assert found(text) == [at for at, row in enumerate(ROWS) if truth(parse(text), row)], text


DATED = pa.Table.from_pylist(
    [
        {"since": date(2026, 1, 4), "at": datetime(2026, 1, 4, 9), "utc": datetime(2026, 1, 4, 9, tzinfo=UTC),
         "cost": Decimal("9.99"), "id": 1},
        {"since": date(2026, 1, 6), "at": datetime(2026, 1, 6, 9), "utc": datetime(2026, 1, 6, 9, tzinfo=UTC),
         "cost": Decimal("50.00"), "id": 2},
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "since < '2026-01-05'", "since = '2026-01-04'", "since in ('2026-01-04', '2025-01-01')",
        "at <= '2026-01-04T09:00'", "at < '2026-01-05'", "utc < '2026-01-05'",
        "utc = '2026-01-04T10:00:00+01:00'", "cost < 50", "cost = 9.99", "cost <= 49.5", "id < 1.5",
    ],
)  # fmt: skip
def test_dates_and_decimals_are_compared(text):
    assert select(text, DATED).tolist() == [True, False]


@pytest.mark.parametrize(
    "text", ["since < 'soon'", "since < 5", "at = true", "cost = '9.99'", "cost < 1e300", "id = 99999999999999999999"]
)
def test_a_value_that_is_no_date_or_too_large_is_refused(text):
    kind = {"since": "date", "at": "date and time", "cost": "number", "id": "number"}[text.split()[0]]
    with pytest.raises(FashionError, match=rf"the column '{text.split()[0]}' \({kind}\) .*use a value of its type"):
        select(text, DATED)


def test_a_number_too_large_for_an_integer_is_one_for_a_float_column():
    assert select("price < 99999999999999999999", ITEMS).tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a column"),
        ("label", "expected a comparison"),
        ("label =", "expected a value"),
        ("label = dress", "expected a value"),
        ("label = 'dress", "makes no sense"),
        ("label = 'a' and", "expected a column"),
        ("label = 'a' 'b'", "expected nothing more"),
        ("(label = 'a'", "expected a closing"),
        ("label in 'a'", r"expected \("),
        ("label not like 'a'", "expected in"),
        ("price not < 50", "expected in after 'price not'"),
        ("__import__('os')", "expected a comparison"),
        ("label; drop table items", "makes no sense"),
        ("colour = 'red'", "column 'colour' is unknown; there are label, price"),
        ("price = 'red'", "compares the column 'price'"),
        ("label < 3", "compares the column 'label'"),
        ("sale = 1", "compares the column 'sale'"),
        ("stock = true", "compares the column 'stock'"),
        ("price < 1e999", "'1e999' is beyond all numbers"),
        ("price in (3, -1e999)", "'-1e999' is beyond all numbers"),
        ("label = 'x'" * 500, "characters"),
        ("(" * 1500 + "label = 'x'", "nested too deep"),
    ],
)
def test_refuses_in_one_sentence(text, words):
    with pytest.raises(FashionError, match=words):
        select(text, ITEMS)
