"""/v1/search, /v1/embed, /v1/classify, asked with pictures; /v1/similar, /v1/items/{id}/similar, with an item."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from fashion.search.engine import VisualSearchEngine
from fashion.search.results import SearchResult
from fashion.serve.bodies import bounded
from fashion.serve.describing import catalog_with, check_columns, id_of, image_url, payload
from fashion.serve.errors import ApiError, documented
from fashion.serve.limits import once
from fashion.serve.schemas import (
    ClassifyAnswer,
    ClassProbability,
    EmbedAnswer,
    HitBody,
    How,
    Like,
    Pictures,
    SearchAnswer,
    SearchRequest,
)
from fashion.serve.service import Service
from fashion.serve.settings import Settings
from fashion.serve.uploads import read_request


def both_forms(model: type[Pictures], fields: dict[str, Any]) -> dict[str, Any]:
    """The two forms of a request, for the documentation page."""
    file = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    form = {"type": "object", "properties": {"file": file, **fields}, "required": ["file"]}
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["search"], route_class=bounded(service), responses=documented(415, 422, 429, 503))

    async def alike(engine: VisualSearchEngine, number: int, wanted: How) -> SearchAnswer:
        started, settings = time.perf_counter(), service.settings
        result = await service.run(lambda: engine.like_item(number, **limited(engine, settings, wanted)))
        return answer(engine, settings, result, started)

    @routes.post("/search", openapi_extra=both_forms(SearchRequest, How.model_json_schema()["properties"]))
    async def search(request: Request) -> SearchAnswer:
        """What looks like this picture?  Several pictures are taken for one item."""
        started = time.perf_counter()
        pictures, wanted = await read_request(request, service.settings, SearchRequest)
        engine, settings = service.engine, service.settings
        (result,) = await service.run(
            lambda: engine.search(pictures(), together=True, **limited(engine, settings, wanted))
        )
        return answer(engine, settings, result, started)

    @routes.get("/items/{number}/similar", dependencies=[once(How.model_fields)], responses=documented(404))
    async def similar(number: int, wanted: Annotated[How, Query()]) -> SearchAnswer:
        """What looks like the catalogue's item of that id?"""
        engine = service.engine
        catalog_with(engine, number)
        return await alike(engine, number, wanted)

    @routes.get("/similar", dependencies=[once(Like.model_fields)], responses=documented(404))
    async def similar_to(wanted: Annotated[Like, Query()]) -> SearchAnswer:
        """What looks like the catalogue's item of that external_id?"""
        engine = service.engine
        number = await service.run(lambda: id_of(engine, wanted.external_id))
        return await alike(engine, number, wanted)

    @routes.post("/embed", openapi_extra=both_forms(Pictures, {}))
    async def embed(request: Request) -> EmbedAnswer:
        """The pictures' embeddings, of length 1: compare them by dot product."""
        started = time.perf_counter()
        pictures, _ = await read_request(request, service.settings, Pictures)
        encoder = service.engine.encoder
        vectors, _ = await service.run(lambda: service.engine.encode(pictures()))
        elapsed = round(1000 * (time.perf_counter() - started), 3)
        return EmbedAnswer(embeddings=vectors.tolist(), model=encoder.fingerprint, processing_time_ms=elapsed)

    @routes.post("/classify", openapi_extra=both_forms(Pictures, {}))
    async def classify(request: Request) -> ClassifyAnswer:
        """All classes with their probabilities, likeliest first, for each picture."""
        started = time.perf_counter()
        pictures, _ = await read_request(request, service.settings, Pictures)
        encoder = service.engine.encoder
        _, probabilities = await service.run(lambda: service.engine.encode(pictures()))
        results = [
            sorted(
                (
                    ClassProbability(label=label, probability=float(value))
                    for label, value in zip(encoder.class_names, row, strict=True)
                ),
                key=lambda one: -one.probability,
            )
            for row in probabilities
        ]
        elapsed = round(1000 * (time.perf_counter() - started), 3)
        return ClassifyAnswer(results=results, model=encoder.fingerprint, processing_time_ms=elapsed)

    return routes


def limited(engine: VisualSearchEngine, settings: Settings, wanted: How) -> dict[str, Any]:
    """The engine's arguments.

    Raises:
        ApiError: 422, if k is larger than this server gives.
        FashionError: if the filter or group_by names a column that is hidden.
    """
    check_columns(engine.opened, settings, wanted.filter, wanted.group_by)
    if wanted.k > settings.max_k:
        raise ApiError(
            422, "invalid", f"k is {wanted.k}; this server gives at most {settings.max_k} hits (server.max_k)."
        )
    return wanted.model_dump(include=set(How.model_fields))


def answer(engine: VisualSearchEngine, settings: Settings, result: SearchResult, started: float) -> SearchAnswer:
    predicted = None
    if result.predicted is not None and result.probability is not None:
        predicted = ClassProbability(label=result.predicted, probability=result.probability)
    return SearchAnswer(
        hits=[
            HitBody(
                rank=hit.rank, score=hit.score, id=hit.id, label=hit.label, payload=payload(hit.item, settings),
                image_url=image_url(hit.item, settings),
            )
            for hit in result.hits
        ],
        predicted=predicted,
        match=result.match,
        processing_time_ms=round(1000 * (time.perf_counter() - started), 3),
        model=engine.encoder.fingerprint,
        catalog_version=engine.opened.version,
    )  # fmt: skip
