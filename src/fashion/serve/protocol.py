"""uvicorn's fast HTTP parser, with limits on a request's head, in bytes and seconds, which it lacks."""

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST = 65_536
"""Bytes of a request's head, with its trailers, as in uvicorn's other parser."""

BETWEEN = len(": \r\n")
"""Bytes of a header beside its name and value."""


def refusal(status: str, code: str, message: str) -> bytes:
    """A whole answer in the shape of all errors, for requests that reach no route."""
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close"
    return head.encode() + b"\r\n\r\n" + body


TOO_LARGE = refusal(
    "431 Request Header Fields Too Large", "head_too_large", "The request's head is too long; send less."
)
TOO_SLOW = refusal("408 Request Timeout", "too_slow", "The request did not arrive in time; send it again.")
NO_HTTP = refusal("400 Bad Request", "bad_request", "This is no HTTP request that can be read.")


def bounded_head(seconds: float) -> type["BoundedHead"]:
    """The protocol that waits so long for a request's head."""
    return type("BoundedHead", (BoundedHead,), {"patience": seconds})


class BoundedHead(HttpToolsProtocol):
    """Closes connections that send headers (or trailers) without end, before they fill the memory, or never finish."""

    patience: float = 10
    """Seconds for a head to arrive, and for the rest of a body that no route waits for any more."""
    _timer: asyncio.TimerHandle | None = None
    _head = False
    """Whether a head has begun and not ended."""
    _size = 0
    """Bytes of the head, as far as it was parsed."""
    _idle: int | None = None
    """Bytes of a request since its parser last made progress, not counting that read; None: between requests."""
    _moved = False
    """Whether the parser made progress in this read."""
    _last: bytes | None = None
    """The answer to close the connection with, once earlier requests are answered; nothing more is read."""

    def _progress(self) -> None:
        self._idle, self._moved = 0, True

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._rest()
        self._timer = self.loop.call_later(self.patience, self._give_up)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self._answering:  # the route that reads the body has a deadline of its own
            self._wait()
        elif not self.transport.is_closing():
            if self._head:
                self.transport.write(TOO_SLOW)
            self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._progress()
        self._head, self._size = True, 0
        self._wait()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + BETWEEN)
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MOST:
            raise ValueError("the head is too long")  # the parser stops at it, and asks for an answer of status 400

    def on_headers_complete(self) -> None:
        self._progress()
        self._head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progress()
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        self._refuse(TOO_LARGE if self._size > MOST else NO_HTTP)

    def _refuse(self, answer: bytes) -> None:
        """Answer what is no request, and hang up; if it is a head, after the answers to the requests before it."""
        if self._head and self._answering:
            self._last = answer
            return
        if answer == NO_HTTP or not self._answering:  # else it would land inside another answer
            self.transport.write(answer)
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._last is not None and not self._answering and not self.transport.is_closing():
            self._refuse(self._last)

    def on_message_complete(self) -> None:
        self._idle = None
        self._rest()
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        if self._last is not None:
            return
        self._moved = False
        super().data_received(data)
        if self._timer is None and self._idle is None and not self._answering:
            self._wait()  # only empty lines came, which ended uvicorn's keep-alive timer
        if self._idle is None or self._moved:
            return
        self._idle += len(data)
        if self._idle > MOST and not self.transport.is_closing():
            self._refuse(TOO_LARGE)
