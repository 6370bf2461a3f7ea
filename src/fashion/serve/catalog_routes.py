"""/v1/index, /v1/items, /v1/images: what the catalogue holds, and changes to it."""

import hashlib
import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, Security
from fastapi.security import APIKeyHeader

from fashion.data.images import BadPictureError
from fashion.search.catalog import Catalog
from fashion.search.listing import box_of
from fashion.serve.bodies import bounded
from fashion.serve.changes import added, changed, deleted, updated
from fashion.serve.describing import catalog_with, content_of, id_of, image_url, items_after, payload
from fashion.serve.errors import ApiError, address, documented
from fashion.serve.limits import once
from fashion.serve.pictures import rounded, state_of, thumbnail_of
from fashion.serve.schemas import ChangedItems, IndexAnswer, ItemAnswer, ItemList, ItemsAnswer, NewItems, Wanted
from fashion.serve.service import Service
from fashion.serve.settings import Settings
from fashion.serve.uploads import check_address, check_count

FOR_GOOD = "public, max-age=31536000, immutable"
DIGEST = re.compile("[0-9a-f]{64}")


def reading(service: Service) -> APIRouter:
    """The routes that only read."""
    routes = APIRouter(tags=["catalogue"], responses=documented(429))

    @routes.get("/index")
    async def index() -> IndexAnswer:
        """The catalogue that is searched, and the model that searches it."""
        return service.description.model_copy(update={"unused_version": service.unused_version})

    @routes.get("/items/{number}", responses=documented(404, 422))
    async def item(number: int) -> ItemAnswer:
        """What is known of the item of that id."""
        return told(catalog_with(service.engine, number).item(number), service.settings)

    @routes.get("/items", dependencies=[once(Wanted.model_fields)], responses=documented(404, 422, 503))
    async def items(asked: Annotated[Wanted, Query()]) -> ItemAnswer | ItemList:
        """What is known of the items, in order of their ids, or of the one of that external_id."""
        engine, name, others = service.engine, asked.external_id, asked.model_fields_set - {"external_id"}
        if name is not None and others:
            raise ApiError(422, "invalid", f"{min(others)}: an external_id names one item; leave this out.")
        with service.place():
            if name is None:
                return await service.run(lambda: listed(service.catalog, asked, service.settings))
            number = await service.run(lambda: id_of(engine, name))
        return told(catalog_with(engine, number).item(number), service.settings)

    @routes.get(
        "/images/{number}", response_class=Response, dependencies=[once(("size", "v"))],
        responses=documented(404, 422, 503)
        | {200: {"content": {"image/jpeg": {}}}, 304: {"description": "If-None-Match names this picture."}},
    )  # fmt: skip
    async def image(
        number: int, request: Request, size: int | None = Query(None, ge=16, le=1024), v: str | None = None
    ) -> Response:
        """The item's picture, or the part of it that its bbox names, as a JPEG.

        Its longer side has `size` pixels, rounded up to 64, 128, 256, 512 or 1024.
        `v`, which comes with `image_url`, is each content's own: with it the picture may be kept for good.
        """
        catalog = catalog_with(service.engine, number)
        found = catalog.item(number)
        wanted, bbox = rounded(size or service.settings.thumbnail), found.get("bbox")
        known_tags = request.headers.get("if-none-match", "").split(",")
        try:
            with service.place():
                state = await service.run(lambda: state_of(catalog.picture(found)))
                # The tag is of the file as it is now.  If that is not the one that was embedded, `v` does not name it,
                # so it is not kept for good; nor where imported embeddings came with something else as sha256.
                content = f"{found['sha256']} {state} {bbox} {wanted}"
                tag = f'"{hashlib.sha256(content.encode()).hexdigest()[:24]}"'
                as_noted = state == (found["file_size"], found["file_mtime_ns"])
                lasts = as_noted and v == content_of(found) and bool(DIGEST.fullmatch(str(found["sha256"])))
                headers = {"ETag": tag, "Cache-Control": FOR_GOOD if lasts else "private, max-age=60"}
                if any(one.strip().removeprefix("W/") in (tag, "*") for one in known_tags):
                    return Response(status_code=304, headers=headers)
                data = await service.run(lambda: thumbnail_of(catalog.picture(found), wanted, box_of(bbox)))
        except BadPictureError:
            raise ApiError(404, "no_picture", f"The picture of item {number} is gone, or cannot be read.") from None
        return Response(data, media_type="image/jpeg", headers=headers)

    return routes


def listed(catalog: Catalog, asked: Wanted, settings: Settings) -> ItemList:
    """A part of the catalogue's items."""
    found, after = items_after(catalog, settings, asked.after, asked.limit, asked.filter)
    items = [told(item, settings) for item in found]
    return ItemList(items=items, after=after, catalog_version=catalog.version)


def told(item: dict[str, Any], settings: Settings) -> ItemAnswer:
    return ItemAnswer(
        id=item["id"], external_id=item["external_id"], label=item["label"], payload=payload(item, settings),
        image_url=image_url(item, settings),
    )  # fmt: skip


def writing(service: Service) -> APIRouter:
    """The routes that change the catalogue."""
    key = APIKeyHeader(name="X-API-Key", auto_error=False, description="Of servers that have one.")  # to document it
    routes = APIRouter(
        tags=["catalogue"], route_class=bounded(service, writes=True), dependencies=[Security(key)],
        responses=documented(401, 403, 409, 415, 422, 429, 503),
    )  # fmt: skip

    @routes.post("/items")
    async def add(wanted: NewItems, request: Request) -> ItemsAnswer:
        """Add items, or replace those whose external_id is known; each has a status of its own."""
        check_address(request)
        check_count(len(wanted.items), service.settings.max_pictures)
        return await changed(service, address(request), lambda engine: added(engine, service, wanted.items))

    @routes.patch("/items")
    async def update(wanted: ChangedItems, request: Request) -> ItemsAnswer:
        """Set columns or pictures of items; what is not named stays as it is."""
        check_address(request)
        check_count(sum(item.image is not None for item in wanted.items), service.settings.max_pictures)
        return await changed(service, address(request), lambda engine: updated(engine, service, wanted.items))

    @routes.delete("/items")
    async def delete(
        external_id: Annotated[list[str], Query(min_length=1, max_length=1000)], request: Request
    ) -> ItemsAnswer:
        """Delete items by external_id."""
        return await changed(service, address(request), lambda engine: deleted(engine, service, external_id))

    return routes
