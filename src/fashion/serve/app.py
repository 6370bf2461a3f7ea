"""The application: routes over a `Service`, the page, and the limits around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.cors import CORSMiddleware

from fashion.serve import catalog_routes, search_routes
from fashion.serve.counting import Counting
from fashion.serve.errors import ApiError, Unforeseen, add_handlers, documented
from fashion.serve.limits import Limits
from fashion.serve.service import Service
from fashion.versions import versions

STATIC = Path(__file__).parent / "static"
ASK_AGAIN = {"Cache-Control": "no-cache"}
"""Browsers check each time for a newer file: an old script does not fit a new page."""


class Fresh(StaticFiles):
    """The page's files, which browsers check for newer ones."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(ASK_AGAIN)
        return response


def create_app(service: Service) -> FastAPI:
    """The ASGI application that serves `service`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPIOffline(
        title="fashion", version=versions("fashion")["fashion"], lifespan=lifespan, redoc_url=None,
        responses=documented(400, 408, 413), redirect_slashes=False,  # whose address is wrong behind a proxy
        description="Which garments look like this one?  Nothing here loads anything from elsewhere.",
    )  # fmt: skip
    add_handlers(app, service.settings.root_path)
    app.include_router(search_routes.router(service), prefix="/v1")
    app.include_router(catalog_routes.reading(service), prefix="/v1")
    app.include_router(catalog_routes.writing(service), prefix="/v1")
    _add_checks(app, service)
    app.add_middleware(Limits, settings=service.settings)
    app.add_middleware(Unforeseen)
    if service.settings.origins:  # around both, so that their pages can read errors too
        # No X-API-Key, PATCH or DELETE: nobody needs to change the catalogue from another site's page.
        app.add_middleware(
            CORSMiddleware, allow_origins=service.settings.origins, allow_methods=["GET", "HEAD", "POST"],
            expose_headers=["Retry-After"],
        )  # fmt: skip
    app.add_middleware(
        Counting, figures=service.figures, root_path=service.settings.root_path
    )  # around the limits: their refusals count too
    app.mount("/static", Fresh(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=ASK_AGAIN)

    return app


def _add_checks(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["operation"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"], responses=documented(503))
    async def readyz() -> dict[str, str | int | None]:
        """The catalogue is loaded and can be searched; `unused_version`: a newer one that could not be taken up."""
        if not service.ready:
            raise ApiError(503, "not_ready", "The catalogue is being loaded.", {"Retry-After": "1"})
        numbers = {"catalog_version": service.catalog.version, "unused_version": service.unused_version}
        return {"status": "ready", **numbers}

    @app.get("/metrics", tags=["operation"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(service.figures.registry), media_type=CONTENT_TYPE_LATEST)
