"""Tables of pictures, CSV or Parquet, as rows of Python's own values."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from fashion.errors import FashionError

COLUMNS = ("path", "label", "split")
"""What a table of pictures has; the split may be missing."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV or Parquet file, each column → value.

    Raises:
        FashionError: if it is neither.
    """
    return _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)


def text(value: Any) -> str:
    """A table's value as text; 0 is a value, None is none."""
    return "" if value is None else str(value).strip()


def _csv(path: Path) -> list[dict[str, Any]]:
    """Rows whose further columns are numbers, booleans or dates where all their values are; names and ids stay text."""
    as_text = (*COLUMNS, "external_id", "product_id", "group", "bbox")
    convert = csv.ConvertOptions(column_types=dict.fromkeys(as_text, pa.string()), strings_can_be_null=True)
    try:
        return list(microseconds(csv.read_csv(path, convert_options=convert)).to_pylist())
    except pa.ArrowException as error:
        raise FashionError(f"{path} is not a CSV file in UTF-8 ({str(error).splitlines()[0]}).") from error


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        return list(microseconds(parquet.read_table(path)).to_pylist())
    except (pa.ArrowException, OSError) as error:  # OSError: Arrow's, of damaged pages
        raise FashionError(f"{path} is not a Parquet file ({str(error).splitlines()[0]}).") from error


def microseconds(table: Any) -> Any:
    """An Arrow table whose times in nanoseconds, which Python's own cannot hold, are cut down to microseconds."""
    types = pa.types
    for at, field in enumerate(table.schema):
        if getattr(field.type, "unit", None) != "ns":
            continue
        if types.is_timestamp(field.type):
            kind = pa.timestamp("us", field.type.tz)
        else:
            kind = pa.time64("us") if types.is_time(field.type) else pa.duration("us")
        table = table.set_column(at, field.name, table[field.name].cast(kind, safe=False))
    return table
