"""One shape for every error: {"error": {"code": "bad_picture", "message": "what to do about it"}}."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fashion.data.images import BadPictureError
from fashion.errors import BusyError, FashionError, OtherModelError, OutageError

log = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    code: str
    message: str


class ErrorBody(BaseModel):
    """What every answer that is no success says."""

    error: ErrorDetail


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside success, for the OpenAPI document."""
    return {status: {"model": ErrorBody} for status in statuses}


def body(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def respond(error: ApiError) -> JSONResponse:
    return JSONResponse(body(error.code, error.message), error.status, error.headers)


def address(request: Request) -> str:
    """The client's address, if it is known."""
    return request.client.host if request.client else "nobody"


def misfit(found: Mapping[str, Any], skip: int = 0) -> ApiError:
    """What pydantic found wrong with a request; `skip`: first parts of its place that the client did not send."""
    if found["type"] == "json_invalid":
        return ApiError(400, "bad_json", f"The request is not JSON: {found['ctx']['error']}.")
    where = ".".join(str(part) for part in found["loc"][skip:]) or "the request"
    return ApiError(422, "invalid", f"{where}: {found['msg']}.")


def methods(app: FastAPI, path: str) -> list[str]:
    """All methods of a path: a route of its own serves each, and knows of no other.

    Whatever is not documented is a page or a file, which is only read.
    """
    document = app.openapi()["paths"]
    patterns = {re.sub(r"\{[^}]+\}", "[^/]+", known): operations for known, operations in document.items()}
    found = {name.upper() for known, operations in patterns.items() if re.fullmatch(known, path) for name in operations}
    return sorted(found | {"HEAD"} if "GET" in found else found or {"GET", "HEAD"})


def add_handlers(app: FastAPI, root_path: str) -> None:
    """Turn what a request raises into that shape; `Unforeseen` does the rest."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            log.warning("%s was refused %s %s: %s", address(request), request.method, request.url.path, error.message)
        return respond(error)

    async def busy(request: Request, error: Exception) -> JSONResponse:
        message = "Another process is changing the catalogue; try again in a few seconds."
        return respond(ApiError(503, "catalog_busy", message, {"Retry-After": "5"}))

    async def outage(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s: %s", request.method, request.url.path, error)
        message = "The server cannot do that now, since its disk or its index does not; its log says how."
        return respond(ApiError(503, "outage", message, {"Retry-After": "60"}))

    async def other_model(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s: %s", request.method, request.url.path, error)
        message = (
            "The catalogue's newest version is of another model, so this server changes nothing; its log says more."
        )
        return respond(ApiError(409, "newer_version", message))

    async def refused(request: Request, error: Exception) -> JSONResponse:
        bad = isinstance(error, BadPictureError)
        return respond(ApiError(422, "bad_picture" if bad else "bad_request", str(error)))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return respond(misfit(error.errors()[0], skip=1))  # body, query or path

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(methods(app, request.url.path.removeprefix(root_path)))
        return respond(ApiError(error.status_code, code, str(error.detail), headers))

    app.add_exception_handler(ApiError, ours)
    app.add_exception_handler(BusyError, busy)
    app.add_exception_handler(OutageError, outage)
    app.add_exception_handler(OtherModelError, other_model)
    app.add_exception_handler(FashionError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


class Unforeseen:
    """Logs exceptions that nothing else handles, and answers with a 500 that says nothing of them.

    No exception handler: Starlette runs that of `Exception` outside of all middleware, so the answer would lack the
    CORS headers that a page of a listed origin needs to read it.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if scope["type"] != "http" or begun:
                raise
            log.error("%s %s failed", scope["method"], Request(scope).url.path, exc_info=error)
            await respond(ApiError(500, "internal", "The server failed; its log says how."))(scope, receive, send)
