"""Tables of pictures, CSV or Parquet, as rows of Python's own values."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from fashion.errors import FashionError

COLUMNS = ("path", "label", "split")
"""What a table of pictures has; the split may be missing."""

AS_TEXT = (*COLUMNS, "external_id", "product_id", "group", "bbox")
"""Columns that name things: text, also where a table has them as numbers."""

LITERAL = (*COLUMNS, "external_id")
"""Columns where NA, null or nan is a name like any other, and only an empty cell has none."""

MISSING = pa.array(csv.ConvertOptions().null_values)
"""What says in the other columns of a CSV file that there is no value: an empty cell, NA, null, nan, …"""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV or Parquet file, each column → value.

    Raises:
        FashionError: if it is neither, or has two columns of one name.
    """
    return _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)


def text(value: Any) -> str:
    """A table's value as text; 0 is a value, None is none."""
    return "" if value is None else str(value).strip()


def _csv(path: Path) -> list[dict[str, Any]]:
    """Rows whose further columns are numbers, booleans or dates where all their values are; names and ids stay text."""
    convert = csv.ConvertOptions(column_types=dict.fromkeys(AS_TEXT, pa.string()))
    parse = csv.ParseOptions(newlines_in_values=True)
    try:
        table = csv.read_csv(path, parse_options=parse, convert_options=convert)
    except pa.ArrowException as error:
        raise FashionError(f"{path} cannot be read as CSV in UTF-8 ({str(error).splitlines()[0]}).") from error
    name, count = Counter(table.column_names).most_common(1)[0]
    if count > 1:
        raise FashionError(f"{path} has {count} columns {name}; rename or remove all but one.")
    return list(tidy(_without_empty(table)).to_pylist())


def _without_empty(table: pa.Table) -> pa.Table:
    """The table with null where a text says that there is no value; of numbers Arrow has seen to that."""
    for at, field in enumerate(table.schema):
        if field.type == pa.string():
            missing = pc.is_in(table[at], pa.array([""]) if field.name in LITERAL else MISSING)
            table = table.set_column(at, field, pc.if_else(missing, None, table[at]))
    return table


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        return list(tidy(parquet.read_table(path)).to_pylist())
    except (pa.ArrowException, OSError) as error:  # OSError: Arrow's, of damaged pages
        raise FashionError(f"{path} is not a Parquet file ({str(error).splitlines()[0]}).") from error


def tidy(table: pa.Table) -> pa.Table:
    """The table with what Python's values, and other tables, say of the same things.

    NaN is an empty value, names and ids are text, short floats are the decimals that they were written as, and times in
    nanoseconds, which Python's own cannot hold, are cut down to microseconds.
    """
    for at, field in enumerate(table.schema):
        column = _tidy(table[field.name], field.name in AS_TEXT)
        if column.type != field.type or column.null_count != table[field.name].null_count:
            table = table.set_column(at, field.name, column)
    return table


def _tidy(column: pa.ChunkedArray, as_text: bool) -> pa.ChunkedArray:
    types, dtype = pa.types, column.type
    if types.is_floating(dtype):
        if dtype.bit_width < 64:  # 9.99 of 32 bits is 9.989999771118164 of 64, and 9.99 by its text
            column = column.cast(pa.float32()).cast(pa.string()).cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), None, column)
        # pandas writes whole numbers so, where some are missing.
        if as_text and pc.all(pc.equal(column, pc.trunc(column))).as_py():
            column = column.cast(pa.int64())
    elif getattr(dtype, "unit", None) == "ns":
        column = column.cast(_cut(dtype), safe=False)
    return column.cast(pa.string()) if as_text and types.is_primitive(column.type) else column


def _cut(dtype: Any) -> pa.DataType:
    """A type of times in nanoseconds, in microseconds."""
    if pa.types.is_timestamp(dtype):
        return pa.timestamp("us", dtype.tz)
    return pa.time64("us") if pa.types.is_time(dtype) else pa.duration("us")
