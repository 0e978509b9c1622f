"""A server as a process of its own: signals, reloads, what it says when it cannot start."""

import json
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
from tests.helpers.wire import connected, post
from tests.runtime.conftest import Resign

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
        self.url = self.wait_for(r"http://[\d.]+:\d+")

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


def test_sigterm_drains_and_exits_cleanly(bundle: Path, start: Start) -> None:
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


def test_api_key_is_required_and_never_logged(bundle: Path, start: Start) -> None:
    process = start(bundle, key=KEY)
    refused = httpx.post(f"{process.url}/v1/classify", json={"inputs": TEXT})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert _ask(process).status_code == 200
    assert httpx.get(f"{process.url}/v2/health/ready").json() == {"ready": True}
    assert KEY not in "".join(process.log)


def test_warns_of_public_host_without_key(bundle: Path, start: Start) -> None:
    start(bundle, "--host", "0.0.0.0").wait_for("0.0.0.0 is not loopback and there is no key")
    assert "not loopback" not in "".join(start(bundle, "--host", "0.0.0.0", key=KEY).log)


def test_failed_reload_keeps_the_old_bundle(bundle: Path, own_bundle: Path, start: Start) -> None:
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


def test_reload_rejects_unreadable_scores(own_bundle: Path, start: Start, resign: Resign) -> None:
    process = start(own_bundle, key=KEY)
    headers = {"Authorization": f"Bearer {KEY}"}
    before = httpx.get(f"{process.url}/v1/model", headers=headers).json()["version"]
    (own_bundle / "scores.json").write_text("{}")
    resign(own_bundle)
    failed = httpx.post(f"{process.url}/v2/repository/models/tiny/load", headers=headers, timeout=20)
    assert failed.status_code == 422
    assert "scores.json" in failed.json()["error"]
    assert httpx.get(f"{process.url}/v1/model", headers=headers).json()["version"] == before
    assert _ask(process).status_code == 200


def test_invalid_api_key_is_rejected_at_start(bundle: Path) -> None:
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


def test_second_signal_exits_immediately(bundle: Path, start: Start) -> None:
    process = start(bundle, *MANY)
    client = threading.Thread(target=_ask_and_lose, args=(process,))
    client.start()
    _wait_until_asked(process)
    process.send(signal.SIGTERM)
    process.wait_for("no new texts are taken, 1 requests")
    process.send(signal.SIGTERM)
    assert process.ended() == 128 + signal.SIGTERM
    process.wait_for("ending at once")
    client.join()


def test_grace_period_limits_the_drain(bundle: Path, start: Start) -> None:
    process = start(bundle, *MANY, "--grace", "0.2")
    answers: list[Any] = []
    client = threading.Thread(target=lambda: answers.append(_ask(process, 20_000)))
    client.start()
    _wait_until_asked(process)
    process.send(signal.SIGINT)
    assert process.ended() == 0
    process.wait_for("1 requests are given up")
    client.join()
    assert [answer.status_code for answer in answers] == [503]


def _ask_and_lose(process: Process) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        _ask(process, 20_000)


@pytest.mark.parametrize("how", ["in place", "by a link"])
def test_reload_without_failed_requests(bundle: Path, tmp_path: Path, resign: Any, start: Start, how: str) -> None:
    """Both ways of deploying: files replaced, or a link turned to another folder."""
    old, new = (Path(shutil.copytree(bundle, tmp_path / name)) for name in ("old", "new"))
    resign(new, lambda manifest: [each.update(thresholds=[0.25] * 4) for each in manifest["variants"]])
    link = tmp_path / "current"
    link.symlink_to(old)
    process = start(link if how == "by a link" else old)
    versions: list[str] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client() as client:
            while not done.is_set():
                answer = client.post(f"{process.url}/v1/classify", json={"inputs": TEXT})
                assert answer.status_code == 200
                found = answer.json()
                assert (set(found["thresholds"].values()) == {0.25}) == (found["version"] == _version(new))
                versions.append(found["version"])

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    _wait_for_more(versions, clients)
    first = _version(old)
    if how == "by a link":
        (tmp_path / "next").symlink_to(new)
        (tmp_path / "next").rename(link)
    else:
        for file in new.iterdir():
            shutil.copy(file, old / file.name)
    process.send(signal.SIGHUP)
    process.wait_for(f"reloaded: {first} before, {_version(new)} now")
    _wait_for_more(versions, clients)
    done.set()
    for client in clients:
        client.join()
    assert (versions[0], versions[-1]) == (first, _version(new))
    metrics = httpx.get(f"{process.url}/metrics").text
    assert f'bundle="{_version(new)}"' in metrics
    assert first not in metrics


def _wait_for_more(answers: list[str], clients: list[threading.Thread]) -> None:
    seen = len(answers)
    while len(answers) < seen + 20:
        assert all(client.is_alive() for client in clients), "a request failed"
        time.sleep(0.01)


def _version(folder: Path) -> str:
    return str(json.loads((folder / "bundle.json").read_text())["digest"])[:12]


def test_reload_rejects_wrong_probes(own_bundle: Path, resign: Any, start: Start) -> None:
    """Its files are whole and its digests fit: the probes tell."""
    process = start(own_bundle)
    first = _version(own_bundle)

    def lie(manifest: dict[str, Any]) -> None:
        for probe in manifest["probes"]:
            probe["probabilities"] = {name: 1 - value for name, value in probe["probabilities"].items()}

    resign(own_bundle, lie)
    process.send(signal.SIGHUP)
    process.wait_for("cannot be loaded")
    assert _ask(process).json()["version"] == first
    assert 'manylabel_reloads_total{outcome="failed"} 1.0' in httpx.get(f"{process.url}/metrics").text


def test_disconnected_client_is_not_computed(bundle: Path, start: Start) -> None:
    process = start(bundle, *MANY)
    with connected(process.url) as wire:
        wire.send(post(json.dumps({"inputs": [TEXT] * 20_000}).encode()))
        _wait_until_asked(process)
    process.wait_for('"status":499,"ms":[^}]*"reason":"cancelled"')
    assert "manylabel_queue_tokens 0.0" in httpx.get(f"{process.url}/metrics").text


def test_sigstop_then_sigcont_answers_requests(bundle: Path, start: Start) -> None:
    """Longer than headers may take: time in which nobody could read is nobody's fault."""
    process = start(bundle, "--header-timeout", "1")
    with connected(process.url) as kept, connected(process.url) as gone:
        for wire in (kept, gone):
            wire.send(post(b'{"inputs": "late"}'))
            assert wire.answer().status == 200
        with connected(process.url) as halfway:
            halfway.send(post(b'{"inputs": "late"}')[:20])
            process.send(signal.SIGSTOP)
            halfway.send(post(b'{"inputs": "late"}')[20:])
            kept.send(post(b'{"inputs": "late"}'))
            with connected(process.url) as new:
                new.send(post(b'{"inputs": "late"}'))
                time.sleep(1.5)
                process.send(signal.SIGCONT)
                assert [wire.answer().status for wire in (kept, halfway, new)] == [200, 200, 200]


def test_sigkill_closes_connections_and_frees_port(bundle: Path, start: Start) -> None:
    process = start(bundle, *MANY)
    client = threading.Thread(target=_ask_and_lose, args=(process,))
    client.start()
    _wait_until_asked(process)
    process.send(signal.SIGKILL)
    assert process.ended() == -signal.SIGKILL
    client.join(10)
    assert not client.is_alive()
    again = start(bundle, "--port", process.url.rpartition(":")[2])
    assert again.url == process.url
    assert _ask(again).status_code == 200
