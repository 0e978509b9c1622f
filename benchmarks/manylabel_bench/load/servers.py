"""Who is measured: each a process of its own on loopback, with requests and answers in its own words."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from load_tests.slo import INFINITY, OURS, PIPELINE
from manylabel.errors import ManylabelError
from manylabel_bench.load.open_loop import Target

HOST = "127.0.0.1"
RIVAL = Path(__file__).parents[2] / "load_tests" / "fastapi_pipeline_baseline.py"
START = 180
"""Seconds until a server has to answer: PyTorch's imports alone take many on a cold disk."""


@dataclass(frozen=True)
class Kind:
    """A server that can be measured.

    Attributes:
        name: In the results.
        command: Starts it on a port.
        path: Where texts are sent.
        body: A text's request.
        scores: An answer's probabilities by label.
    """

    name: str
    command: Callable[[int], list[str]]
    path: str
    body: Callable[[str], Any]
    scores: Callable[[Any], Mapping[str, float]]


def manylabel(bundle: Path, *options: str) -> Kind:
    """The server of this package."""
    return Kind(
        OURS,
        lambda port: [sys.executable, "-m", "manylabel", "serve", str(bundle), "--port", str(port), *options],
        "/v1/classify",
        lambda text: {"inputs": text},
        lambda answer: answer["predictions"][0]["probabilities"],
    )


def fastapi(python: Path, checkpoint: Path) -> Kind:
    """`transformers.pipeline` behind FastAPI."""
    return Kind(
        PIPELINE,
        lambda port: [str(python), str(RIVAL), str(checkpoint), str(port)],
        "/classify",
        lambda text: {"text": text},
        _by_label,
    )


def infinity(python: Path, checkpoint: Path) -> Kind:
    """infinity-emb with its own dynamic batches, on PyTorch."""
    options = ["--engine", "torch", "--device", "cpu", "--no-bettertransformer", "--host", HOST, "--log-level", "error"]
    program = str(python.with_name("infinity_emb"))
    return Kind(
        INFINITY,
        lambda port: [
            program,
            "v2",
            "--model-id",
            str(checkpoint),
            "--served-model-name",
            "m",
            *options,
            "--port",
            str(port),
        ],
        "/classify",
        lambda text: {"model": "m", "input": [text]},
        lambda answer: _by_label(answer["data"][0]),
    )


def _by_label(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {row["label"]: row["score"] for row in rows}


class Server:
    """A server that runs."""

    def __init__(self, kind: Kind, port: int, pid: int) -> None:
        self.kind = kind
        self.port = port
        self.pid = pid

    def target(self, texts: Sequence[str], **headers: str) -> Target:
        """A request for each text, to be taken in turn."""
        return Target(HOST, self.port, [self.request(text, **headers) for text in texts])

    def request(self, text: str, **headers: str) -> bytes:
        """A text's request as it goes over the wire."""
        body = json.dumps(self.kind.body(text)).encode()
        head = {"Host": f"{HOST}:{self.port}", "Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in (head | headers).items()]
        return "\r\n".join([f"POST {self.kind.path} HTTP/1.1", *lines, "", ""]).encode() + body

    def scores(self, texts: Sequence[str], labels: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities, shape `(len(texts), len(labels))`."""
        connection = HTTPConnection(HOST, self.port, timeout=60)
        result = np.zeros((len(texts), len(labels)), dtype=np.float32)
        for row, text in enumerate(texts):
            body = json.dumps(self.kind.body(text))
            connection.request("POST", self.kind.path, body, {"Content-Type": "application/json"})
            found = self.kind.scores(json.load(connection.getresponse()))
            result[row] = [found[label] for label in labels]
        connection.close()
        return result

    def memory(self) -> tuple[float, float]:
        """Resident memory of the process now and at most, in MB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]

    def cpu_seconds(self) -> float:
        """Processor time that the process has taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(kind: Kind, text: str, log: Path) -> Iterator[Server]:
    """Run a server until the block ends; it has answered once when it begins."""
    port = _free_port()
    quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            kind.command(port), stdout=file, stderr=subprocess.STDOUT, env={**_without_limits(), **quiet}
        )
    try:
        server = Server(kind, port, process.pid)
        _wait(server, process, text, log)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _without_limits() -> dict[str, str]:
    """Each server decides on its threads by itself, as it does for its users."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}


def _wait(server: Server, process: "subprocess.Popen[bytes]", text: str, log: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            connection = HTTPConnection(HOST, server.port, timeout=60)
            body = json.dumps(server.kind.body(text))
            connection.request("POST", server.kind.path, body, {"Content-Type": "application/json"})
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    said = log.read_text(errors="replace")[-500:]
    raise ManylabelError(f"{server.kind.name} did not answer within {START} s. It said: {said}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
