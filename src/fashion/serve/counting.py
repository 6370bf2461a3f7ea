"""Counting requests and their time, for Prometheus."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fashion.serve.figures import Figures

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""Others are counted as one: each would be a time series."""


class Counting:
    """Notes each request's method, route, status and seconds."""

    def __init__(self, app: ASGIApp, figures: Figures, root_path: str):
        self.app, self.figures, self.root_path = app, figures, root_path

    @staticmethod
    def documented(scope: Scope, path: str) -> str:
        """The path of a request that was refused before it had a route, if it is one of the API's."""
        return path if path in scope["app"].openapi()["paths"] else "other"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            # The route's pattern, not the path: ids would make a time series each.
            asked = scope["path"].removeprefix(self.root_path)
            path = getattr(scope.get("route"), "path", None) or self.documented(scope, asked)
            if asked.startswith("/v1/") and path.startswith("/") and not path.startswith("/v1/"):
                path = f"/v1{path}"  # the routes of newer FastAPI versions lack their router's prefix
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.figures.requests.labels(method, path, status).inc()
            self.figures.seconds.labels(method, path).observe(time.perf_counter() - started)
