"""What a catalogue's columns are, in words for those who filter by them."""

import pyarrow as pa
import pyarrow.compute as pc

from fashion.search.table import RESERVED, TEXT
from fashion.search.wording import in_words

NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
"""A text that is a number."""

LONGEST = 40
"""Characters of a value that are shown."""


def described(items: pa.Table) -> str:
    """The columns that say something of the items, with their types, for a log line."""
    own = (*RESERVED, "external_id", "bbox")
    told = [
        name
        for name in items.column_names
        if name not in own and not (name in TEXT and items[name].null_count == len(items))
    ]
    return ", ".join(f"{name} ({in_words(items[name].type)}{_why_text(items, name)})" for name in told)


def _why_text(items: pa.Table, name: str) -> str:
    """Of a text column of mostly numbers, the first value that is no number: it is why the column is text."""
    if name in TEXT or not pa.types.is_string(items[name].type):
        return ""
    numbers = pc.match_substring_regex(items[name], NUMBER)
    count = pc.sum(numbers).as_py() or 0
    if not len(numbers) - numbers.null_count > count > (len(numbers) - numbers.null_count) / 2:
        return ""
    odd = items.select(["external_id", name]).filter(pc.invert(numbers)).slice(0, 1)
    return f", because {odd['external_id'][0].as_py()!r} has {odd[name][0].as_py()[:LONGEST]!r}"
