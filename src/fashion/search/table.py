"""The items' table: which columns the catalogue notes itself, what others may hold, and how two tables become one."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fashion.errors import FashionError
from fashion.search.wording import in_words, odd_one, of_its_type

RESERVED = ("id", "path", "sha256", "file_size", "file_mtime_ns", "origin")
"""Columns that the catalogue notes itself; origin: `source` items come and go with it, `added` ones by request only."""

TEXT = dict.fromkeys(("external_id", "path", "label", "product_id", "bbox"), pa.string())
"""Columns that are text in every catalogue."""

MISFITS = (pa.ArrowException, ArithmeticError, TypeError, ValueError)

DIGITS = 18
"""Digits that a column of decimals has at least, however few its values need: the next price may have more."""


WHOLE, BEHIND = 20, 18
"""Digits that a decimal has at most before and behind the point, so that whatever comes fits into one column of 38."""


def check_reserved(columns: Iterable[str], where: str) -> None:
    """Refuse columns that the catalogue would overwrite.

    Raises:
        FashionError: naming the first.
    """
    taken = [name for name in columns if name in RESERVED]
    if taken:
        other = "call it external_id if it names the item, or rename it" if taken[0] == "id" else "rename it"
        raise FashionError(f"{where} has a column {taken[0]!r}, which the catalogue notes by itself; {other}.")


def as_id(value: Any) -> str | None:
    """A product's id as text, also where it was given as a number, whole or NaN; None where there is none."""
    if isinstance(value, float) and (math.isnan(value) or value.is_integer()):
        return None if math.isnan(value) else str(int(value))
    return None if value in (None, "") else str(value)


def column(name: str, values: Sequence[Any], items: Sequence[str], dtype: pa.DataType | None = None) -> pa.Array:
    """A column of one value an item; NaN is an empty value.

    Args:
        items: the items' external ids.
        dtype: the column's type, where it has one: whole numbers may become fractions, decimals may get more digits,
            and nothing else changes.

    Raises:
        FashionError: naming the first item whose value does not fit: a list, a number of more than 64 bits, bytes that
            are no text, or something else than the items before it have.
    """
    values = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    try:
        return _array(values, dtype)
    except MISFITS as error:
        fitting, at = 0, len(values)
        while at - fitting > 1:  # values[:fitting] fit, values[:at] do not
            middle = (fitting + at) // 2
            fitting, at = (middle, at) if _fits(values[:middle], dtype) else (fitting, middle)
        said = f"The item {items[fitting]!r} has {values[fitting]!r} in the column {name!r}"
        if not _fits([values[fitting]], None):
            raise FashionError(f"{said}; no column can hold that, write it as text.") from error
        holds = dtype or _array(values[:fitting], None).type
        decimal = f"a number, of at most {WHOLE} digits before the point and {BEHIND} after it"
        right = decimal if pa.types.is_decimal(holds) else of_its_type(holds)
        raise FashionError(f"{said} ({in_words(holds)}); use {right}.") from error


def _array(values: Sequence[Any], dtype: pa.DataType | None) -> pa.Array:
    if dtype is not None and pa.types.is_temporal(dtype) and any(isinstance(value, str) for value in values):
        texts = [value.isoformat() if isinstance(value, date | time) else value for value in values]
        return moments(pa.array(texts, pa.string()), dtype)
    if dtype is not None and pa.types.is_decimal(dtype):
        return _widened(pa.array([None if value is None else _decimal(value) for value in values]), dtype)
    whole = dtype is not None and pa.types.is_integer(dtype)
    made = pa.array(values, None if whole else dtype)
    if whole and not pa.types.is_floating(made.type):  # with a type given, Arrow would cut 9.5 down to 9
        made = pa.array(values, dtype)
    if pa.types.is_nested(made.type):
        raise TypeError(f"{made.type} is no single value")
    if pa.types.is_decimal(made.type):
        return _widened(made, pa.decimal128(DIGITS, made.type.scale))
    return made.cast(pa.string()) if pa.types.is_binary(made.type) else made


def _decimal(value: Any) -> Decimal:
    """A number, or a text of one, just as it is written: as a float 9.99 is not exact.

    Raises:
        ArithmeticError, TypeError, ValueError: if it is none.
    """
    number = Decimal(str(value))
    if not number.is_finite() or number.adjusted() >= WHOLE or int(number.as_tuple().exponent) < -BEHIND:
        raise ValueError(f"{value!r} is no decimal")
    return number


def _widened(decimals: pa.Array, dtype: pa.DataType) -> pa.Array:
    """The decimals as a column of `dtype`, which gets as many digits before and after the point as they need."""
    if pa.types.is_null(decimals.type):
        return decimals.cast(dtype)
    scale = max(dtype.scale, decimals.type.scale)
    digits = scale + max(dtype.precision - dtype.scale, decimals.type.precision - decimals.type.scale)
    return decimals.cast(pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale))


def moments(texts: pa.Array, dtype: pa.DataType) -> pa.Array:
    """Dates or times that ISO 8601 writes, as a column of that type; where it has a zone and they do not, in UTC.

    Raises:
        ArrowInvalid: if one is none.
    """
    try:
        return texts.cast(dtype)
    except pa.ArrowInvalid:
        if not pa.types.is_timestamp(dtype) or dtype.tz is None:
            raise
        return texts.cast(pa.timestamp(dtype.unit)).cast(dtype)


def _fits(values: Sequence[Any], dtype: pa.DataType | None) -> bool:
    try:
        _array(values, dtype)
    except MISFITS:
        return False
    return True


def typed(rows: Sequence[Mapping[str, Any]], like: pa.Table) -> pa.Table:
    """A table of the rows, with the columns of all of them.

    Args:
        like: the catalogue's items, whose columns' types hold, but for those of which no item has a value yet.

    Raises:
        FashionError: if a value does not fit, see `column`.
    """
    names = [str(row["external_id"]) for row in rows]
    dtypes = {name: like[name].type for name in like.column_names if like[name].null_count < len(like)} | TEXT
    return pa.table(
        {
            name: column(name, [row.get(name) for row in rows], names, dtypes.get(name))
            for name in dict.fromkeys(name for row in rows for name in row)
        }
    )


def joined(first: pa.Table, second: pa.Table) -> pa.Table:
    """The rows of both; a column that one lacks is empty there.

    Raises:
        FashionError: naming an item of `second` that has, say, text in a column where `first` has numbers.
    """
    for name in (name for name in second.column_names if name in first.column_names):
        if first[name].type == second[name].type:
            continue
        first, second = (_untyped(table, name) for table in (first, second))
        try:
            fields = [pa.schema([table.schema.field(name)]) for table in (first, second)]
            pa.unify_schemas(fields, promote_options="permissive")
        except pa.ArrowException as error:
            raise _misfit(first, second, name) from error
    return pa.concat_tables([first, second], promote_options="permissive")


def _untyped(table: pa.Table, name: str) -> pa.Table:
    """The table; its column of that name has no type if it holds nothing."""
    if table[name].null_count < len(table):
        return table
    return table.set_column(table.column_names.index(name), name, pa.nulls(len(table)))


def _misfit(first: pa.Table, second: pa.Table, name: str) -> FashionError:
    odd = second.filter(pc.is_valid(second[name]))
    item, value = odd["external_id"][0].as_py(), odd[name][0].as_py()
    wrong = odd_one(first, name)
    if wrong is not None:
        return FashionError(
            f"The item {wrong[0]!r} has {wrong[1]!r} in the column {name!r}, which makes it text, and added items have "
            f"it as {in_words(second[name].type)}; correct it in the source."
        )
    others = f" (and {len(odd) - 1} others)" if len(odd) > 1 else ""
    return FashionError(
        f"The added item {item!r}{others} has {value!r} in the column {name!r} ({in_words(first[name].type)} in the "
        f"source); empty it with task=items update='{item}' +columns.{name}=null, or delete the item."
    )


def differing(first: pa.Table, second: pa.Table) -> NDArray[np.bool_]:
    """Which rows [N] of two tables of N rows say something else of their items; a column that one lacks is empty."""
    found = np.zeros(len(first), np.bool_)
    for name in dict.fromkeys([*first.column_names, *second.column_names]):
        if name in RESERVED and name != "path":
            continue
        one, other = (
            table[name] if name in table.column_names else pa.chunked_array([pa.nulls(len(table))])
            for table in (first, second)
        )
        try:
            unequal = pc.fill_null(pc.not_equal(one, other), False)
        except pa.ArrowException:  # text and numbers
            unequal = pc.and_(pc.is_valid(one), pc.is_valid(other))
        for part in (unequal, pc.xor(pc.is_valid(one), pc.is_valid(other))):
            found |= np.asarray(part)
    return found
