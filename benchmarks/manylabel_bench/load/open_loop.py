"""An open-loop load generator: requests at a constant rate, whether or not the server keeps up.

A closed loop waits for an answer before it sends the next request, and so reduces the load exactly when the server
stalls. Here the n-th request is due at `n / rate` seconds and its latency counts from that moment, even if it was sent
late (this avoids what Gil Tene calls coordinated omission).
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

OK = 200
TOO_MANY_REQUESTS = 429
REFUSED = frozenset((408, TOO_MANY_REQUESTS, 503, 504))
"""Statuses with which a server refuses a request. Any other status but 200, and no answer, counts as lost."""

KEEP_ALIVE_SECONDS = 2.0
"""How long an idle connection is reused: a server may rightly close one at the moment at which a request is sent."""


@dataclass(frozen=True)
class RequestStream:
    """A server and the requests to send to it.

    Attributes:
        host: The server's host.
        port: The server's port.
        requests: Complete HTTP requests as bytes, sent in turn.
    """

    host: str
    port: int
    requests: Sequence[bytes]


@dataclass(frozen=True)
class RequestOutcome:
    """The result of one request.

    Attributes:
        due: When it should have been sent, in seconds from the start.
        sent: When it was sent, in seconds from the start.
        latency: Seconds from `due` to the last byte of the answer.
        status: The HTTP status; 0 if there was no answer.
    """

    due: float
    sent: float
    latency: float
    status: int


class Connection(asyncio.Protocol):
    """A keep-alive connection that carries one request at a time."""

    def __init__(self, client: "LoadClient") -> None:
        self._client = client
        self._buffer = b""
        self._transport: asyncio.Transport
        self.in_flight: tuple[float, float] | None = None
        """When the request in flight was due and when it was sent."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to write to."""
        self._transport = transport  # type: ignore[assignment]  # TCP gives a Transport

    def send(self, request: bytes, due: float, sent: float) -> None:
        """Send a request."""
        self.in_flight = due, sent
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collect an answer, and report it when it is complete."""
        self._buffer += data
        head, mark, body = self._buffer.partition(b"\r\n\r\n")
        if not mark or len(body) < _content_length(head):
            return
        self._buffer = b""
        reusable = b"connection: close" not in head.lower()
        if not reusable:
            self._transport.close()
        self._client.on_response(self, int(head[9:12]), reusable)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report that the connection was closed."""
        self._client.on_disconnect(self)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return 0


class LoadClient:
    """Sends requests over one keep-alive connection per request in flight."""

    def __init__(self, stream: RequestStream) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._idle: deque[tuple[Connection, float]] = deque()
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._n_sent = 0
        self.start = self._loop.time()
        self.outcomes: list[RequestOutcome] = []
        self.in_flight = 0
        self.response_event = asyncio.Event()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self._loop.time() - self.start

    def send(self, due: float) -> None:
        """Send the next request, over a new connection if all others are busy."""
        request = self._stream.requests[self._n_sent % len(self._stream.requests)]
        self._n_sent += 1
        self.in_flight += 1
        if self._idle:
            connection, since = self._idle.pop()
            if self.now - since < KEEP_ALIVE_SECONDS:
                connection.send(request, due, self.now)
                return
            connection.close()
        task = self._loop.create_task(self._send_on_new_connection(request, due))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _send_on_new_connection(self, request: bytes, due: float) -> None:
        sent = self.now
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self), self._stream.host, self._stream.port
            )
        except OSError:
            self._record(due, sent, 0)
            return
        self._open.add(connection)
        connection.send(request, due, sent)

    def on_response(self, connection: Connection, status: int, reusable: bool) -> None:
        """Record an answer, and free its connection."""
        if connection.in_flight:
            due, sent = connection.in_flight
            connection.in_flight = None
            if reusable:
                self._idle.append((connection, self.now))
            self._record(due, sent, status)

    def on_disconnect(self, connection: Connection) -> None:
        """Record a request whose connection was closed before the answer."""
        self._open.discard(connection)
        self._idle = deque(idle for idle in self._idle if idle[0] is not connection)
        if connection.in_flight:
            due, sent = connection.in_flight
            connection.in_flight = None
            self._record(due, sent, 0)

    def _record(self, due: float, sent: float, status: int) -> None:
        self.in_flight -= 1
        self.outcomes.append(RequestOutcome(due, sent, self.now - due, status))
        self.response_event.set()

    async def finish(self, patience: float) -> None:
        """Wait up to `patience` seconds for outstanding answers, then close all connections."""
        deadline = self.now + patience
        while self.in_flight and self.now < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._open):
            connection.close()
        await asyncio.sleep(0.05)


async def send_at_rate(
    stream: RequestStream, phases: Sequence[tuple[float, float]], patience: float = 30
) -> list[RequestOutcome]:
    """Send requests at constant rates and return the result of each.

    Args:
        stream: The server and its requests.
        phases: Requests per second and duration in seconds, one phase after the other without a break.
        patience: Seconds to wait for the last answers.
    """
    client = LoadClient(stream)
    phase_start = 0.0
    for rate, seconds in phases:
        for number in range(round(rate * seconds)):
            due = phase_start + number / rate
            while (wait := due - client.now) > 0:
                await asyncio.sleep(wait)
            if number % 64 == 0:  # read answers even if the sender is behind its schedule
                await asyncio.sleep(0)
            client.send(due)
        phase_start += seconds
    await client.finish(patience)
    return client.outcomes


async def measure_saturation(stream: RequestStream, connections: int, seconds: float) -> float:
    """Return the answers per second while `connections` requests are always in flight: the server's capacity."""
    client = LoadClient(stream)
    while client.now < seconds:
        while client.in_flight < connections:
            client.send(client.now)
        client.response_event.clear()
        await client.response_event.wait()
    answered = sum(outcome.status == OK for outcome in client.outcomes)
    elapsed = client.now
    await client.finish(10)
    return answered / elapsed


def summarize_outcomes(outcomes: Sequence[RequestOutcome], seconds: float) -> dict[str, Any]:
    """Return the counts, rates and latency percentiles of one phase.

    Args:
        outcomes: The results of the phase's requests.
        seconds: The duration of the phase.
    """
    answered = [outcome for outcome in outcomes if outcome.status == OK]
    refused = [outcome for outcome in outcomes if outcome.status in REFUSED]
    end = min((outcome.due for outcome in outcomes), default=0.0) + seconds
    statuses = Counter(outcome.status for outcome in outcomes)
    rejections = [outcome for outcome in refused if outcome.status == TOO_MANY_REQUESTS]
    return {
        "sent": len(outcomes),
        "sent_per_second": len(outcomes) / seconds,
        "answered": len(answered),
        "answered_per_second": sum(outcome.due + outcome.latency <= end for outcome in answered) / seconds,
        "refused": len(refused),
        "lost": len(outcomes) - len(answered) - len(refused),
        "latency_ms": latency_percentiles([outcome.latency for outcome in answered]),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "turned_away_ms": latency_percentiles([each.latency - each.sent + each.due for each in rejections]),
        "sent_late_ms": latency_percentiles([outcome.sent - outcome.due for outcome in outcomes]),
    }


def latency_percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p90, p99 and the maximum in milliseconds; an empty dict for no values."""
    if not seconds:
        return {}
    named = {f"p{q}": float(np.percentile(seconds, q)) * 1000 for q in (50, 90, 99)}
    return {**named, "max": max(seconds) * 1000}
