"""How much does HTTP add to one text, and how many requests a second does each server answer with p99 under 100 ms?"""

import asyncio
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from manylabel import Bundle
from manylabel_bench.load.open_loop import at_rate, saturated, summary
from manylabel_bench.load.servers import HOST, Server
from manylabel_bench.runner.process import Turn
from manylabel_train.data.dataset import Dataset
from manylabel_train.evaluation.metrics import multilabel_metrics

LIMIT_MS = 100.0
STEPS = 6
"""Halvings of the interval in which the greatest rate lies: the last one is 1.6 % of the saturated rate wide."""


def one_text(server: Server, in_process: Turn, file: Path, texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Medians of single texts, the first in a file, over a kept connection and in the process, in turns."""
    over: list[float] = []
    within: list[float] = []
    for number in range(rounds + 1):
        measured = sequential(server, texts), in_process.ask("single", file, 0, len(texts))["seconds"]
        if number:  # the first round warms up
            over += measured[0]
            within += measured[1]
    medians = {"loopback_ms": float(np.median(over)) * 1000, "in_process_ms": float(np.median(within)) * 1000}
    return {**medians, "added_ms": medians["loopback_ms"] - medians["in_process_ms"], "texts": len(texts) * rounds}


def sequential(server: Server, texts: Sequence[str]) -> list[float]:
    """Seconds of each request, one after the other, over one connection."""
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


class Search:
    """The greatest rate at which a server's 99th percentile stays under the limit, by halving."""

    def __init__(self, server: Server, texts: Sequence[str], seconds: float) -> None:
        self.name = server.kind.name
        self._target = server.target(texts)
        self._seconds = seconds
        self.saturated = asyncio.run(saturated(self._target, 16, seconds))
        self._low, self._high = 0.0, self.saturated
        self.best: dict[str, Any] = {}

    def step(self) -> None:
        """Try the middle."""
        rate = (self._low + self._high) / 2
        found = summary(asyncio.run(at_rate(self._target, [(rate, self._seconds)])), self._seconds)
        if found["answered"] == found["sent"] and found["latency_ms"]["p99"] < LIMIT_MS:
            self._low, self.best = rate, {"rate": rate, **found}
        else:
            self._high = rate


def greatest_rates(servers: Sequence[Server], texts: Sequence[str], *, seconds: float, rounds: int) -> dict[str, Any]:
    """For each server its greatest rates, found step by step in turns: what disturbs the machine disturbs all."""
    found: dict[str, list[dict[str, Any]]] = {server.kind.name: [] for server in servers}
    for _ in range(rounds):
        searches = [Search(server, texts, seconds) for server in servers]
        for _ in range(STEPS):
            for search in searches:
                search.step()
        for search in searches:
            found[search.name].append({"saturated_per_second": search.saturated, **search.best})
    return {
        name: {
            "requests_per_second": float(np.median([each.get("rate", 0.0) for each in all_rounds])),
            "rounds": all_rounds,
        }
        for name, all_rounds in found.items()
    }


def accuracy(server: Server, bundle: Bundle, data: Dataset, precision: str) -> dict[str, Any]:
    """F1 of the server's own answers, by the thresholds of the precision that it computes in."""
    scores = server.scores(data.texts, bundle.labels)
    thresholds = np.array(bundle.variants[precision].thresholds, dtype=np.float32)
    return multilabel_metrics(scores, data.targets, thresholds)
