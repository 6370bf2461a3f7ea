"""Values of the catalogue's columns: compared with a filter's, and written as JSON."""

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from fashion.errors import FashionError

Value = str | int | float | bool
"""What a filter can name."""


def compared(operation: Callable[..., Any], name: str, column: Any, value: Value) -> Any:
    """Of each row of the column called `name`, whether `operation` is true of it and `value`; null where it is null.

    Raises:
        FashionError: if the value is not of the column's type, which would find nothing and say nothing.
    """
    try:
        return operation(column, _scalar(column.type, value))
    except (pa.ArrowException, OverflowError):
        raise FashionError(
            f"The filter compares the column {name!r} ({column.type}) with {value!r}; use a value of its type."
        ) from None


def _scalar(kind: pa.DataType, value: Value) -> pa.Scalar:
    types = pa.types
    if types.is_null(kind):
        return pa.scalar(value)
    if isinstance(value, bool):
        fits = types.is_boolean(kind)
    elif isinstance(value, str):
        if types.is_temporal(kind):
            return _moment(kind, value)
        fits = types.is_string(kind) or types.is_large_string(kind)
    elif types.is_decimal(kind):
        return pa.scalar(Decimal(repr(value)))  # by its text: 9.99 is no sum of halves
    else:
        fits = types.is_integer(kind) or types.is_floating(kind)
        value = float(value) if types.is_floating(kind) else value
    if not fits:
        raise pa.ArrowTypeError
    return pa.scalar(value)


def _moment(kind: pa.DataType, text: str) -> pa.Scalar:
    """A date or time, as ISO 8601 writes it; of a column with a time zone in UTC, where the text names no zone."""
    scalar = pa.scalar(text)
    try:
        return scalar.cast(kind)
    except pa.ArrowInvalid:
        if not pa.types.is_timestamp(kind) or kind.tz is None:
            raise
        return scalar.cast(pa.timestamp(kind.unit)).cast(kind)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: moments as ISO 8601 text, durations as seconds, decimals as numbers, NaN as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else str(value)
