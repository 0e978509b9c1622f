"""HTTP as bytes on a socket, for what no client sends of its own will."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

PATIENCE = 20.0
"""Seconds until a silent server fails a test."""


@dataclass(frozen=True)
class Answer:
    """A response: its status, its head in lower case, its body."""

    status: int
    head: str
    body: bytes


class Wire:
    """A connection to a server."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send, whether or not the server still listens."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connection.sendall(data)

    def answer(self) -> Answer:
        """The next whole response."""
        while not (found := re.match(rb"HTTP/1\.1 (\d+)[^\r]*(.*?)\r\n\r\n", self._received, re.DOTALL)):
            self._more()
        head = found[2].decode().lower()
        length = int((re.search(r"content-length: (\d+)", head) or [0, 0])[1])
        while len(self._received) < found.end() + length:
            self._more()
        body = self._received[found.end() : found.end() + length]
        self._received = self._received[found.end() + length :]
        return Answer(int(found[1]), head, body)

    def is_closed(self) -> bool:
        """Whether the server closes the connection, without another word."""
        try:
            return not self._received and self._connection.recv(65536) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        data = self._connection.recv(65536)
        assert data, f"the server hung up after {self._received!r}"
        self._received += data


@contextmanager
def connected(url: str) -> Iterator[Wire]:
    """A connection of its own."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Wire(connection)


def post(body: bytes = b"", *headers: str, path: str = "/v1/classify", length: bool = True) -> bytes:
    """A request's bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunk(data: bytes) -> bytes:
    """A chunk of a body without a length."""
    return b"%x\r\n%b\r\n" % (len(data), data)
