"""The types of columns in words; apart, so that messages of all modules can use them."""

import pyarrow as pa
import pyarrow.compute as pc

ALIKE = (r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", r"\d{4}-\d\d-\d\d([T ].*)?", "(?i:true|false)")
"""Texts that are numbers, dates, and true or false."""


def in_words(dtype: pa.DataType) -> str:
    """A column's type as a shop would call it."""
    types = pa.types
    words = (
        (types.is_integer, "number"),
        (types.is_floating, "number"),
        (types.is_decimal, "number"),
        (types.is_string, "text"),
        (types.is_large_string, "text"),
        (types.is_boolean, "true or false"),
        (types.is_date, "date"),
        (types.is_timestamp, "date and time"),
        (types.is_time, "time"),
        (types.is_duration, "duration"),
        (types.is_null, "empty"),
    )
    return next((word for fits, word in words if fits(dtype)), str(dtype))


def of_its_type(dtype: pa.DataType) -> str:
    """What a value for such a column should be."""
    types = pa.types
    examples = ((types.is_date, "'2026-01-31'"), (types.is_timestamp, "'2026-01-31 18:30'"), (types.is_boolean, "true"))
    example = next((text for fits, text in examples if fits(dtype)), None)
    return "a value of its type" + (f", such as {example}" if example else "")


def odd_one(items: pa.Table, name: str) -> tuple[str, str] | None:
    """The first other value of a text column of mostly numbers, dates, or true and false: it made all of them text.

    Returns:
        The item's external_id, and the value.
    """
    texts = items[name]
    if not pa.types.is_string(texts.type):
        return None
    given = len(texts) - texts.null_count
    for pattern in ALIKE:
        fits = pc.match_substring_regex(texts, rf"^\s*{pattern}\s*$")
        if given > (pc.sum(fits).as_py() or 0) > given / 2:
            odd = items.select(["external_id", name]).filter(pc.invert(fits)).slice(0, 1)
            return odd["external_id"][0].as_py(), odd[name][0].as_py()
    return None
