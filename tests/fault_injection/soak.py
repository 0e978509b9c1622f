"""Does a server that has answered for hours still hold the memory, descriptors and threads that it began with?

It is asked for everything it offers, in good shape and in bad, and clients vanish in the middle. After every round all
connections are closed and the process is looked at; the first quarter of the rounds warms up. The slope of its memory
is the median of those between any two rounds (Theil and Sen). The control is `leaking`: the same server with a handler
that keeps the address of whoever asked, a hundred bytes or so.
"""

import asyncio
import json
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from tests.fault_injection import leaky_server, report
from tqdm import tqdm

from manylabel import Bundle
from manylabel.errors import ManylabelError
from manylabel_bench.load import servers
from manylabel_bench.load.open_loop import Client, RequestStream

ROUNDS = 40
UNDER_WAY = 8
VANISHING = 20
"""Clients of a round that go away in the middle of a request, and as many that do not wait for their answer."""

MOST = 1.0
"""Megabytes that memory may rise by in 100,000 requests."""

PATIENT = [word for name in ("timeout", "body-timeout", "header-timeout") for word in (f"--{name}", "600")]
"""A machine with other work may stop both sides for minutes; no request is late for that."""


@dataclass(frozen=True)
class Look:
    """What a server holds between two rounds, with so many requests answered."""

    requests: int
    megabytes: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Soaked:
    """What became of a server.

    Attributes:
        seconds: That it was asked for.
        looks: One a round.
        unexpected: Answers by status, of other statuses than their requests should have.
    """

    seconds: float
    looks: Sequence[Look]
    unexpected: dict[int, int]

    @property
    def warm(self) -> Sequence[Look]:
        """Looks after the warm-up."""
        return self.looks[len(self.looks) // 4 :]

    @property
    def slope(self) -> float:
        """Megabytes by which memory rises in 100,000 requests."""
        pairs = combinations(self.warm, 2)
        rises = [(late.megabytes - early.megabytes) / (late.requests - early.requests) for early, late in pairs]
        return float(np.median(rises)) * 100_000

    @property
    def faults(self) -> list[str]:
        """What was promised and not kept."""
        found = [f"memory rises by {self.slope:.2f} MB in 100,000 requests"] if self.slope > MOST else []
        for name in ("descriptors", "threads"):
            seen = {getattr(look, name) for look in self.warm}
            found += [f"{min(seen)} to {max(seen)} {name}"] if len(seen) > 1 else []
        return found + ([f"unexpected answers by status: {self.unexpected}"] if self.unexpected else [])


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--minutes", default=20.0, show_default=True)
@click.option("--control-minutes", default=2.0, show_default=True, help="For the server that leaks.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(bundle: Path, minutes: float, control_minutes: float, output: Path) -> None:
    """Ask a server of BUNDLE everything for some time. Fails where it grows, or where one that leaks is not noticed."""
    ours = servers.manylabel_server(bundle, "--name", "soak", "--device", "cpu", "--no-access-log", *PATIENT)
    program = [sys.executable, "-m", leaky_server.__name__, str(bundle)]
    control = replace(ours, command=lambda port: [*program, str(port)])
    whole, leaky = soak(ours, bundle, minutes * 60), soak(control, bundle, control_minutes * 60)
    words = ["python", "-m", "tests.fault_injection.soak", str(bundle), "--minutes", f"{minutes:g}"]
    found = report.write(
        output,
        "soak",
        title="A server that is asked for a long time",
        command=shlex.join([*words, "--output", "FOLDER"]),
        rows=[_row("as it is", whole), _row("control: leaks", leaky)],
        notes=[
            f"{len(set(_asked(bundle)))} kinds of requests, {UNDER_WAY} under way, and {2 * VANISHING} clients a round "
            f"that go away. Looked at {ROUNDS} times, with no connection open; after the first quarter memory may rise "
            f"by {MOST:g} MB in 100,000 requests, and descriptors and threads stay as they are. The control keeps the "
            f"address of whoever asked, and one descriptor in {leaky_server.EVERY:,} requests."
        ],
    )
    click.echo(found)
    if whole.faults:
        raise ManylabelError("; ".join(whole.faults))
    if leaky.slope <= MOST or len({look.descriptors for look in leaky.warm}) == 1:
        raise ManylabelError("a server that leaks memory and descriptors was not noticed.")


def soak(kind: servers.ServerSpec, bundle: Path, seconds: float) -> Soaked:
    """Ask a server for some time, and look at it after every round."""
    asked = _asked(bundle)
    looks: list[Look] = []
    unexpected: Counter[int] = Counter()
    with TemporaryDirectory() as scratch, servers.start_server(kind, "late", Path(scratch) / "log") as server:
        stream = RequestStream(servers.HOST, server.port, [request for request, _ in asked])
        begin, requests = time.monotonic(), 0
        for number in tqdm(range(1, ROUNDS + 1), desc=kind.command(0)[2], disable=None):
            cycles, statuses = asyncio.run(_round(stream, begin + seconds * number / ROUNDS))
            statuses.subtract({status: cycles * count for status, count in Counter(s for _, s in asked).items()})
            unexpected.update({status: count for status, count in statuses.items() if count > 0})
            requests += cycles * len(asked)
            looks.append(_look(server, requests))
        return Soaked(time.monotonic() - begin, looks, dict(unexpected))


async def _round(stream: RequestStream, until: float) -> tuple[int, Counter[int]]:
    """Send every request once, again and again: how often, and the answers' statuses."""
    client = Client(stream)
    for begun in range(VANISHING):
        await _vanish(stream, begun)
    cycles = 0
    while not cycles or time.monotonic() < until:
        cycles += 1
        for _ in stream.requests:
            while client.in_flight >= UNDER_WAY:
                client.response_event.clear()
                await client.response_event.wait()
            client.send(client.now)
    await client.finish(600)
    return cycles, Counter(each.status for each in client.outcomes)


async def _vanish(stream: RequestStream, number: int) -> None:
    """Go away in the middle of a request, and once more before its answer."""
    request = stream.requests[number % len(stream.requests)]
    for part in (request[: len(request) * (number + 1) // (VANISHING + 1)], request):
        with suppress(OSError):
            _, writer = await asyncio.open_connection(stream.host, stream.port)
            writer.write(part)
            await writer.drain()
            writer.transport.abort() if number % 2 else writer.close()


def _look(server: servers.Server, requests: int) -> Look:
    """At the process, once it has noticed that everybody is gone."""
    time.sleep(1.0)
    folder = Path(f"/proc/{server.pid}")
    threads = len(os.listdir(folder / "task"))
    return Look(requests, server.memory()[0], len(os.listdir(folder / "fd")), threads)


def _asked(bundle: Path) -> list[tuple[bytes, int]]:
    """A request of every kind, and the status that it is answered with."""
    labels = Bundle.open(bundle).labels
    words = "the parcel was late and the courier rude "
    texts = [words * n for n in range(1, 9)]

    def post(path: str, body: Any, *headers: str) -> bytes:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = [f"POST {path} HTTP/1.1", "Host: soak", "Content-Type: application/json", *headers]
        return "\r\n".join([*head, f"Content-Length: {len(raw)}", "", ""]).encode() + raw

    def get(path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: soak\r\n\r\n".encode()

    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": texts[:2]}
    return [
        *((post("/v1/classify", {"inputs": text}), 200) for text in texts),
        (post("/v1/classify", {"inputs": texts, "top_k": 2, "thresholds": {labels[0]: 0.1}}), 200),
        *[(post("/v1/classify", {"inputs": words * 50, "windows": True}), 200)] * UNDER_WAY,  # all threads they may use
        (post("/v1/classify", {"inputs": "a" * 100_000}), 200),
        (post("/predict", {"inputs": [[text] for text in texts]}), 200),
        (post("/v2/models/soak/infer", {"inputs": [tensor]}), 200),
        (post("/", {"inputs": texts[0]}), 200),
        *((get(path), 200) for path in ("/", "/metrics", "/v1/model", "/v2/models/soak", "/v2/health/ready")),
        (get("/nothing"), 404),
        (post("/v1/classify", b'{"inputs": '), 400),
        (post("/v1/classify", b'{"inputs": "\xff"}'), 400),
        (post("/v1/classify", {"inputs": [3]}), 422),
        (post("/predict", {"inputs": ["a", "b"]}), 422),
        (post("/v1/classify", {"inputs": [""] * 1_001}), 413),
        (post("/v1/classify", {"inputs": "a"}, "Content-Encoding: gzip"), 415),
    ]


def _row(name: str, soaked: Soaked) -> dict[str, Any]:
    def seen(what: str) -> str:
        values = [getattr(look, what) for look in soaked.warm]
        return " to ".join(f"{value:,.0f}" for value in sorted({min(values), max(values)}))

    return {
        "server": name,
        "minutes": f"{soaked.seconds / 60:.0f}",
        "requests": f"{soaked.looks[-1].requests:,}",
        "answered otherwise than due": f"{sum(soaked.unexpected.values()):,}",
        "MB": seen("megabytes"),
        "MB in 100,000 requests": f"{soaked.slope:+.2f}",
        "descriptors": seen("descriptors"),
        "threads": seen("threads"),
        "found": "; ".join(soaked.faults) or "nothing",
    }


if __name__ == "__main__":
    main()
