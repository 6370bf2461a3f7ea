"""/v1/index, /v1/items, /v1/images: what the catalogue holds, and changes to it."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pyarrow.compute as pc
from fastapi import APIRouter, Depends, Query, Request, Response

from fashion.data.images import BadPictureError
from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.engine import VisualSearchEngine
from fashion.search.items import add_items, delete_items
from fashion.serve.errors import ApiError
from fashion.serve.limits import check_writer
from fashion.serve.pictures import store_picture, thumbnail_of
from fashion.serve.schemas import IndexAnswer, ItemAnswer, ItemsAnswer, ItemStatus, NewItem, NewItems, decode
from fashion.serve.search_routes import known, payload
from fashion.serve.service import Service
from fashion.serve.uploads import check_pixels

SAMPLES = 12


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["catalogue"])

    def writer(request: Request) -> None:
        check_writer(request, service.settings)

    @routes.get("/index")
    async def index() -> IndexAnswer:
        """The catalogue that is searched, and the model that searches it."""
        return described(service.engine, service.settings.writable)

    @routes.get("/items/{number}")
    async def item(number: int) -> ItemAnswer:
        """What is known of the item of that id."""
        found = known(service.engine, number).item(number)
        return ItemAnswer(
            id=number, external_id=found["external_id"], label=found["label"], payload=payload(found),
            image_url=f"/v1/images/{number}",
        )  # fmt: skip

    @routes.get("/images/{number}", response_class=Response)
    async def image(number: int, request: Request, size: int | None = Query(None, ge=16, le=1024)) -> Response:
        """The item's picture as a JPEG, small."""
        catalog = known(service.engine, number)
        found = catalog.item(number)
        wanted = size or service.settings.thumbnail
        tag = f'"{found["sha256"][:24]}-{wanted}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        try:
            data = await service.run(lambda: thumbnail_of(catalog.picture(found), wanted))
        except BadPictureError:
            raise ApiError(404, "no_picture", f"The picture of item {number} is gone, or cannot be read.") from None
        headers = {"ETag": tag, "Cache-Control": "private, max-age=60"}
        return Response(data, media_type="image/jpeg", headers=headers)

    @routes.post("/items", dependencies=[Depends(writer)])
    async def add(wanted: NewItems) -> ItemsAnswer:
        """Add items, or replace those whose external_id is known; each has a status of its own."""
        if len(wanted.items) > service.settings.max_pictures:
            raise ApiError(422, "too_many", f"At most {service.settings.max_pictures} items a request; send less.")
        return await changed(service, lambda engine: added(engine, service, wanted.items))

    @routes.delete("/items", dependencies=[Depends(writer)])
    async def delete(external_id: Annotated[list[str], Query(min_length=1, max_length=1000)]) -> ItemsAnswer:
        """Delete items by external_id."""
        return await changed(service, lambda engine: deleted(engine, service, external_id))

    return routes


def described(engine: VisualSearchEngine, writable: bool) -> IndexAnswer:
    catalog, encoder = engine.catalog, engine.encoder
    assert catalog is not None
    counts = pc.value_counts(catalog.items["label"].drop_null()).to_pylist()
    step = max(len(catalog) // SAMPLES, 1)
    return IndexAnswer(
        items=len(catalog),
        version=catalog.version,
        index={"kind": catalog.index.kind, **catalog.index.settings},
        recall=catalog.index.recall,
        model=encoder.fingerprint,
        classes=list(encoder.class_names),
        labels={str(row["values"]): row["counts"] for row in sorted(counts, key=lambda row: str(row["values"]))},
        columns=catalog.items.column_names,
        samples=catalog.ids[::step][:SAMPLES].tolist(),
        writable=writable,
        no_match=encoder.no_match,
    )


async def changed(service: Service, change: Callable[[VisualSearchEngine], list[ItemStatus]]) -> ItemsAnswer:
    """Do one change after the other; searches go on meanwhile, and see it once it is written."""
    async with service.writing:
        engine = VisualSearchEngine(service.engine.encoder, service.catalog)
        statuses = await asyncio.to_thread(change, engine)
        if engine.catalog is not service.catalog:
            assert isinstance(engine.catalog, Catalog)
            service.use(engine.catalog)
        return ItemsAnswer(items=statuses, catalog_version=service.catalog.version)


def added(engine: VisualSearchEngine, service: Service, items: list[NewItem]) -> list[ItemStatus]:
    folder = service.store.folder / "pictures"
    statuses: list[ItemStatus] = []
    rows: dict[str, tuple[Path, dict[str, Any]]] = {}
    for item in items:
        try:
            if item.external_id in rows:
                raise FashionError("This external_id comes twice in the request.")
            data = decode(item.image)
            check_pixels(data, service.settings.max_pixels)
            rows[item.external_id] = store_picture(data, folder), {**item.columns, "external_id": item.external_id}
        except (FashionError, ApiError) as error:
            statuses.append(ItemStatus(external_id=item.external_id, status="refused", message=str(error)))
    if rows:
        assert engine.catalog is not None
        before = set(engine.catalog.items["external_id"].to_pylist())
        try:
            ids = add_items(
                engine, service.store, [path for path, _ in rows.values()], [row for _, row in rows.values()]
            )
        except FashionError:
            for path, _ in rows.values():
                with contextlib.suppress(OSError):
                    path.unlink()
            raise
        for name, number in zip(rows, ids, strict=True):
            status = "replaced" if name in before else "added"
            statuses.append(ItemStatus(external_id=name, status=status, id=number))
    return statuses


def deleted(engine: VisualSearchEngine, service: Service, names: list[str]) -> list[ItemStatus]:
    assert engine.catalog is not None
    here = set(Catalog.open(service.store.folder).items["external_id"].to_pylist())
    gone = [name for name in dict.fromkeys(names) if name in here]
    if gone:
        delete_items(engine, service.store, gone)
    return [
        ItemStatus(external_id=name, status="deleted" if name in here else "unknown") for name in dict.fromkeys(names)
    ]
