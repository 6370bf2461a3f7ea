"""The filter language of searches: `label = 'dress' and price < 50`.

    filter     = all { "or" all }
    all        = one { "and" one }
    one        = "not" one | "(" filter ")" | column test
    test       = ("=" | "!=" | "<" | "<=" | ">" | ">=") value | ["not"] "in" "(" value {"," value} ")" | "is" ["not"] "null"
    column     = letters, digits, _ and dots, as in price or model.name | "any other"
    value      = 'text' ('' for a quote) | 'date' (as 2026-01-31, or 2026-01-31T12:00) | number | true | false

A filter is parsed into a tree over the catalogue's columns and never evaluated as code or handed on as text.  As in SQL,
a comparison with a missing value is neither true nor false, and only what is true is found.
"""  # noqa: E501

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fashion.errors import FashionError

Value = str | int | float | bool
"""What a filter can name."""

LONGEST = 2000
"""Characters of a filter at most: longer ones could nest too deep to parse."""


@dataclass(frozen=True)
class Compare:
    column: str
    operator: str  # = != < <= > >=
    value: Value


@dataclass(frozen=True)
class Among:
    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Missing:
    column: str


@dataclass(frozen=True)
class Not:
    part: "Filter"


@dataclass(frozen=True)
class Both:
    first: "Filter"
    second: "Filter"


@dataclass(frozen=True)
class Either:
    first: "Filter"
    second: "Filter"


Filter = Compare | Among | Missing | Not | Both | Either

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"""
    r"""|(?P<operator><=|>=|!=|<>|==|[=<>(),])|(?P<name>[^\W\d]\w*(?:\.\w+)*)|(?P<quoted>"[^"]+"))"""
)
_WORDS = {"and", "or", "not", "in", "is", "null", "true", "false"}
_SAME = {"==": "=", "<>": "!="}


def parse(text: str) -> Filter:
    """A filter's text → its tree.

    Raises:
        FashionError: that shows the place where it stops making sense.
    """
    if len(text) > LONGEST:
        raise FashionError(f"The filter has {len(text)} characters; {LONGEST} are the most.")
    parser = _Parser(text)
    try:
        tree = parser.either()
    except RecursionError:
        raise FashionError("The filter is nested too deep.") from None
    parser.expect("end", "nothing more, or and/or")
    return tree


def columns_of(tree: Filter) -> list[str]:
    """The columns that a filter names, each once, in order."""
    if isinstance(tree, Not):
        return columns_of(tree.part)
    if isinstance(tree, Both | Either):
        return list(dict.fromkeys(columns_of(tree.first) + columns_of(tree.second)))
    return [tree.column]


class _Parser:
    """Recursive descent over the tokens (kind, value, place); kind is `word`, `name`, `operator`, `value` or `end`."""

    def __init__(self, text: str):
        self.text = text
        self.tokens = list(_tokens(text))
        self.at = 0

    @property
    def token(self) -> tuple[str, Any, int]:
        return self.tokens[self.at]

    def fail(self, wanted: str) -> FashionError:
        before = self.text[: self.token[2]].rstrip()
        return FashionError(
            f"filter={self.text!r}: expected {wanted} after {before!r}; write it like: label = 'dress' and price < 50, "
            'and odd names of columns in double quotes: "2x" > 1'
        )

    def accept(self, kind: str, value: Any = None) -> bool:
        found = self.token[0] == kind and (value is None or self.token[1] == value)
        self.at += found
        return found

    def expect(self, kind: str, wanted: str, value: Any = None) -> Any:
        token = self.token
        if token[0] != kind or (value is not None and token[1] != value):
            raise self.fail(wanted)
        self.at += 1
        return token[1]

    def either(self) -> Filter:
        tree = self.both()
        while self.accept("word", "or"):
            tree = Either(tree, self.both())
        return tree

    def both(self) -> Filter:
        tree = self.one()
        while self.accept("word", "and"):
            tree = Both(tree, self.one())
        return tree

    def one(self) -> Filter:
        if self.accept("word", "not"):
            return Not(self.one())
        if self.accept("operator", "("):
            tree = self.either()
            self.expect("operator", "a closing )", ")")
            return tree
        return self.test(self.expect("name", "a column, not or ("))

    def test(self, column: str) -> Filter:
        if self.accept("word", "is"):
            negated = self.accept("word", "not")
            self.expect("word", "null", "null")
            return Not(Missing(column)) if negated else Missing(column)
        negated = self.accept("word", "not")
        if self.accept("word", "in"):
            self.expect("operator", "(", "(")
            values = [self.expect("value", "a value")]
            while self.accept("operator", ","):
                values.append(self.expect("value", "a value"))
            self.expect("operator", "a closing )", ")")
            tree: Filter = Among(column, tuple(values))
            return Not(tree) if negated else tree
        operator = self.token[1]
        if negated or self.token[0] != "operator" or operator in "(),":
            raise self.fail("in" if negated else "a comparison (= != < <= > >=), in (…), or is null")
        self.at += 1
        return Compare(column, operator, self.expect("value", "a value: a number, 'text', true or false"))


def _tokens(text: str) -> Iterator[tuple[str, Any, int]]:
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if not match:
            place = text[at:].strip()[:20]
            raise FashionError(f"filter={text!r}: {place!r} makes no sense; quote text with ' and columns with \".")
        kind, found = str(match.lastgroup), str(match[match.lastgroup or 0])
        place_at, at = match.start(kind), match.end()
        word = found.lower()
        if kind == "text":
            yield "value", found[1:-1].replace("''", "'"), place_at
        elif kind == "number":
            number = float(found) if re.search(r"[.eE]", found) else int(found)
            if number in (math.inf, -math.inf):
                raise FashionError(f"filter={text!r}: {found!r} is beyond all numbers; 1e308 is about the largest.")
            yield "value", number, place_at
        elif kind == "quoted":
            yield "name", found[1:-1], place_at
        elif kind == "operator":
            yield "operator", _SAME.get(found, found), place_at
        elif word in ("true", "false"):
            yield "value", word == "true", place_at
        else:
            yield ("word", word, place_at) if word in _WORDS else ("name", found, place_at)
    yield "end", None, len(text)
