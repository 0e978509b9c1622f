"""Throughput: the time that HTTP adds to one text, and the highest rate at which each server keeps p99 below 100 ms."""

import asyncio
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from manylabel import Bundle
from manylabel_bench.load.open_loop import measure_saturation, send_at_rate, summarize_outcomes
from manylabel_bench.load.servers import HOST, Server
from manylabel_bench.runner.process import ContenderProcess
from manylabel_train.data.dataset import Dataset
from manylabel_train.evaluation.metrics import multilabel_metrics

P99_LIMIT_MS = 100.0
BISECTION_STEPS = 6
"""Afterwards the highest rate is known to within 1.6 % of the saturated rate."""


def compare_single_texts(
    server: Server, in_process: ContenderProcess, file: Path, texts: Sequence[str], rounds: int
) -> dict[str, Any]:
    """Return the median latency of single texts over a keep-alive connection and in the process, in turns.

    Args:
        server: The running server.
        in_process: The same model without HTTP.
        file: A file that begins with the texts.
        texts: The texts to score.
        rounds: Number of turns, after one to warm up.
    """
    http: list[float] = []
    direct: list[float] = []
    for number in range(rounds + 1):
        over_http = time_requests(server, texts)
        in_memory = in_process.request("single", file, 0, len(texts))["seconds"]
        if number:  # the first round warms up
            http += over_http
            direct += in_memory
    medians = {"loopback_ms": float(np.median(http)) * 1000, "in_process_ms": float(np.median(direct)) * 1000}
    return {**medians, "added_ms": medians["loopback_ms"] - medians["in_process_ms"], "texts": len(texts) * rounds}


def time_requests(server: Server, texts: Sequence[str]) -> list[float]:
    """Return the seconds of each request, sent one after the other over one connection."""
    seconds = []
    with socket.create_connection((HOST, server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in (server.request(text) for text in texts):
            begin = time.perf_counter()
            connection.sendall(request)
            _read_answer(connection)
            seconds.append(time.perf_counter() - begin)
    return seconds


def _read_answer(connection: socket.socket) -> None:
    received = b""
    while True:
        received += connection.recv(65536)
        head, mark, body = received.partition(b"\r\n\r\n")
        if mark:
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:")
            if len(body) >= length:
                return


class RateSearch:
    """A bisection for the highest rate at which a server's p99 latency stays below the limit."""

    def __init__(self, server: Server, texts: Sequence[str], seconds: float) -> None:
        self.name = server.spec.name
        self._stream = server.request_stream(texts)
        self._seconds = seconds
        self.saturated = asyncio.run(measure_saturation(self._stream, 16, seconds))
        self._low, self._high = 0.0, self.saturated
        self.best: dict[str, Any] = {}

    def step(self) -> None:
        """Try the middle of the remaining interval."""
        rate = (self._low + self._high) / 2
        outcomes = asyncio.run(send_at_rate(self._stream, [(rate, self._seconds)]))
        summary = summarize_outcomes(outcomes, self._seconds)
        if summary["answered"] == summary["sent"] and summary["latency_ms"]["p99"] < P99_LIMIT_MS:
            self._low, self.best = rate, {"rate": rate, **summary}
        else:
            self._high = rate


def find_highest_rates(
    servers: Sequence[Server], texts: Sequence[str], *, seconds: float, rounds: int
) -> dict[str, Any]:
    """Find the highest rates of each server, step by step in turns, so that noise of the machine affects all alike."""
    by_server: dict[str, list[dict[str, Any]]] = {server.spec.name: [] for server in servers}
    for _ in range(rounds):
        searches = [RateSearch(server, texts, seconds) for server in servers]
        for _ in range(BISECTION_STEPS):
            for search in searches:
                search.step()
        for search in searches:
            by_server[search.name].append({"saturated_per_second": search.saturated, **search.best})
    return {
        name: {
            "requests_per_second": float(np.median([one_round.get("rate", 0.0) for one_round in all_rounds])),
            "rounds": all_rounds,
        }
        for name, all_rounds in by_server.items()
    }


def measure_accuracy(server: Server, bundle: Bundle, data: Dataset, precision: str) -> dict[str, Any]:
    """Return F1 of the server's answers, with the thresholds of the precision that it computes in."""
    scores = server.predict_proba(data.texts, bundle.labels)
    thresholds = np.array(bundle.variants[precision].thresholds, dtype=np.float32)
    return multilabel_metrics(scores, data.targets, thresholds)
