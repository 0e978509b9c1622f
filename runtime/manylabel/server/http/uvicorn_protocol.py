"""HTTP/1.1 on a connection: uvicorn's, with a deadline and a bound for headers, and a gate behind them.

Without them, a client that sends a byte a minute holds its connection for ever, and one that never ends its headers
fills the memory.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 65_536
"""Headers that are not complete by then are refused."""

Refuse = Callable[[bytes, bytes, Iterable[tuple[bytes, bytes]]], bytes | None]
"""From a request's method, URL and headers to the response of one that is not let in."""


class DeadlineProtocol(HttpToolsProtocol):
    """A connection whose requests must send their headers in time.

    The time runs from the connection's begin, and from the first byte of each later request; an idle connection between
    requests is uvicorn's to close (`timeout_keep_alive`).
    """

    def __init__(self, *args: Any, header_timeout: float, refuse: Refuse, **kwargs: Any) -> None:  # uvicorn's own
        super().__init__(*args, **kwargs)
        self._refusal = refuse
        self._skipping = False
        self._header_timeout = header_timeout
        self._header_bytes = 0
        self._timers: list[asyncio.TimerHandle] = []  # one at most

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client came."""
        super().connection_made(transport)
        self._start()

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        if not self._timers:
            self._start()

    def on_headers_complete(self) -> None:
        """A request's headers are there."""
        self._stop()
        if [name for name, _ in self.headers].count(b"host") != 1 and self.parser.get_http_version() == "1.1":
            raise HttpParserError("one Host is expected (RFC 9112, section 3.2)")  # which answers 400 and hangs up
        free = self.cycle is None or self.cycle.response_complete
        refusal = self._refusal(self.parser.get_method(), self.url, self.headers) if free else None
        if refusal is None:
            super().on_headers_complete()
            if self.scope["method"] != "HEAD":  # else no body would follow
                self.cycle.transport = _Together(self.transport)  # type: ignore[assignment]  # as far as a cycle asks
            return
        self._skipping = True
        self.transport.write(refusal)
        self._start()  # for the rest of it, too

    def on_body(self, body: bytes) -> None:
        """A part of a request's body."""
        if not self._skipping:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is there."""
        if not self._skipping:
            super().on_message_complete()
            return
        self._skipping = False
        self._stop()
        if self.parser.should_keep_alive():
            self.on_response_complete()
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Some bytes."""
        super().data_received(data)
        if self._timers and not self._skipping:  # all of it, as far as is known, was headers
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(b"431 Request Header Fields Too Large")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went."""
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        self._header_bytes = 0
        self._timers = [self.loop.call_later(self._header_timeout, self._refuse, b"408 Request Timeout")]

    def _stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = []

    def _refuse(self, status: bytes) -> None:
        """Close the connection, with a word where a request had begun and none is being answered."""
        self._stop()
        if self.transport.is_closing():
            return
        if self._header_bytes and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.transport.close()


class _Together:
    """A transport for one response, whose head goes out with the first part of its body.

    uvicorn writes them apart: two packets, for which the client wakes up twice.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self._begun = False

    def write(self, data: bytes) -> None:
        if not self._begun and not data.startswith(b"HTTP/1.1 100 "):
            self._begun = True
            self._head = data
            return
        self._transport.write(self._head + data)
        self._head = b""

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        if self._head:
            self._transport.write(self._head)
        self._transport.close()
