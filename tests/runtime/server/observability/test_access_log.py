"""A log that cannot be written does not prevent responses."""

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
    """Run a server on a port chosen beforehand, since its log may not show the URL."""
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


def wait_until_listening(process: subprocess.Popen[str], url: str) -> None:
    for _ in range(3000):
        assert process.poll() is None
        with suppress(httpx.TransportError):
            httpx.get(f"{url}/health")
            return
        time.sleep(0.01)
    raise AssertionError("the server does not listen")


def check_responses_and_shutdown(process: subprocess.Popen[str], url: str) -> None:
    """Check that requests get responses, and that reload and shutdown work although their log lines are lost."""
    with httpx.Client(base_url=url, timeout=30) as client:
        for _ in range(50):
            response = client.post("/v1/classify", json={"inputs": [TEXT]})
            assert (response.status_code, len(response.json()["predictions"])) == (200, 1)
            assert client.post("/v1/classify", content=b"{").status_code == 400
        process.send_signal(signal.SIGHUP)
        assert client.post("/v1/classify", json={"inputs": [TEXT]}).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.mark.parametrize("log", ["json", "plain"])
def test_access_log_on_a_full_disk(bundle: Path, log: str) -> None:
    with open("/dev/full", "w") as full, serving(bundle, full, "--log", log) as (process, url):
        wait_until_listening(process, url)
        check_responses_and_shutdown(process, url)


def test_access_log_with_broken_pipe(bundle: Path) -> None:
    with serving(bundle, subprocess.PIPE) as (process, url):
        wait_until_listening(process, url)
        assert process.stderr
        process.stderr.close()
        check_responses_and_shutdown(process, url)


def test_access_log_resumes_after_file_size_limit(bundle: Path, tmp_path: Path) -> None:
    """The file is truncated, as by log rotation."""
    path = tmp_path / "log"
    with path.open("a") as file, serving(bundle, file) as (process, url):
        wait_until_listening(process, url)
        limit = path.stat().st_size + 1000
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        with httpx.Client(base_url=url, timeout=30) as client:
            for _ in range(20):
                assert client.post("/v1/classify", json={"inputs": [TEXT]}).status_code == 200
            assert path.stat().st_size == limit
            path.write_text("")
            for _ in range(2):  # the first request's line is written before the second response arrives
                assert client.post("/v1/classify", json={"inputs": [TEXT]}).status_code == 200
        assert "own.classify" in path.read_text()
        check_responses_and_shutdown(process, url)
