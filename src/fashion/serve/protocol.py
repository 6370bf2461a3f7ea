"""uvicorn's fast HTTP parser, with a limit on a request's head, which it lacks."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST = 65_536
"""Bytes of a request's head, as in uvicorn's other parser; the first read and the last one may be longer."""

TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHead(HttpToolsProtocol):
    """Hangs up on who sends headers (or trailers) without end, before they fill the memory."""

    _idle: int | None = None
    """Bytes of a request since its parser got anywhere, after the read in which it did; None: between requests."""
    _moved = False
    """Whether it got anywhere in this read."""

    def _progress(self) -> None:
        self._idle, self._moved = 0, True

    def on_message_begin(self) -> None:
        self._progress()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._progress()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progress()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle = None
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._moved = False
        super().data_received(data)
        if self._idle is None or self._moved:
            return
        self._idle += len(data)
        if self._idle > MOST and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:  # else it would land inside another answer
                self.transport.write(TOO_LARGE)
            self.transport.close()
