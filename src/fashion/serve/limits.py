"""What is checked of every request before anything is done for it: size, patience, origin, key."""

import asyncio
import hmac
from urllib.parse import urlsplit

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fashion.serve.errors import ApiError, respond
from fashion.serve.settings import Settings

HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data: blob:; object-src 'none'; "
     b"frame-ancestors 'none'; base-uri 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]  # fmt: skip

DOCS = ("/docs", "/redoc")
"""FastAPI's documentation pages start with a script inside the page."""


class Limits:
    """Cuts off bodies that are too long or come too slowly, and adds the headers that browsers heed."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app, self.settings = app, settings
        self.most = int(settings.max_upload_mb * 1e6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            try:
                message = await asyncio.wait_for(receive(), self.settings.read_timeout_s)
            except asyncio.TimeoutError:
                raise ApiError(408, "too_slow", "The request did not arrive in time; send it again.") from None
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise self.too_large()
            return message

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = HEADERS if scope["path"] not in DOCS else HEADERS[1:]
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.most:
            await respond(self.too_large())(scope, receive, guarded)
            return
        has_body = length != b"0" or b"transfer-encoding" in dict(scope["headers"])
        await self.app(scope, limited if has_body else receive, guarded)

    def too_large(self) -> ApiError:
        return ApiError(413, "too_large", f"The request is larger than {self.settings.max_upload_mb:g} MB; send less.")


def check_writer(request: Request, settings: Settings) -> None:
    """Refuse a change of the catalogue by who may not make it.

    A web page of another site can make a browser post to this server: its Origin gives it away.
    """
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise ApiError(403, "foreign_origin", "Pages of other sites may not change this catalogue.")
    if settings.api_key is not None:
        given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), settings.api_key.encode()):
            raise ApiError(
                401, "no_key", "Changes need the API key, in the header X-API-Key.", {"WWW-Authenticate": "Bearer"}
            )
    elif not settings.writable:
        raise ApiError(403, "read_only", "This server was started without an API key, so its catalogue is read-only.")
