"""Tables of pictures, CSV or Parquet, as rows of Python's own values."""

import csv as python_csv
import io
import re
from collections import Counter
from collections.abc import Sequence
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

LEADING_ZERO = re.compile(rb'[,;\t"\n][ +-]*0\d')
"""Where a CSV file may have a number like 00421: a name, which is another without its zeros."""

DECIMAL_COMMA = re.compile(rb"(?:^|;)-?\d+,\d+(?=;|\r?$)", re.MULTILINE)
"""A number as spreadsheets write it where ; stands between the columns."""


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
    data = path.read_bytes()
    reader, comma = _reader(path, data)
    names = [name.strip() for name in next(filter(None, reader), [])]
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise FashionError(f"{path} has {count} columns {name!r}; rename or remove all but one.")
    head = csv.ReadOptions(column_names=names, skip_rows=reader.line_num)
    parse = csv.ParseOptions(delimiter=comma, newlines_in_values=True)
    point = "," if comma == ";" and DECIMAL_COMMA.search(data) else "."

    def read(columns: list[str], texts: Sequence[str]) -> pa.Table:
        types = dict.fromkeys(texts, pa.string())
        convert = csv.ConvertOptions(column_types=types, include_columns=columns, decimal_point=point)
        return csv.read_csv(pa.BufferReader(data), head, parse, convert)

    try:
        table = read(names, AS_TEXT)
        numbers = [field.name for field in table.schema if _is_number(field.type)]
        if numbers and LEADING_ZERO.search(data):
            texts = read(numbers, numbers)
            for name in numbers:
                if pc.any(pc.match_substring_regex(texts[name], r"^\s*[-+]?0\d")).as_py():
                    table = table.set_column(names.index(name), name, texts[name])
    except pa.ArrowException as error:
        _check_quotes(path, data)
        raise FashionError(f"{path} cannot be read as CSV ({str(error).splitlines()[0]}).") from error
    if any(pa.types.is_string(column.type) and pc.any(pc.match_substring(column, "\n")).as_py() for column in table):
        _check_quotes(path, data)
    rows = list(tidy(_without_empty(table)).to_pylist())
    while rows and not any(value is not None for value in rows[-1].values()):  # spreadsheets write such at the end
        rows.pop()
    return rows


def _reader(path: Path, data: bytes) -> tuple[Any, str]:
    """Python's reader of a CSV file, and what stands between its columns: a comma, ; or a tab.

    It is what makes `path` a column of the first line, as others may be in columns' names.

    Raises:
        FashionError: if it is no UTF-8.
    """
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FashionError(f"{path}, line {line}: this is no UTF-8; save the table as CSV in UTF-8.") from None
    first = content.partition("\n")[0]
    other = next((sign for sign in ";\t" if sign in first and "," not in first), ",")
    comma = next((sign for sign in ",;\t" if "path" in (name.strip(' "\r') for name in first.split(sign))), other)
    return python_csv.reader(io.StringIO(content, newline=""), delimiter=comma, strict=True), comma


def _check_quotes(path: Path, data: bytes) -> None:
    """Refuse a table in which a stray quotation mark made one value of what are several rows.

    Raises:
        FashionError: naming the line of the first.
    """
    reader, begins = _reader(path, data)[0], 1
    try:
        for _ in reader:
            begins = reader.line_num + 1
    except python_csv.Error:
        raise FashionError(
            f"{path}, line {begins}: a quotation mark opens a value that does not end as it should; remove it, or "
            "write it twice in a value that is quoted."
        ) from None


def _is_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))


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
