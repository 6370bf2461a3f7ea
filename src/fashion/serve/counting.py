"""Counting requests and their time, for Prometheus."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fashion.serve.service import Service


class Counting:
    """Notes each request's route, status and seconds."""

    def __init__(self, app: ASGIApp, service: Service):
        self.app, self.service = app, service

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
            asked = scope["path"].removeprefix(self.service.settings.root_path)
            path = getattr(scope.get("route"), "path", None) or self.documented(scope, asked)
            if asked.startswith("/v1/") and path.startswith("/") and not path.startswith("/v1/"):
                path = f"/v1{path}"  # newer FastAPI's routes do not know what their router lies under
            self.service.requests.labels(path, status).inc()
            self.service.seconds.labels(path).observe(time.perf_counter() - started)
