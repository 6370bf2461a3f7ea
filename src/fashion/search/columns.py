"""What a catalogue's columns are, in words for those who filter by them."""

import pyarrow as pa

from fashion.search.table import RESERVED, TEXT
from fashion.search.wording import in_words, odd_one

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
    odd = None if name in TEXT else odd_one(items, name)
    return f", because {odd[0]!r} has {odd[1][:LONGEST]!r}" if odd else ""


def turned_to_text(before: pa.Table, now: pa.Table) -> list[str]:
    """A sentence for each column that was of another type: filters that were right are so no more."""
    names = [name for name in now.column_names if name in before.column_names and name not in TEXT]
    types = {name: before[name].type for name in names if pa.types.is_string(now[name].type)}
    return [
        f"The column {name!r} ({in_words(dtype)}) is text now{_why_text(now, name)}; filters of its former type are "
        "refused."
        for name, dtype in types.items()
        if not pa.types.is_string(dtype) and not pa.types.is_null(dtype)
    ]
