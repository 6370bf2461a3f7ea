"""The filter language: against a slow reading in Python, and what it refuses."""

import operator
import random

import pyarrow as pa
import pytest

from fashion.errors import FashionError
from fashion.search.filters import Among, Both, Either, Missing, Not, parse, select

ROWS = [
    {"label": "dress", "price": 10.0, "stock": 3, "sale": True, "brand name": "a"},
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
        ("price < 50", [0]),
        ("price<=50", [0, 1]),
        ("price > 1e1 and sale = true", [3]),
        ("stock > 2.5", [0, 2]),
        ("not price >= 50", [0]),
        ("label in ('dress', 'shoes')", [0, 3]),
        ("label not in ('dress', 'shoes')", [1]),
        ("stock in (0, 3)", [0, 1]),
        ("label is null", [2]),
        ("label is not null and not (sale = false or price = 10)", [3]),
        ("\"brand name\" = 'o''b'", [2]),
        ("sale != true or price is null", [1, 2]),
        ("label = 'dress' or label = 'hat' and price > 60", [0]),
        ("(label = 'dress' or label = 'hat') and price > 60", []),
    ],
)
def test_finds_the_rows_that_it_is_true_for(text, rows):
    assert found(text) == rows


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
        ("__import__('os')", "expected a comparison"),
        ("label; drop table items", "makes no sense"),
        ("colour = 'red'", "column 'colour' is not in the catalogue; it has label, price"),
        ("price = 'red'", "compares the column 'price'"),
        ("label < 3", "compares the column 'label'"),
        ("sale = 1", "compares the column 'sale'"),
        ("label = 'x'" * 500, "characters"),
        ("(" * 1500 + "label = 'x'", "nested too deep"),
    ],
)
def test_refuses_in_one_sentence(text, words):
    with pytest.raises(FashionError, match=words):
        select(text, ITEMS)
