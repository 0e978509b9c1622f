"""HTTP as bytes on a socket, for requests that no client would send."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

TIMEOUT = 20.0
"""Seconds after which a silent server fails a test."""


@dataclass(frozen=True)
class Response:
    """A response: its status, its header lines in lower case, its body."""

    status: int
    headers: str
    body: bytes


class Wire:
    """A connection to a server."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send bytes, whether or not the server still reads them."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connection.sendall(data)

    def response(self) -> Response:
        """Return the next complete response."""
        while not (match := re.match(rb"HTTP/1\.1 (\d+)[^\r]*(.*?)\r\n\r\n", self._received, re.DOTALL)):
            self._receive()
        headers = match[2].decode().lower()
        length = int((re.search(r"content-length: (\d+)", headers) or [0, 0])[1])
        while len(self._received) < match.end() + length:
            self._receive()
        body = self._received[match.end() : match.end() + length]
        self._received = self._received[match.end() + length :]
        return Response(int(match[1]), headers, body)

    def is_closed(self) -> bool:
        """Return whether the server closes the connection without sending anything else."""
        try:
            return not self._received and self._connection.recv(65536) == b""
        except ConnectionResetError:
            return True

    def _receive(self) -> None:
        data = self._connection.recv(65536)
        assert data, f"the server closed the connection after {self._received!r}"
        self._received += data


@contextmanager
def connected(url: str) -> Iterator[Wire]:
    """Open a new connection."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Wire(connection)


def post(body: bytes = b"", *headers: str, path: str = "/v1/classify", length: bool = True) -> bytes:
    """Return the bytes of a request."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
