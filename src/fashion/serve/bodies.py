"""Routes that take a place in the queue before they read a request's body, and read it within one deadline."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from fashion.serve.errors import ApiError
from fashion.serve.limits import check_writer
from fashion.serve.service import Service

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def bounded(service: Service, *, writes: bool = False) -> type[APIRoute]:
    """The class of such routes.

    Args:
        writes: whether they change the catalogue; those that may not are refused before their body is read.
    """

    class BoundedRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()
            json_only = self.body_field is not None

            async def handler(request: Request) -> Response:
                if writes:
                    check_writer(request, service.settings, service.description.writable)
                packed = request.headers.get("content-encoding", "identity").lower()
                if packed != "identity":
                    raise ApiError(415, "unsupported", f"Bodies in {packed[:20]} are not read; send it plain.")
                if json_only and content_type_of(request) != "application/json":
                    raise ApiError(415, "unsupported", "Send JSON, with Content-Type: application/json.")
                with service.place(change=writes):
                    await read_body(request, service.settings.read_timeout_s)
                    return await handle(request)

            return handler

    return BoundedRoute


def content_type_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, seconds: float) -> None:
    """Read the whole body, which the request then holds.

    Raises:
        ApiError: 408 if it takes longer, 400 if it is cut off.
    """
    try:
        async with asyncio.timeout(seconds):
            await request.body()
    except TimeoutError:
        raise ApiError(
            408, "too_slow", "The request did not arrive in time; send it again.", {"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise ApiError(400, "cut_off", "The request ended before its body did.") from None
