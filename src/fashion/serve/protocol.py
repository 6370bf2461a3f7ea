"""uvicorn's fast HTTP parser, with a limit on a request's head, which it lacks."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST = 65_536
"""Bytes of a request's head, as in uvicorn's other parser; the first read and the last one may be longer."""

TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHead(HttpToolsProtocol):
    """Hangs up on who sends headers without end, before they fill the memory."""

    _head: int | None = None
    """Bytes of a head that is not complete, after the read that it began in; None: there is none."""

    def on_message_begin(self) -> None:
        self._head = 0
        self._began = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        self._began = False
        super().data_received(data)
        if self._head is None or self._began:  # that read may have been a body's end for the most part
            return
        self._head += len(data)
        if self._head > MOST and not self.transport.is_closing():
            self.transport.write(TOO_LARGE)
            self.transport.close()
