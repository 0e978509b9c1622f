"""Does a server leak memory, file descriptors or threads over hours of requests?

It gets valid and invalid requests of every kind, and clients disconnect in the middle. After every round all
connections are closed and the process is sampled; the first quarter of the rounds is a warm-up. The slope of its memory
is the median of the slopes between any two rounds (Theil-Sen). The control is `leaky_server`: the same server with a
handler that keeps the address of every client, about a hundred bytes.
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
from manylabel_bench.load.open_loop import LoadClient, RequestStream

ROUNDS = 40
CONCURRENT_REQUESTS = 8
DISCONNECTING_CLIENTS = 20
"""Clients per round that disconnect in the middle of a request, and as many that do not wait for the answer."""

MAX_SLOPE = 1.0
"""Allowed rise of memory in MB per 100,000 requests."""

LONG_TIMEOUTS = [word for name in ("timeout", "body-timeout", "header-timeout") for word in (f"--{name}", "600")]
"""A busy machine may stop both sides for minutes; no request should time out because of that."""


@dataclass(frozen=True)
class ProcessSample:
    """The resources of a server between two rounds, after a number of requests."""

    requests: int
    megabytes: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class SoakResult:
    """The samples of a server.

    Attributes:
        seconds: Duration of the load.
        samples: One sample per round.
        unexpected: Number of answers with an unexpected status, by status.
    """

    seconds: float
    samples: Sequence[ProcessSample]
    unexpected: dict[int, int]

    @property
    def warm(self) -> Sequence[ProcessSample]:
        """The samples after the warm-up."""
        return self.samples[len(self.samples) // 4 :]

    @property
    def slope(self) -> float:
        """Rise of memory in MB per 100,000 requests."""
        pairs = combinations(self.warm, 2)
        rises = [(late.megabytes - early.megabytes) / (late.requests - early.requests) for early, late in pairs]
        return float(np.median(rises)) * 100_000

    @property
    def faults(self) -> list[str]:
        """The limits that were exceeded."""
        exceeded = [f"memory rises by {self.slope:.2f} MB per 100,000 requests"] if self.slope > MAX_SLOPE else []
        for name in ("descriptors", "threads"):
            seen = {getattr(sample, name) for sample in self.warm}
            exceeded += [f"{min(seen)} to {max(seen)} {name}"] if len(seen) > 1 else []
        return exceeded + ([f"unexpected statuses: {self.unexpected}"] if self.unexpected else [])


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--minutes", default=20.0, show_default=True, help="Minutes under load.")
@click.option("--control-minutes", default=2.0, show_default=True, help="Minutes for the server that leaks.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(bundle: Path, minutes: float, control_minutes: float, output: Path) -> None:
    """Put `manylabel serve BUNDLE` under load. Fails if it leaks, or if the leak of the control is not detected."""
    ours = servers.manylabel_server(bundle, "--name", "soak", "--device", "cpu", "--no-access-log", *LONG_TIMEOUTS)
    program = [sys.executable, "-m", leaky_server.__name__, str(bundle)]
    control = replace(ours, command=lambda port: [*program, str(port)])
    result, leaky = run_soak(ours, bundle, minutes * 60), run_soak(control, bundle, control_minutes * 60)
    words = ["python", "-m", "tests.fault_injection.soak", str(bundle), "--minutes", f"{minutes:g}"]
    section = report.write_section(
        output,
        "soak",
        title="A server under load for hours",
        command=shlex.join([*words, "--output", "FOLDER"]),
        rows=[_row("as it is", result), _row("control: leaks", leaky)],
        notes=[
            f"{len(set(_list_requests(bundle)))} kinds of requests, {CONCURRENT_REQUESTS} in flight, and "
            f"{2 * DISCONNECTING_CLIENTS} clients per round that disconnect. Sampled {ROUNDS} times without open "
            f"connections; after the first quarter memory may rise by {MAX_SLOPE:g} MB per 100,000 requests, and "
            "descriptors and threads must not change. The control keeps the address of every client, and one "
            f"descriptor per {leaky_server.REQUESTS_PER_LEAKED_DESCRIPTOR:,} requests."
        ],
    )
    click.echo(section)
    if result.faults:
        raise ManylabelError("; ".join(result.faults))
    if leaky.slope <= MAX_SLOPE or len({sample.descriptors for sample in leaky.warm}) == 1:
        raise ManylabelError("the leak of memory and descriptors in the control was not detected.")


def run_soak(spec: servers.ServerSpec, bundle: Path, seconds: float) -> SoakResult:
    """Put a server under load, and sample its process after every round."""
    requests_with_status = _list_requests(bundle)
    samples: list[ProcessSample] = []
    unexpected: Counter[int] = Counter()
    with TemporaryDirectory() as scratch, servers.start_server(spec, "late", Path(scratch) / "log") as server:
        stream = RequestStream(servers.HOST, server.port, [request for request, _ in requests_with_status])
        begin, requests = time.monotonic(), 0
        for number in tqdm(range(1, ROUNDS + 1), desc=spec.command(0)[2], disable=None):
            cycles, statuses = asyncio.run(_round(stream, begin + seconds * number / ROUNDS))
            statuses.subtract(
                {status: cycles * count for status, count in Counter(s for _, s in requests_with_status).items()}
            )
            unexpected.update({status: count for status, count in statuses.items() if count > 0})
            requests += cycles * len(requests_with_status)
            samples.append(_sample_process(server, requests))
        return SoakResult(time.monotonic() - begin, samples, dict(unexpected))


async def _round(stream: RequestStream, until: float) -> tuple[int, Counter[int]]:
    """Send all requests in cycles until a time; return the number of cycles and the statuses."""
    client = LoadClient(stream)
    for number in range(DISCONNECTING_CLIENTS):
        await _disconnect_early(stream, number)
    cycles = 0
    while not cycles or time.monotonic() < until:
        cycles += 1
        for _ in stream.requests:
            while client.in_flight >= CONCURRENT_REQUESTS:
                client.response_event.clear()
                await client.response_event.wait()
            client.send(client.now)
    await client.finish(600)
    return cycles, Counter(each.status for each in client.outcomes)


async def _disconnect_early(stream: RequestStream, number: int) -> None:
    """Disconnect in the middle of a request, and again before an answer."""
    request = stream.requests[number % len(stream.requests)]
    for part in (request[: len(request) * (number + 1) // (DISCONNECTING_CLIENTS + 1)], request):
        with suppress(OSError):
            _, writer = await asyncio.open_connection(stream.host, stream.port)
            writer.write(part)
            await writer.drain()
            writer.transport.abort() if number % 2 else writer.close()


def _sample_process(server: servers.Server, requests: int) -> ProcessSample:
    """Sample the process, after it has noticed that all clients have disconnected."""
    time.sleep(1.0)
    folder = Path(f"/proc/{server.pid}")
    threads = len(os.listdir(folder / "task"))
    return ProcessSample(requests, server.memory()[0], len(os.listdir(folder / "fd")), threads)


def _list_requests(bundle: Path) -> list[tuple[bytes, int]]:
    """Return a request of every kind with its expected status."""
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
        *[(post("/v1/classify", {"inputs": words * 50, "windows": True}), 200)]
        * CONCURRENT_REQUESTS,  # uses all threads
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


def _row(name: str, result: SoakResult) -> dict[str, Any]:
    def seen(what: str) -> str:
        values = [getattr(sample, what) for sample in result.warm]
        return " to ".join(f"{value:,.0f}" for value in sorted({min(values), max(values)}))

    return {
        "server": name,
        "minutes": f"{result.seconds / 60:.0f}",
        "requests": f"{result.samples[-1].requests:,}",
        "unexpected statuses": f"{sum(result.unexpected.values()):,}",
        "MB": seen("megabytes"),
        "MB per 100,000 requests": f"{result.slope:+.2f}",
        "descriptors": seen("descriptors"),
        "threads": seen("threads"),
        "found": "; ".join(result.faults) or "nothing",
    }


if __name__ == "__main__":
    main()
