"""The types of columns in words; apart, so that messages of all modules can use them."""

import pyarrow as pa


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
