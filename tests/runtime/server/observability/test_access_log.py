"""A log that cannot be written keeps nobody from an answer."""

import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

TEXT = "the parcel was late"


@contextmanager
def serving(bundle: Path, stderr: int | IO[str], *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server and its URL, which it cannot tell: where it listens is chosen before."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "manylabel", "serve", str(bundle), "--port", str(port), *options]
    process = subprocess.Popen(command, stderr=stderr, text=True)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_until_it_listens(process: subprocess.Popen[str], url: str) -> None:
    for _ in range(3000):
        assert process.poll() is None
        with suppress(httpx.TransportError):
            httpx.get(f"{url}/health")
            return
        time.sleep(0.01)
    raise AssertionError("it does not listen")


def answers_and_ends_well(process: subprocess.Popen[str], url: str) -> None:
    """Every request has its answer, the wrong ones, too; a reload and the end are told in vain and done."""
    with httpx.Client(base_url=url, timeout=30) as client:
        for _ in range(50):
            found = client.post("/v1/classify", json={"inputs": [TEXT]})
            assert (found.status_code, len(found.json()["predictions"])) == (200, 1)
            assert client.post("/v1/classify", content=b"{").status_code == 400
        process.send_signal(signal.SIGHUP)
        assert client.post("/v1/classify", json={"inputs": [TEXT]}).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.mark.parametrize("log", ["json", "plain"])
def test_access_log_on_a_full_disk(bundle: Path, log: str) -> None:
    with open("/dev/full", "w") as full, serving(bundle, full, "--log", log) as (process, url):
        wait_until_it_listens(process, url)
        answers_and_ends_well(process, url)


def test_access_log_with_broken_pipe(bundle: Path) -> None:
    with serving(bundle, subprocess.PIPE) as (process, url):
        wait_until_it_listens(process, url)
        assert process.stderr
        process.stderr.close()
        answers_and_ends_well(process, url)


def test_access_log_resumes_after_file_size_limit(bundle: Path, tmp_path: Path) -> None:
    """A file that is emptied, as by who rotates it."""
    path = tmp_path / "log"
    with path.open("a") as file, serving(bundle, file) as (process, url):
        wait_until_it_listens(process, url)
        limit = path.stat().st_size + 1000
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        with httpx.Client(base_url=url, timeout=30) as client:
            for _ in range(20):
                assert client.post("/v1/classify", json={"inputs": [TEXT]}).status_code == 200
            assert path.stat().st_size == limit
            path.write_text("")
            for _ in range(2):  # the first one's line is written before the second is heard
                assert client.post("/v1/classify", json={"inputs": [TEXT]}).status_code == 200
        assert "own.classify" in path.read_text()
        answers_and_ends_well(process, url)
