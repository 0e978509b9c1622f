"""A server as a process of its own: signals, reloads, what it says when it cannot start."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

KEY = "0123456789abcdef0123456789abcdef"
TEXT = "the parcel was late"
MANY = ("--max-texts", "20000", "--max-queue-tokens", "1000000", "--timeout", "60", "--grace", "60", "--threads", "1")
"""Options by which one request keeps the tiny model busy for seconds."""


class Process:
    """`manylabel serve` on a free port."""

    def __init__(self, bundle: Path, *options: str, key: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "manylabel", "serve", str(bundle), "--port", "0", "--name", "tiny", *options],
            env={**os.environ, "MANYLABEL_API_KEY": key},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self.wait_for(r"http://127\.0\.0\.1:\d+")

    def _read(self) -> None:
        for line in self._process.stderr or ():
            self.log.append(line)

    def wait_for(self, pattern: str) -> str:
        for _ in range(3000):
            if found := re.search(pattern, "".join(self.log)):
                return found[0]
            time.sleep(0.01)
        raise AssertionError("".join(self.log))

    def send(self, name: signal.Signals) -> None:
        self._process.send_signal(name)

    def ended(self) -> int:
        return self._process.wait(60)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stderr:
            self._process.stderr.close()


Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[Process] = []

    def run(*arguments: Any, **options: Any) -> Process:
        processes.append(Process(*arguments, **options))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()


def _ask(process: Process, texts: int = 1) -> Any:
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.post(f"{process.url}/v1/classify", json={"inputs": [TEXT] * texts}, headers=headers, timeout=60)


def _wait_until_asked(process: Process) -> None:
    for _ in range(3000):
        if "manylabel_queue_requests 1.0" in httpx.get(f"{process.url}/metrics").text:
            return
        time.sleep(0.01)
    raise AssertionError("no request waits")


def test_it_answers_what_it_took_and_ends_well(bundle: Path, start: Start) -> None:
    process = start(bundle, *MANY)
    answers: list[Any] = []
    client = threading.Thread(target=lambda: answers.append(_ask(process, 20_000)))
    client.start()
    _wait_until_asked(process)
    process.send(signal.SIGTERM)
    process.wait_for("no new texts are taken, 1 requests")
    assert httpx.get(f"{process.url}/health").status_code == 503
    assert httpx.get(f"{process.url}/v2/health/ready").status_code == 503
    assert _ask(process).status_code == 503
    client.join()
    assert [answer.status_code for answer in answers] == [200]
    assert len(answers[0].json()["predictions"]) == 20_000
    assert process.ended() == 0
    process.wait_for("ended")
    assert TEXT not in "".join(process.log)


def test_the_key_is_asked_for_and_never_logged(bundle: Path, start: Start) -> None:
    process = start(bundle, key=KEY)
    refused = httpx.post(f"{process.url}/v1/classify", json={"inputs": TEXT})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert _ask(process).status_code == 200
    assert httpx.get(f"{process.url}/v2/health/ready").json() == {"ready": True}
    assert KEY not in "".join(process.log)


def test_a_reload_switches_and_a_failed_one_keeps_the_old(bundle: Path, own_bundle: Path, start: Start) -> None:
    process = start(own_bundle, key=KEY)
    headers = {"Authorization": f"Bearer {KEY}"}
    load = f"{process.url}/v2/repository/models/tiny/load"
    assert httpx.post(load, headers=headers, timeout=20).json()["changed"] is False
    assert httpx.post(load, timeout=20).status_code == 401
    (own_bundle / "model.onnx").write_bytes(b"broken")
    failed = httpx.post(load, headers=headers, timeout=20)
    assert failed.status_code == 422
    assert "goes on answering" in failed.json()["error"]
    assert _ask(process).status_code == 200
    shutil.copy(bundle / "model.onnx", own_bundle / "model.onnx")
    process.send(signal.SIGHUP)
    process.wait_for("reloaded")
    assert _ask(process).status_code == 200


def test_an_unusable_key_is_refused_at_the_start(bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "manylabel", "serve", str(bundle), "--port", "0"],
        env={**os.environ, "MANYLABEL_API_KEY": "short"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "MANYLABEL_API_KEY holds no key" in done.stderr
    assert "Traceback" not in done.stderr
