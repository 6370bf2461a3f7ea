"""Which items a filter is true for: its tree over the columns of the items' table."""

import functools
from collections.abc import Callable
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fashion.errors import FashionError
from fashion.search.filters import Among, Both, Compare, Either, Filter, Missing, Not, Value, parse
from fashion.search.table import moments
from fashion.search.wording import in_words, of_its_type

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def select(tree: Filter | str, items: pa.Table) -> NDArray[np.bool_]:
    """Which rows [N] of `items` the filter is true for.

    Raises:
        FashionError: if a column is unknown, or its type is not the value's.
    """
    tree = parse(tree) if isinstance(tree, str) else tree
    mask: NDArray[np.bool_] = in_numpy(_truth(tree, items).fill_null(False))
    return mask


def in_numpy(mask: pa.ChunkedArray) -> NDArray[np.bool_]:
    """The mask in one piece; as it is, Arrow would load all of pandas for it, where that is installed."""
    return np.asarray(mask.combine_chunks().to_numpy(zero_copy_only=False))


def _truth(tree: Filter, items: pa.Table) -> pa.ChunkedArray:
    if isinstance(tree, Not):
        return pc.invert(_truth(tree.part, items))
    if isinstance(tree, Both):
        return pc.and_kleene(_truth(tree.first, items), _truth(tree.second, items))
    if isinstance(tree, Either):
        return pc.or_kleene(_truth(tree.first, items), _truth(tree.second, items))
    column = column_of(tree.column, items)
    if isinstance(tree, Missing):
        return pc.is_null(column)
    if isinstance(tree, Among):
        if pa.types.is_string(column.type) and all(isinstance(value, str) for value in tree.values):
            found = pc.is_in(column, value_set=pa.array(tree.values, pa.string()))  # a look-up, however many values
            return pc.if_else(pc.is_valid(column), found, None)
        equal = [_truth(Compare(tree.column, "=", value), items) for value in tree.values]
        return functools.reduce(pc.or_kleene, equal)
    return compared(_OPERATIONS[tree.operator], tree.column, column, tree.value)


def column_of(name: str, items: pa.Table) -> pa.ChunkedArray:
    """The column of that name, its values as they are.

    Raises:
        FashionError: if there is none.
    """
    if name not in items.column_names:
        like = [one for one in items.column_names if name in one] or get_close_matches(name, items.column_names)
        hint = f"did you mean {' or '.join(like)}?" if like else f"there are {', '.join(items.column_names)}."
        raise FashionError(f"The filter's column {name!r} is unknown; {hint}")
    column = items[name]
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def compared(operation: Callable[..., Any], name: str, column: Any, value: Value) -> Any:
    """Of each row of the column called `name`, whether `operation` is true of it and `value`; null where it is null.

    Raises:
        FashionError: if the value is not of the column's type, which would find nothing and say nothing.
    """
    if pa.types.is_integer(column.type) and isinstance(value, float):
        column = column.cast(pa.float64(), safe=False)  # Arrow refuses whole numbers that a fraction cannot hold
    try:
        return operation(column, _scalar(column.type, value))
    except (pa.ArrowException, OverflowError):
        raise FashionError(
            f"The filter compares the column {name!r} ({in_words(column.type)}) with {value!r}; use "
            f"{of_its_type(column.type)}."
        ) from None


def _scalar(dtype: pa.DataType, value: Value) -> pa.Scalar:
    types = pa.types
    if types.is_null(dtype):
        return pa.scalar(value)
    if isinstance(value, bool):
        fits = types.is_boolean(dtype)
    elif isinstance(value, str):
        if types.is_temporal(dtype):
            return moments(pa.array([value]), dtype)[0]
        fits = types.is_string(dtype) or types.is_large_string(dtype)
    elif types.is_decimal(dtype):
        return pa.scalar(Decimal(repr(value)))  # by its text: as a float 9.99 is not exact
    else:
        if types.is_floating(dtype):
            return pa.scalar(float(value)).cast(dtype)
        fits = types.is_integer(dtype)
    if not fits:
        raise pa.ArrowTypeError
    return pa.scalar(value)
