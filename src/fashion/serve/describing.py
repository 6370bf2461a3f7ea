"""What the server tells of an item, and of its catalogue."""

import itertools
from datetime import datetime
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fashion.encoder import Encoder
from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.engine import VisualSearchEngine
from fashion.search.results import check_group
from fashion.search.selecting import select
from fashion.search.store import Store
from fashion.search.table import RESERVED
from fashion.search.values import plain
from fashion.serve.errors import ApiError
from fashion.serve.schemas import IndexAnswer, Sample
from fashion.serve.settings import Settings

HIDDEN = frozenset({"label", *RESERVED})
"""Columns that say how the catalogue is kept, not what the item is; the label is told beside the others."""

NAMES = frozenset({"id", "external_id", "label"})
"""Columns that are told whatever `server.columns` lists: what an item is called."""

SAMPLES = 12

LABELS = 100
"""So many labels are named: the page makes a choice of each, and a shop may have one for every product."""


def is_told(name: str, settings: Settings) -> bool:
    """Whether this server tells of that column of the shop's."""
    return settings.columns is None or name in settings.columns or name in NAMES


def payload(item: dict[str, Any], settings: Settings) -> dict[str, Any]:
    shown = {name: plain(value) for name, value in item.items() if name not in HIDDEN and is_told(name, settings)}
    if not shown.get("bbox"):
        shown.pop("bbox", None)  # an empty one is the whole picture
    return {name: value for name, value in shown.items() if value is not None}


def content_of(item: dict[str, Any]) -> str:
    """A part of the picture's digest, or of what imported embeddings have in its place, and the bbox."""
    return "-".join([str(item["sha256"])[:12], *str(item.get("bbox") or "").split()])


def image_url(item: dict[str, Any], settings: Settings) -> str:
    """The address of the item's picture: another one once its content changes, so that no browser shows the old one."""
    return f"{settings.root_path}/v1/images/{item['id']}?v={quote(content_of(item), safe='')}"


def catalog_with(engine: VisualSearchEngine, number: int) -> Catalog:
    """The catalogue, if it has that item.

    Raises:
        ApiError: 404.
    """
    catalog = engine.opened
    if number not in catalog:
        raise ApiError(404, "no_such_item", f"The catalogue has no item {number}.")
    return catalog


def id_of(engine: VisualSearchEngine, external_id: str) -> int:
    """The id of the item of that name; looks through all of them, a few milliseconds for a million.

    Raises:
        ApiError: 404.
    """
    try:
        return engine.item_number(external_id)
    except FashionError as error:
        raise ApiError(404, "no_such_item", str(error)) from None


def columns(catalog: Catalog, settings: Settings) -> list[str]:
    """The columns that requests may name: filters on hidden ones would give their values away letter by letter."""
    shops = (name for name in catalog.items.column_names if name == "id" or name not in RESERVED)
    return [name for name in shops if is_told(name, settings)]


def check_columns(catalog: Catalog, settings: Settings, filter: str | None, group_by: str | None) -> None:
    """Refuse a hidden column as one that is unknown.

    Raises:
        FashionError: naming it, and those that there are; also for whatever else is wrong with the filter.
    """
    if filter is None and group_by is None:
        return
    known = catalog.items.select(columns(catalog, settings)).slice(0, 0)
    if filter is not None:
        select(filter, known)
    if group_by is not None:
        check_group(group_by, known.column_names)


def items_after(
    catalog: Catalog, settings: Settings, after: int, limit: int, filter: str | None
) -> tuple[list[dict[str, Any]], int | None]:
    """The next items by id, and the id of the last of them; None where there are no more.

    Raises:
        FashionError: if the filter is wrong, or names a hidden column.
    """
    check_columns(catalog, settings, filter, None)
    left = catalog.items.slice(int(np.searchsorted(catalog.ids, after, side="right")))
    if filter is None:
        found, more = left.slice(0, limit), len(left) > limit
    else:
        mask = select(filter, left)
        rows = np.flatnonzero(mask)
        end = int(rows[:limit].max(initial=-1)) + 1
        # Not by `take`, which would first copy all texts into one chunk.
        found, more = left.slice(0, end).filter(pa.array(mask[:end])), len(rows) > limit
    items = found.to_pylist()
    return items, items[-1]["id"] if more else None


def described(catalog: Catalog, encoder: Encoder, settings: Settings) -> IndexAnswer:
    """A catalogue, and the model that searches it; a million items with a quarter of a million labels take 0.2 s."""
    labels = catalog.items["label"].cast(pa.string())
    # Those of some length: to compare them with "" would load all of pandas, where that is installed.
    named = labels.filter(pc.binary_length(labels).cast(pa.bool_())).value_counts()
    counts = pa.table({"label": named.field("values"), "count": named.field("counts")})
    most = counts.sort_by([("count", "descending"), ("label", "ascending")]).slice(0, LABELS).to_pylist()
    return IndexAnswer(
        items=len(catalog),
        version=catalog.version,
        created=written(catalog),
        unused_version=None,
        # Without the address of a Milvus server, which is private and may hold a password.
        index={"kind": catalog.index.kind}
        | {key: value for key, value in catalog.index.settings.items() if key != "uri"},
        recall=catalog.index.recall,
        model=encoder.fingerprint,
        classes=list(encoder.class_names),
        labels=dict(sorted((row["label"], row["count"]) for row in most)),
        distinct_labels=len(counts),
        unlabelled=len(labels) - pc.sum(counts["count"], min_count=0).as_py(),
        products=is_told("product_id", settings) and catalog.items["product_id"].null_count < len(catalog),
        columns=columns(catalog, settings),
        samples=[
            Sample(id=item["id"], label=item["label"], image_url=image_url(item, settings)) for item in spread(catalog)
        ],
        max_k=settings.max_k,
        writable=settings.writable and (catalog.folder is None or Store(catalog.folder).writable()),
        no_match=encoder.no_match,
    )


def written(catalog: Catalog) -> datetime | None:
    """When the catalogue's version was written, as its manifest says; None where it cannot be read."""
    said = Store(catalog.folder).manifest(catalog.version) if catalog.folder else {}
    return datetime.fromisoformat(said["created"]) if "created" in said else None


def spread(catalog: Catalog) -> list[dict[str, Any]]:
    """Items spread over the catalogue, of as many labels as a part of it shows."""
    rows = np.unique(np.linspace(0, len(catalog) - 1, 10 * SAMPLES).astype(int))
    by_label: dict[Any, list[dict[str, Any]]] = {}
    for number in catalog.ids[rows]:
        item = catalog.item(int(number))
        by_label.setdefault(item["label"], []).append(item)
    turns = itertools.zip_longest(*by_label.values())
    return [item for turn in turns for item in turn if item is not None][:SAMPLES]
