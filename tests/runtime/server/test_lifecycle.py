"""The server as a separate process: signals, reloads, errors at startup."""

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
BUSY = ("--max-texts", "20000", "--max-queue-tokens", "1000000", "--timeout", "60", "--grace", "60", "--threads", "1")
"""Options with which one request keeps the tiny model busy for seconds."""


class ServerProcess:
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

    def wait(self) -> int:
        return self._process.wait(60)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stderr:
            self._process.stderr.close()


Start = Callable[..., ServerProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[ServerProcess] = []

    def run(*arguments: Any, **options: Any) -> ServerProcess:
        processes.append(ServerProcess(*arguments, **options))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()


def _post(process: ServerProcess, texts: int = 1) -> Any:
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.post(f"{process.url}/v1/classify", json={"inputs": [TEXT] * texts}, headers=headers, timeout=60)


def _wait_until_queued(process: ServerProcess) -> None:
    for _ in range(3000):
        if "manylabel_queue_requests 1.0" in httpx.get(f"{process.url}/metrics").text:
            return
        time.sleep(0.01)
    raise AssertionError("no request is in the queue")


def test_sigterm_drains_and_exits_cleanly(bundle: Path, start: Start) -> None:
    process = start(bundle, *BUSY)
    responses: list[Any] = []
    client = threading.Thread(target=lambda: responses.append(_post(process, 10_000)))
    client.start()
    _wait_until_queued(process)
    process.send(signal.SIGTERM)
    process.wait_for("draining; requests in progress: 1")
    assert httpx.get(f"{process.url}/health").status_code == 503
    assert httpx.get(f"{process.url}/v2/health/ready").status_code == 503
    assert _post(process).status_code == 503
    client.join()
    assert [response.status_code for response in responses] == [200]
    assert len(responses[0].json()["predictions"]) == 10_000
    assert process.wait() == 0
    process.wait_for("shutdown complete")
    assert TEXT not in "".join(process.log)


def test_api_key_is_required_and_never_logged(bundle: Path, start: Start) -> None:
    process = start(bundle, key=KEY)
    refused = httpx.post(f"{process.url}/v1/classify", json={"inputs": TEXT})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert _post(process).status_code == 200
    assert httpx.get(f"{process.url}/v2/health/ready").json() == {"ready": True}
    assert KEY not in "".join(process.log)


def test_warns_of_public_host_without_key(bundle: Path, start: Start) -> None:
    start(bundle, "--host", "0.0.0.0").wait_for("listening on 0.0.0.0 without an API key")
    assert "without an API key" not in "".join(start(bundle, "--host", "0.0.0.0", key=KEY).log)


def test_failed_reload_keeps_the_old_bundle(bundle: Path, own_bundle: Path, start: Start) -> None:
    process = start(own_bundle, key=KEY)
    headers = {"Authorization": f"Bearer {KEY}"}
    load = f"{process.url}/v2/repository/models/tiny/load"
    assert httpx.post(load, headers=headers, timeout=20).json()["changed"] is False
    assert httpx.post(load, timeout=20).status_code == 401
    (own_bundle / "model.onnx").write_bytes(b"broken")
    failed = httpx.post(load, headers=headers, timeout=20)
    assert failed.status_code == 422
    assert "stays in service" in failed.json()["error"]
    assert _post(process).status_code == 200
    shutil.copy(bundle / "model.onnx", own_bundle / "model.onnx")
    process.send(signal.SIGHUP)
    process.wait_for("reloaded")
    assert _post(process).status_code == 200


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
    assert _post(process).status_code == 200


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
    assert "the API key cannot be used" in done.stderr
    assert "MANYLABEL_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_second_signal_exits_immediately(bundle: Path, start: Start) -> None:
    process = start(bundle, *BUSY)
    client = threading.Thread(target=_post_and_get_disconnected, args=(process,))
    client.start()
    _wait_until_queued(process)
    process.send(signal.SIGTERM)
    process.wait_for("draining; requests in progress: 1")
    process.send(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    process.wait_for("exiting immediately")
    client.join()


def test_grace_period_limits_the_drain(bundle: Path, start: Start) -> None:
    process = start(bundle, *BUSY, "--grace", "0.2")
    responses: list[Any] = []
    client = threading.Thread(target=lambda: responses.append(_post(process, 20_000)))
    client.start()
    _wait_until_queued(process)
    process.send(signal.SIGINT)
    assert process.wait() == 0
    process.wait_for("requests aborted: 1")
    client.join()
    assert [response.status_code for response in responses] == [503]


def _post_and_get_disconnected(process: ServerProcess) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        _post(process, 20_000)


@pytest.mark.parametrize("how", ["in place", "by a symbolic link"])
def test_reload_without_failed_requests(bundle: Path, tmp_path: Path, resign: Any, start: Start, how: str) -> None:
    """Both ways of deployment: files are replaced, or a symbolic link is switched to another folder."""
    old, new = (Path(shutil.copytree(bundle, tmp_path / name)) for name in ("old", "new"))
    resign(new, lambda manifest: [each.update(thresholds=[0.25] * 4) for each in manifest["variants"]])
    link = tmp_path / "current"
    link.symlink_to(old)
    process = start(link if how == "by a symbolic link" else old)
    versions: list[str] = []
    done = threading.Event()

    def post_repeatedly() -> None:
        with httpx.Client() as client:
            while not done.is_set():
                response = client.post(f"{process.url}/v1/classify", json={"inputs": TEXT})
                assert response.status_code == 200
                body = response.json()
                assert (set(body["thresholds"].values()) == {0.25}) == (body["version"] == _version(new))
                versions.append(body["version"])

    clients = [threading.Thread(target=post_repeatedly) for _ in range(3)]
    for client in clients:
        client.start()
    _wait_for_more(versions, clients)
    first = _version(old)
    if how == "by a symbolic link":
        (tmp_path / "next").symlink_to(new)
        (tmp_path / "next").rename(link)
    else:
        for file in new.iterdir():
            shutil.copy(file, old / file.name)
    process.send(signal.SIGHUP)
    process.wait_for(f"reloaded: version {_version(new)} replaces {first}")
    _wait_for_more(versions, clients)
    done.set()
    for client in clients:
        client.join()
    assert (versions[0], versions[-1]) == (first, _version(new))
    metrics = httpx.get(f"{process.url}/metrics").text
    assert f'bundle="{_version(new)}"' in metrics
    assert first not in metrics


def _wait_for_more(responses: list[str], clients: list[threading.Thread]) -> None:
    seen = len(responses)
    while len(responses) < seen + 20:
        assert all(client.is_alive() for client in clients), "a request failed"
        time.sleep(0.01)


def _version(folder: Path) -> str:
    return str(json.loads((folder / "bundle.json").read_text())["digest"])[:12]


def test_reload_rejects_wrong_probes(own_bundle: Path, resign: Any, start: Start) -> None:
    """Its files and checksums are valid, but its probes fail."""
    process = start(own_bundle)
    first = _version(own_bundle)

    def invert_probes(manifest: dict[str, Any]) -> None:
        for probe in manifest["probes"]:
            probe["probabilities"] = {name: 1 - value for name, value in probe["probabilities"].items()}

    resign(own_bundle, invert_probes)
    process.send(signal.SIGHUP)
    process.wait_for("cannot be loaded")
    assert _post(process).json()["version"] == first
    assert 'manylabel_reloads_total{outcome="failed"} 1.0' in httpx.get(f"{process.url}/metrics").text


def test_disconnected_client_is_not_computed(bundle: Path, start: Start) -> None:
    process = start(bundle, *BUSY)
    with connected(process.url) as wire:
        wire.send(post(json.dumps({"inputs": [TEXT] * 20_000}).encode()))
        _wait_until_queued(process)
    process.wait_for('"status":499,"ms":[^}]*"reason":"cancelled"')
    assert "manylabel_queue_tokens 0.0" in httpx.get(f"{process.url}/metrics").text


def test_sigstop_then_sigcont_answers_requests(bundle: Path, start: Start) -> None:
    """The process is suspended for longer than the header timeout, which must not count against the clients."""
    process = start(bundle, "--header-timeout", "1")
    with connected(process.url) as kept, connected(process.url) as closed:
        for wire in (kept, closed):
            wire.send(post(b'{"inputs": "late"}'))
            assert wire.response().status == 200
        with connected(process.url) as partial:
            partial.send(post(b'{"inputs": "late"}')[:20])
            process.send(signal.SIGSTOP)
            partial.send(post(b'{"inputs": "late"}')[20:])
            kept.send(post(b'{"inputs": "late"}'))
            with connected(process.url) as new:
                new.send(post(b'{"inputs": "late"}'))
                time.sleep(1.5)
                process.send(signal.SIGCONT)
                assert [wire.response().status for wire in (kept, partial, new)] == [200, 200, 200]


def test_sigkill_closes_connections_and_frees_port(bundle: Path, start: Start) -> None:
    process = start(bundle, *BUSY)
    client = threading.Thread(target=_post_and_get_disconnected, args=(process,))
    client.start()
    _wait_until_queued(process)
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    client.join(10)
    assert not client.is_alive()
    again = start(bundle, "--port", process.url.rpartition(":")[2])
    assert again.url == process.url
    assert _post(again).status_code == 200
