"""Changes of the catalogue that requests make: one after the other, each a new version or nothing."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from fashion.errors import FashionError, OutageError
from fashion.files import explained, flush
from fashion.search.catalog_files import PICTURES
from fashion.search.engine import VisualSearchEngine
from fashion.search.items import add_items, check_row, check_settable, delete_items, places_of, update_items
from fashion.search.store import Store
from fashion.search.table import as_id, typed
from fashion.serve.errors import ApiError
from fashion.serve.pictures import LARGEST, store_picture
from fashion.serve.schemas import ChangedItem, ItemsAnswer, ItemStatus, NewItem, Status, decode
from fashion.serve.service import Service
from fashion.serve.uploads import check_pixels

log = logging.getLogger(__name__)
Change = Callable[[VisualSearchEngine], list[ItemStatus]]
INT64 = range(-(2**63), 2**63)


async def changed(service: Service, client: str, change: Change) -> ItemsAnswer:
    """Do one change after the other; searches go on meanwhile, and see it once it is written.

    Args:
        client: the address that asks for it, for the log.

    Raises:
        ApiError: 409, if the catalogue has a newer version that this server cannot use.
        FashionError: the same, where `Service.reload` is the first to find it.
    """
    async with service.writing:
        started = time.perf_counter()
        await asyncio.to_thread(service.reload)  # so that items are checked against the newest version
        if service.unused_version is not None:
            raise ApiError(
                409, "newer_version",
                f"This server cannot use the catalogue's newer version {service.unused_version}, so changes nothing; "
                "its log says why.",
            )  # fmt: skip
        engine = VisualSearchEngine(service.engine.encoder, service.catalog)
        statuses = await asyncio.to_thread(change, engine)
        if engine.opened is not service.catalog:
            await asyncio.to_thread(service.take, engine.opened)
        version, seconds = service.catalog.version, time.perf_counter() - started
        counts = ", ".join(f"{count} {status}" for status, count in Counter(one.status for one in statuses).items())
        log.info("%s changed the catalogue: %s; version %d, %.2f s", client, counts, version, seconds)
        return ItemsAnswer(items=statuses, catalog_version=version)


def added(engine: VisualSearchEngine, service: Service, items: Sequence[NewItem]) -> list[ItemStatus]:
    """Store the pictures and add the items; if that fails, no picture stays."""
    statuses: list[ItemStatus] = []
    rows: dict[str, dict[str, Any]] = {}
    here = service.catalog.items
    before = places_of(service.catalog, [item.external_id for item in items])
    with pictures_kept(service.store) as paths:
        for item in items:
            row = as_row(item)
            try:
                if item.external_id in rows:
                    raise FashionError("This external_id comes twice in the request.")
                check_columns(item.columns)
                if (other := item.columns.get("external_id", item.external_id)) != item.external_id:
                    raise FashionError(f"Its columns have another external_id, {other!r}; leave that one out.")
                check_row(row)
                typed([*rows.values(), row], here)
                paths.append(stored(item.image, service))
            except OutageError:
                raise
            except (FashionError, ApiError) as error:
                statuses.append(refused(item, error))
            else:
                rows[item.external_id] = row
                status: Status = "replaced" if item.external_id in before else "added"
                statuses.append(ItemStatus(external_id=item.external_id, status=status))
        if rows:
            flush_all(paths)
            ids = iter(add_items(engine, service.store, paths, list(rows.values())))
            for one in statuses:
                one.id = None if one.status == "refused" else next(ids)
    return statuses


def stored(image: str, service: Service) -> Path:
    """Where the picture lies now that was sent as base64.

    Raises:
        FashionError, ApiError: if it is none, or too large; OutageError: if it cannot be written.
    """
    data = decode(image)
    check_pixels([data], service.settings.max_pixels, LARGEST)
    return store_picture(data, service.store.folder / PICTURES)


def flush_all(paths: Sequence[Path]) -> None:
    """So that a power cut loses no picture of a version that is written."""
    for path in (*paths, *{path.parent for path in paths}):
        with explained(path):
            flush(path)


def updated(engine: VisualSearchEngine, service: Service, items: Sequence[ChangedItem]) -> list[ItemStatus]:
    """Set columns and pictures of the items that are known; if that fails, no new picture stays."""
    known = places_of(service.catalog, [item.external_id for item in items])
    rows: dict[int, dict[str, Any]] = {}
    seen: set[str] = set()
    wrong: dict[int, Exception] = {}
    for at, item in enumerate(items):
        if item.external_id not in known:
            continue
        try:
            check_columns(item.columns)
            check_settable(item.external_id, item.columns)
            if item.external_id in seen:
                raise FashionError("This external_id comes twice in the request.")
            seen.add(item.external_id)
            rows[at] = as_row(item)
        except FashionError as error:
            wrong[at] = error
    pictures: dict[int, Path] = {}
    with pictures_kept(service.store) as paths:
        for at in rows:
            try:
                if (image := items[at].image) is not None:
                    pictures[at] = stored(image, service)
                    paths.append(pictures[at])
            except OutageError:
                raise
            except (FashionError, ApiError) as error:
                wrong[at] = error
        # After the pictures: a row that is refused for its picture must not decide the type of a new column.
        unfit = misfits({at: row for at, row in rows.items() if at not in wrong}, service.catalog.items)
        for at in unfit.keys() & pictures.keys():
            paths.remove(pictures[at])
            pictures.pop(at).unlink()
        wrong |= unfit
        changes = {items[at].external_id: items[at].columns for at in rows if at not in wrong}
        if changes:
            flush_all(paths)
            named = {items[at].external_id: path for at, path in pictures.items()}
            update_items(engine, service.store, changes, named)
    return [
        refused(item, wrong[at])
        if at in wrong
        else ItemStatus(external_id=item.external_id, status="changed" if at in rows else "unknown")
        for at, item in enumerate(items)
    ]


def as_row(item: NewItem | ChangedItem) -> dict[str, Any]:
    """What the item says of itself, as the catalogue holds it."""
    row: dict[str, Any] = {**item.columns, "external_id": item.external_id}
    return row | {"product_id": as_id(row["product_id"])} if "product_id" in row else row


def misfits(rows: Mapping[int, Mapping[str, Any]], items: pa.Table) -> dict[int, FashionError]:
    """Which of the numbered rows have columns that do not fit the catalogue's items or the rows before, and why."""
    try:
        typed(list(rows.values()), items)
        return {}
    except FashionError:
        pass  # one of the rows does not fit; which, is found one by one
    founders: list[Mapping[str, Any]] = []  # the first row of each column that is new
    found = {}
    for at, row in rows.items():
        try:
            typed([*founders, row], items)
            if set(row) - set(items.column_names) - {name for one in founders for name in one}:
                founders.append(row)
        except FashionError as error:
            found[at] = error
    return found


def refused(item: NewItem | ChangedItem, error: Exception) -> ItemStatus:
    return ItemStatus(external_id=item.external_id, status="refused", message=str(error))


def deleted(engine: VisualSearchEngine, service: Service, names: Sequence[str]) -> list[ItemStatus]:
    """Delete the items that are known; each name has a status, also where it comes twice."""
    here = places_of(service.catalog, names)
    gone = [name for name in dict.fromkeys(names) if name in here]
    if gone:
        delete_items(engine, service.store, gone)
    return [ItemStatus(external_id=name, status="deleted" if name in here else "unknown") for name in names]


def check_columns(columns: Mapping[str, Any]) -> None:
    """Refuse what no column can be called, and a number that none can hold.

    Raises:
        FashionError: that names it.
    """
    for name, value in columns.items():
        if not name or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise FashionError(f"The column {name!r} has no name that can be written; give it letters.")
        if isinstance(value, int) and value not in INT64:
            raise FashionError(f"The column {name!r} is {value}; whole numbers have 64 bits, so send it as text.")
        if isinstance(value, float) and not math.isfinite(value):
            raise FashionError(f"The column {name!r} is {value}, which is no number; send null for an empty value.")


@contextmanager
def pictures_kept(store: Store) -> Iterator[list[Path]]:
    """A list for stored pictures: if the block fails, they are deleted unless it wrote a version that may name them."""
    paths: list[Path] = []
    before = store.number()
    try:
        yield paths
    except BaseException:
        if store.number() == before:
            for path in paths:
                path.unlink(missing_ok=True)
        raise
