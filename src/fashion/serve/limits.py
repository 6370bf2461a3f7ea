"""What is checked of requests before anything is done for them: host, rate, size, key, origin, values given twice."""

import hmac
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import anyio
from fastapi import Depends, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fashion.serve.errors import ApiError, respond
from fashion.serve.rates import Rates
from fashion.serve.settings import LOOPBACK, Settings

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
POLICY = b"default-src 'self'%s; img-src 'self' data: blob:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'"
INLINE = {"/docs": b" 'unsafe-inline'"}
"""FastAPI's documentation page starts with a script inside the page."""


CHECKS = ("/healthz", "/readyz", "/metrics")
"""Monitoring asks these often and from one address, so no rate limit applies."""

LINGER_S = 5
"""Seconds in which the rest of a refused request may still come."""


class Limits:
    """Refuses strange hosts, bodies that are too long and addresses that ask too often; adds security headers."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app, self.settings = app, settings
        self.most = int(settings.max_upload_mb * 1e6)
        self.rates = Rates(settings.rate_limit) if settings.rate_limit else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen, whole, path = 0, False, scope["path"].removeprefix(self.settings.root_path)

        async def read() -> Message:
            nonlocal whole
            message = await receive()
            whole = not message.get("more_body", False)
            return message

        async def limited() -> Message:
            nonlocal seen
            message = await read()
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise self.too_large()
            return message

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY % INLINE.get(path, b""))
                message["headers"] = [*message.get("headers", ()), policy, *HEADERS]
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if last and closes(scope) and not whole:
                await send({**message, "more_body": True})
                await linger(read, lambda: whole)
                message = {"type": "http.response.body"}
            await send(message)

        refusal = self.refusal(scope, path)
        if refusal is not None:
            await respond(refusal)(scope, receive, guarded)
            return
        # A HEAD is a GET whose body the server leaves out.
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        await self.app(asked, limited, guarded)
        scope["route"] = asked.get("route")

    def refusal(self, scope: Scope, path: str) -> ApiError | None:
        """What is wrong with a request by its head alone."""
        headers = dict(scope["headers"])
        if self.settings.loopback and host_name(headers.get(b"host", b"")) not in LOOPBACK:
            known = "This server answers to the hosts 127.0.0.1, localhost and ::1 only"
            return ApiError(400, "bad_host", f"{known}; a proxy should ask for one of them.")
        if self.rates and path not in CHECKS:
            refused = self.rates.refusal((scope.get("client") or ("",))[0])
            if refused:
                return refused
        length = headers.get(b"content-length", b"0")
        return self.too_large() if length.isdigit() and int(length) > self.most else None

    def too_large(self) -> ApiError:
        return ApiError(413, "too_large", f"The request is larger than {self.settings.max_upload_mb:g} MB; send less.")


def closes(scope: Scope) -> bool:
    """Whether the connection ends with this request, as its client wants."""
    wish = dict(scope["headers"]).get(b"connection", b"").lower()
    return wish == b"close" or (scope.get("http_version") == "1.0" and wish != b"keep-alive")


async def linger(read: Callable[[], Awaitable[Message]], done: Callable[[], bool]) -> None:
    """Read and discard the rest of a request that is answered: closed before that, its client would see no answer."""
    with anyio.move_on_after(LINGER_S):
        while not done():
            await read()


def host_name(host: bytes) -> str | None:
    """The Host header without its port; None if it is no valid one."""
    try:
        return urlsplit(b"//" + host).hostname.decode()  # type: ignore[union-attr]
    except (ValueError, AttributeError):
        return None


def once(names: Iterable[str]) -> Any:
    """A route's dependency: refuses query parameters that come twice, of which only the last would be read.

    It raises an ApiError, 422, that names the value.
    """

    async def check(request: Request) -> None:
        twice = [name for name in names if len(request.query_params.getlist(name)) > 1]
        if twice:
            raise ApiError(422, "invalid", f"{twice[0]}: send it once.")

    return Depends(check)


def check_writer(request: Request, settings: Settings, writable: bool) -> None:
    """Refuse a change of the catalogue by who may not make it.

    Where there is a key, it alone decides.  Where there is none, requests from other machines and those with another
    site's Origin are refused: that site's page could make a browser on this machine send them (CSRF).

    Args:
        writable: whether the server itself may write the catalogue.
    """
    if settings.api_key is not None:
        given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), settings.api_key.encode()):
            message = "Changes need the API key, in the header X-API-Key" + (", and this is another." if given else ".")
            raise ApiError(401, "wrong_key" if given else "no_key", message, {"WWW-Authenticate": "Bearer"})
    else:
        _check_neighbour(request, settings)
    if not writable:
        message = "This server may not write its catalogue's folder, so the catalogue is read-only."
        raise ApiError(403, "read_only", message)


def _check_neighbour(request: Request, settings: Settings) -> None:
    """Refuse requests of other sites' pages, and of other machines, as far as their headers and address tell."""
    origin = request.headers.get("origin")
    if origin and _netloc(origin) != request.headers.get("host"):
        raise ApiError(403, "foreign_origin", "Pages of other sites may not change this catalogue.")
    if not settings.writable:
        raise ApiError(403, "read_only", "This server was started without an API key, so its catalogue is read-only.")
    if forwarded(request):
        message = "Changes from other machines need an API key; start this server with FASHION_API_KEY."
        raise ApiError(403, "read_only", message)


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def forwarded(request: Request) -> bool:
    """Whether the request comes from another machine, or from a proxy on this one, as far as its headers say so."""
    through = any(name in request.headers for name in ("forwarded", "via", "x-forwarded-for", "x-forwarded-host"))
    return through or request.client is None or request.client.host not in ("127.0.0.1", "::1")
