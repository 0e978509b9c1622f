"""The examples run as their docstrings describe, in the real frameworks, and predict what the bundle predicts."""

import base64
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from manylabel import Classifier

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
TEXTS = ["late parcel", "very good and cheap", "die rechnung war zu teuer"]
SECONDS = 60


@pytest.fixture(scope="session")
def labels(bundle: Path) -> list[list[str]]:
    """The predictions of the bundle."""
    return Classifier.load(bundle, device="cpu").predict(TEXTS)


@contextmanager
def run_process(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process with this environment's Python, and stop it with SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **environment},
        cwd=EXAMPLES.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=SECONDS)
        finally:
            process.kill()
            process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(process: subprocess.Popen[str], url: str, body: bytes, kind: str) -> object:
    """Return the JSON response to a POST, once the server listens."""
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    for _ in range(SECONDS * 10):
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
    pytest.fail(f"no server listens at {url}")


def test_fastapi_app_predicts(bundle: Path, labels: list[list[str]]) -> None:
    pytest.importorskip("fastapi")
    port = free_port()
    command = ["-m", "uvicorn", "--app-dir", "examples", "--port", str(port), "fastapi_app:app"]
    with run_process(command, BUNDLE=str(bundle)) as process:
        url = f"http://127.0.0.1:{port}/labels"
        assert post(process, url, json.dumps({"texts": TEXTS}).encode(), "application/json") == labels
        with pytest.raises(urllib.error.HTTPError) as error:
            post(process, url, b'{"texts": [1]}', "application/json")
        assert error.value.code == 422
        error.value.close()


def test_django_app_predicts(bundle: Path, labels: list[list[str]]) -> None:
    pytest.importorskip("django")
    port = free_port()
    command = ["examples/django_app.py", "runserver", "--noreload", str(port)]
    with run_process(command, BUNDLE=str(bundle)) as process:
        url = f"http://127.0.0.1:{port}/labels"
        for text, expected in zip(TEXTS, labels, strict=True):
            response = post(
                process, url, f"text={text}".replace(" ", "+").encode(), "application/x-www-form-urlencoded"
            )
            assert isinstance(response, dict)
            assert sorted(response["labels"]) == sorted(expected)
            assert len(response["scores"]) == 4


def test_celery_forked_processes_predict(bundle: Path, labels: list[list[str]], tmp_path: Path) -> None:
    """With a file-based broker, so that the worker is a separate process, which forks."""
    pytest.importorskip("celery")
    for name in ("queue", "control", "results"):
        (tmp_path / name).mkdir()
    configuration = (
        "import celery_worker\n"
        f"folders = {{'data_folder_in': {str(tmp_path / 'queue')!r}, 'data_folder_out': {str(tmp_path / 'queue')!r},\n"
        f"           'control_folder': {str(tmp_path / 'control')!r}}}\n"
        "app = celery_worker.app\n"
        "app.conf.broker_transport_options = folders\n"
    )
    (tmp_path / "configured.py").write_text(configuration)
    environment = {
        "BUNDLE": str(bundle),
        "BROKER": "filesystem://",
        "BACKEND": f"file://{tmp_path / 'results'}",
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    two_tasks = (
        "import json, configured, celery_worker\n"
        f"results = [celery_worker.labels.delay({TEXTS!r}) for _ in range(2)]\n"
        f"print(json.dumps([result.get(timeout={SECONDS}) for result in results]))"
    )
    command = ["-m", "celery", "--app", "configured", "worker", "--concurrency", "2", "--pool", "prefork"]
    with run_process(command, **environment):
        completed = subprocess.run(
            [sys.executable, "-c", two_tasks],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=2 * SECONDS,
            check=False,
        )
        assert completed.returncode == 0, completed.stderr
        assert json.loads(completed.stdout) == [labels, labels]


Handler = Callable[[dict[str, object]], dict[str, object]]


@pytest.fixture
def handler(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Handler:
    monkeypatch.setenv("BUNDLE", str(bundle))
    return load("lambda_handler").handler  # type: ignore[no-any-return]  # a module loaded from its path


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lambda_function_handles_events(handler: Handler, labels: list[list[str]]) -> None:
    body = json.dumps({"texts": TEXTS})
    plain = handler({"body": body})
    encoded = handler({"body": base64.b64encode(body.encode()).decode(), "isBase64Encoded": True})
    assert plain == encoded
    assert plain["statusCode"] == 200
    assert json.loads(str(plain["body"])) == {"labels": labels}


@pytest.mark.parametrize("body", [None, "", "not JSON", "[]", '{"text": "late"}', '{"texts": [1]}', '{"texts": 5}'])
def test_lambda_function_rejects_invalid_events(handler: Handler, body: str | None) -> None:
    assert handler({"body": body})["statusCode"] == 400


def test_embedded_classifier_predicts(bundle: Path) -> None:
    with run_process(["examples/embed.py", str(bundle)]) as process:
        output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert output.splitlines()[-1] == "3 texts, 4 labels: billing, delivery, price, user experience"
