"""The server under load: a process of its own on loopback, described by how it is started and queried."""

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

from manylabel.errors import ManylabelError
from manylabel_bench.load.open_loop import RequestStream

HOST = "127.0.0.1"
MANYLABEL_SERVER = "manylabel serve"
START_TIMEOUT = 180
"""Seconds until a server must answer: on a cold disk the imports of PyTorch alone take many."""


@dataclass(frozen=True)
class ServerSpec:
    """A server that can be measured.

    Attributes:
        name: Its name in the results.
        command: Returns the command that starts it on a port.
        path: The path that texts are posted to.
        body: Returns the request body for a text.
        probabilities: Returns the probabilities by label from an answer's body.
    """

    name: str
    command: Callable[[int], list[str]]
    path: str
    body: Callable[[str], Any]
    probabilities: Callable[[Any], Mapping[str, float]]


def manylabel_server(bundle: Path, *options: str) -> ServerSpec:
    """Return the spec of `manylabel serve` with a bundle and more options."""
    return ServerSpec(
        MANYLABEL_SERVER,
        lambda port: [sys.executable, "-m", "manylabel", "serve", str(bundle), "--port", str(port), *options],
        "/v1/classify",
        lambda text: {"inputs": text},
        lambda answer: answer["predictions"][0]["probabilities"],
    )


class Server:
    """A running server."""

    def __init__(self, spec: ServerSpec, port: int, pid: int) -> None:
        self.spec = spec
        self.port = port
        self.pid = pid

    def request_stream(self, texts: Sequence[str], **headers: str) -> RequestStream:
        """Return one request per text, sent in turn."""
        return RequestStream(HOST, self.port, [self.request(text, **headers) for text in texts])

    def request(self, text: str, **headers: str) -> bytes:
        """Return the HTTP request for a text, as bytes."""
        body = json.dumps(self.spec.body(text)).encode()
        head = {"Host": f"{HOST}:{self.port}", "Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in (head | headers).items()]
        return "\r\n".join([f"POST {self.spec.path} HTTP/1.1", *lines, "", ""]).encode() + body

    def predict_proba(self, texts: Sequence[str], labels: Sequence[str]) -> NDArray[np.float32]:
        """Return the server's probabilities, shape `(len(texts), len(labels))`."""
        connection = HTTPConnection(HOST, self.port, timeout=60)
        scores = np.zeros((len(texts), len(labels)), dtype=np.float32)
        for row, text in enumerate(texts):
            _post(connection, self.spec, text)
            by_label = self.spec.probabilities(json.load(connection.getresponse()))
            scores[row] = [by_label[label] for label in labels]
        connection.close()
        return scores

    def memory(self) -> tuple[float, float]:
        """Return the current and the peak resident memory of the process in MB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def start_server(spec: ServerSpec, text: str, log: Path) -> Iterator[Server]:
    """Run a server until the block ends.

    Args:
        spec: The server.
        text: A text that it must answer before the block begins.
        log: A file for its output.

    Raises:
        ManylabelError: It did not answer in time.
    """
    port = _free_port()
    quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "TRANSFORMERS_VERBOSITY": "error"}
    # Without limits on threads: each server decides by itself, as it does for its users.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    with log.open("wb") as file:
        process = subprocess.Popen(
            spec.command(port), stdout=file, stderr=subprocess.STDOUT, env={**environment, **quiet}
        )
    try:
        server = Server(spec, port, process.pid)
        _wait_until_ready(server, process, text, log)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: Server, process: "subprocess.Popen[bytes]", text: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        connection = HTTPConnection(HOST, server.port, timeout=60)
        try:
            _post(connection, server.spec, text)
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    tail = log.read_text(errors="replace")[-500:]
    raise ManylabelError(f"{server.spec.name} did not answer within {START_TIMEOUT} s. The end of its log: {tail}")


def _post(connection: HTTPConnection, spec: ServerSpec, text: str) -> None:
    body = json.dumps(spec.body(text))
    connection.request("POST", spec.path, body, {"Content-Type": "application/json"})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
