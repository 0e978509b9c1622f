"""Requests at a constant rate, whether or not the server keeps up: an open loop.

A closed loop waits for an answer before it asks again, and so spares a server exactly when it falters. Here the n-th
request is due at `n / rate` seconds, and its latency counts from then: one that left late because everything
was late is as slow as its sender found it (Tene's "coordinated omission").
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ANSWERED = 200
FULL = 429
REFUSED = frozenset((408, FULL, 503, 504))
"""What a server says when it will not answer. Everything else that is not 200, and silence, is lost."""

KEPT = 2.0
"""Seconds that an idle connection is trusted: a server may hang up on one just as a request leaves, by no fault."""


@dataclass(frozen=True)
class Target:
    """Where requests go.

    Attributes:
        requests: Whole HTTP requests as bytes, taken in turn.
    """

    host: str
    port: int
    requests: Sequence[bytes]


@dataclass(frozen=True)
class Outcome:
    """What became of one request.

    Attributes:
        due: Seconds from the start at which it was to be sent.
        sent: Seconds from the start at which it was.
        latency: Seconds from `due` until the last byte of the answer.
        status: HTTP's; 0 where there was no answer.
    """

    due: float
    sent: float
    latency: float
    status: int


class Connection(asyncio.Protocol):
    """A kept connection that carries one request at a time."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._buffer = b""
        self._transport: asyncio.Transport
        self.waiting: tuple[float, float] | None = None
        """When the request in flight was due and was sent."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = transport  # type: ignore[assignment]  # TCP gives a Transport

    def ask(self, request: bytes, due: float, sent: float) -> None:
        """Send a request."""
        self.waiting = due, sent
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer, perhaps its last."""
        self._buffer += data
        head, mark, body = self._buffer.partition(b"\r\n\r\n")
        if not mark or len(body) < _content_length(head):
            return
        self._buffer = b""
        reusable = b"connection: close" not in head.lower()
        if not reusable:
            self._transport.close()
        self._client.answered(self, int(head[9:12]), reusable)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self._client.dropped(self)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return 0


class Client:
    """Sends requests over as many kept connections as are in flight at once."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._idle: deque[tuple[Connection, float]] = deque()
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._asked = 0
        self.start = self._loop.time()
        self.outcomes: list[Outcome] = []
        self.in_flight = 0
        self.on_answer = asyncio.Event()

    @property
    def now(self) -> float:
        """Seconds from the start."""
        return self._loop.time() - self.start

    def send(self, due: float) -> None:
        """Send the next request; over a new connection where all are busy."""
        request = self._target.requests[self._asked % len(self._target.requests)]
        self._asked += 1
        self.in_flight += 1
        if self._idle:
            connection, since = self._idle.pop()
            if self.now - since < KEPT:
                connection.ask(request, due, self.now)
                return
            connection.close()
        task = self._loop.create_task(self._send_anew(request, due))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _send_anew(self, request: bytes, due: float) -> None:
        sent = self.now
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self), self._target.host, self._target.port
            )
        except OSError:
            self._done(due, sent, 0)
            return
        self._open.add(connection)
        connection.ask(request, due, sent)

    def answered(self, connection: Connection, status: int, reusable: bool) -> None:
        """Note an answer; the connection is free again."""
        if connection.waiting:
            due, sent = connection.waiting
            connection.waiting = None
            if reusable:
                self._idle.append((connection, self.now))
            self._done(due, sent, status)

    def dropped(self, connection: Connection) -> None:
        """Note a request whose connection was cut."""
        self._open.discard(connection)
        self._idle = deque(each for each in self._idle if each[0] is not connection)
        if connection.waiting:
            due, sent = connection.waiting
            connection.waiting = None
            self._done(due, sent, 0)

    def _done(self, due: float, sent: float, status: int) -> None:
        self.in_flight -= 1
        self.outcomes.append(Outcome(due, sent, self.now - due, status))
        self.on_answer.set()

    async def finish(self, patience: float) -> None:
        """Wait for the answers that are due, and hang up; what is still silent counts as lost."""
        deadline = self.now + patience
        while self.in_flight and self.now < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._open):
            connection.close()
        await asyncio.sleep(0.05)


async def at_rate(target: Target, phases: Sequence[tuple[float, float]], patience: float = 30) -> list[Outcome]:
    """Send requests at constant rates.

    Args:
        target: Where to.
        phases: Requests a second and seconds, one after the other without a break.
        patience: Seconds to wait for the last answers.
    """
    client = Client(target)
    begin = 0.0
    for rate, seconds in phases:
        for number in range(round(rate * seconds)):
            due = begin + number / rate
            while (wait := due - client.now) > 0:
                await asyncio.sleep(wait)
            if number % 64 == 0:  # where the sender is behind, answers have to be read all the same
                await asyncio.sleep(0)
            client.send(due)
        begin += seconds
    await client.finish(patience)
    return client.outcomes


async def saturated(target: Target, connections: int, seconds: float) -> float:
    """Answers a second while `connections` requests are always under way: what the server can do at most."""
    client = Client(target)
    while client.now < seconds:
        while client.in_flight < connections:
            client.send(client.now)
        client.on_answer.clear()
        await client.on_answer.wait()
    answered = sum(each.status == ANSWERED for each in client.outcomes)
    elapsed = client.now
    await client.finish(10)
    return answered / elapsed


def summary(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """Counts, rates and percentiles.

    Args:
        outcomes: Of one phase.
        seconds: How long requests were due.
    """
    accepted = [each for each in outcomes if each.status == ANSWERED]
    refused = [each for each in outcomes if each.status in REFUSED]
    end = min((each.due for each in outcomes), default=0.0) + seconds
    return {
        "sent": len(outcomes),
        "sent_per_second": len(outcomes) / seconds,
        "answered": len(accepted),
        "answered_per_second": sum(each.due + each.latency <= end for each in accepted) / seconds,
        "refused": len(refused),
        "lost": len(outcomes) - len(accepted) - len(refused),
        "latency_ms": percentiles([each.latency for each in accepted]),
        "statuses": {str(status): count for status, count in sorted(Counter(each.status for each in outcomes).items())},
        "turned_away_ms": percentiles([each.latency - each.sent + each.due for each in refused if each.status == FULL]),
        "sent_late_ms": percentiles([each.sent - each.due for each in outcomes]),
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and the greatest, in milliseconds; empty where there are none."""
    if not seconds:
        return {}
    named = {f"p{q}": float(np.percentile(seconds, q)) * 1000 for q in (50, 90, 99)}
    return {**named, "max": max(seconds) * 1000}
