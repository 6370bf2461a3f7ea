"""What a sync drops only where that is allowed: most of the items, the names that were given them, whole columns."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.listing import Listing
from fashion.search.plan import Plan
from fashion.search.remaking import typed_overrides
from fashion.search.table import RESERVED


def added(old: Catalog) -> NDArray[np.bool_]:
    """Which items [N] were added by request."""
    return np.asarray(pc.equal(old.items["origin"], "added"))


def check_shrink(old: Catalog | None, left: NDArray[np.int64], allow_shrink: bool) -> None:
    """Refuse to empty a catalogue because its source is, say, not mounted, or can hardly be read.

    Args:
        left: ids of the items that there will be.

    Raises:
        FashionError: if more than half of the source's items would go, or of the added ones.
    """
    if old is None or allow_shrink:
        return
    by_request = added(old)
    for some, what in (
        (~by_request, "items are no longer in the source, or cannot be read"),
        (by_request, "added items would be lost, as their pictures are gone or cannot be read"),
    ):
        before = old.ids[some]
        gone = int((~np.isin(before, left)).sum())
        if gone > len(before) / 2:
            raise FashionError(
                f"{gone} of the catalogue's {len(before)} {what}; if that is meant, add allow_shrink=true."
            )


def check_given(old: Catalog | None, planned: Plan, listing: Listing, allow_shrink: bool) -> None:
    """Refuse to drop names and columns because, say, the folder of a table's pictures is named in place of the table.

    Raises:
        FashionError: if items would be renamed and more than half of the external ids would go that are no paths, or
            the source has no longer a column that it filled before.
    """
    if old is None or allow_shrink:
        return
    before = old.items.filter(pa.array(~added(old)))
    lost = [*_lost_names(before, planned), *_lost_columns(before, old.given, listing)]
    if lost:
        made = typed_overrides(old.made_from)
        raise FashionError(
            f"{'; '.join(lost)}{f' (the catalogue was made from {made})' if made else ''}; if that is meant, add "
            "allow_shrink=true."
        )


def _lost_names(before: pa.Table, planned: Plan) -> Iterator[str]:
    if not planned.changes.renamed:  # without renames, names go only with their items
        return
    pairs = zip(before["external_id"].to_pylist(), before["path"].to_pylist(), strict=True)
    given = [name for name, path in pairs if name != path]
    here = set(planned.items["external_id"].to_pylist())
    gone = [name for name in given if name not in here]
    if len(gone) > len(given) / 2:
        yield f"{len(gone)} of the catalogue's {len(given)} external ids (such as {gone[0]!r}) are not in the source"


def _lost_columns(before: pa.Table, given: list[str] | None, listing: Listing) -> Iterator[str]:
    """The columns that the source gave and lacks now; where that was not noted, those that most items have."""
    here = {*listing.columns, *(("bbox",) if listing.boxes else ())}
    counts = {name: _count(before[name]) for name in filled(before) if name not in here}
    lost = [
        f"{name} ({count} values)"
        for name, count in counts.items()
        if (count > len(before) / 2 if given is None else name in given)
    ]
    if lost:
        yield f"the source has no column {', '.join(lost)}"


def filled(items: pa.Table) -> list[str]:
    """The columns in which an item has a value, but for external ids and those that the catalogue notes itself."""
    return [name for name in items.column_names if name not in (*RESERVED, "external_id") and _count(items[name])]


def _count(column: pa.ChunkedArray) -> int:
    """How many items have a value there; an empty text is none, such as the bbox of a whole picture."""
    if pa.types.is_string(column.type):
        column = column.filter(pc.binary_length(column).cast(pa.bool_()))
    return len(column) - column.null_count
