"""Forks, spawned workers, interpreter shutdown, read-only file systems: each in a process of its own."""

import gc
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.conftest import Python

from manylabel import Classifier

TEXTS = ["late", "the parcel was late", "good"]


def _answer(classifier: Classifier) -> list[list[float]]:
    rows: list[list[float]] = classifier.predict_proba(TEXTS).tolist()
    return rows


@pytest.mark.timeout(60)
def test_forked_classifier_raises_instead_of_hanging(bundle: Path, python: Python) -> None:
    """Neither with one text nor with several, which go to a pool whose threads did not survive."""
    done = python(
        "import os, signal, sys, warnings\n"
        "import numpy\n"
        "from manylabel import Classifier, ForkedProcess\n"
        "from manylabel.inference.ort_session import Session\n"
        "warnings.simplefilter('ignore')\n"
        "classifier = Classifier.load(sys.argv[1], device='cpu', threads=2)\n"
        "classifier.predict(['late', 'the parcel was late', 'good'])\n"
        "session = Session(open(sys.argv[1] + '/model.onnx', 'rb').read(), device='cpu')\n"
        "predict = classifier.predict\n"
        "calls = [(predict, 'late'), (predict, ['late', 'the parcel', 'good']), (session.run, numpy.array([[2, 3]]))]\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    signal.alarm(20)\n"
        "    for function, argument in calls:\n"
        "        try:\n"
        "            function(argument)\n"
        "        except ForkedProcess as exc:\n"
        "            print(exc, flush=True)\n"
        "    again = Classifier.load(sys.argv[1], device='cpu', threads=2)\n"
        "    print(len(again.predict(['late', 'the parcel was late'])), flush=True)\n"
        "    os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
        bundle,
        TOKENIZERS_PARALLELISM="false",  # otherwise tokenizers warns about the fork
    )
    assert done.returncode == 0, done.stderr
    one, several, session, again = done.stdout.splitlines()
    assert one == several == session
    assert "does not survive a fork. Load it in each worker, or pickle it" in one
    assert again == "2"


def test_classifier_in_spawned_workers(classifier: Classifier) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_answer, [classifier]) == _answer(classifier)


def test_threads_end_with_classifier(bundle: Path) -> None:
    before = set(threading.enumerate())
    classifier = Classifier.load(bundle, device="cpu", threads=3)
    classifier.predict_proba(TEXTS)
    workers = set(threading.enumerate()) - before
    assert 1 <= len(workers) <= 3
    del classifier
    gc.collect()
    for thread in workers:
        thread.join(10)
        assert not thread.is_alive()


def test_prediction_during_interpreter_shutdown(bundle: Path, python: Python) -> None:
    """In `atexit` handlers, when no pool accepts work."""
    done = python(
        "import atexit, sys\n"
        "from manylabel import Classifier\n"
        "classifier = Classifier.load(sys.argv[1], device='cpu', threads=2)\n"
        "texts = ['late', 'the parcel was late', 'good']\n"
        "expected = classifier.predict_proba(texts).tolist()\n"
        "atexit.register(lambda: print(classifier.predict_proba(texts).tolist() == expected))",
        bundle,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_prediction_in_a_thread_after_main(bundle: Path, python: Python) -> None:
    """On one thread, because by then no pool accepts work; a warning is logged."""
    done = python(
        "import sys, threading\n"
        "from manylabel import Classifier\n"
        "classifier = Classifier.load(sys.argv[1], device='cpu', threads=2)\n"
        "threading.Thread(target=lambda: print(len(classifier.predict(['late', 'the parcel was late'])))).start()",
        bundle,
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    if done.stderr:  # the pool was shut down before; Python has two messages for it
        assert re.fullmatch(
            r"continuing on one thread: cannot schedule new futures after (interpreter )?shutdown\n", done.stderr
        )


def test_onnxruntime_telemetry_is_disabled(bundle: Path, tmp_path: Path, python: Python) -> None:
    """It would keep a device ID and a database of events to upload in the user's cache."""
    script = (
        "import os, sys\n"
        "from manylabel import Classifier\n"
        "Classifier.load(sys.argv[1], device='cpu').predict('late')\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    home: dict[str, Any] = {
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "CI": "",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = python(
        f"import os; del os.environ['ORT_DISABLE_TELEMETRY']\n{script}", bundle, ORT_DISABLE_TELEMETRY="", **home
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert not list(tmp_path.rglob("*"))


def test_prediction_on_a_read_only_file_system(bundle: Path, python: Python) -> None:
    """No file may grow beyond 0 bytes, and there is neither a home nor a temporary folder."""
    done = python(
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "os.chdir('/')\n"
        "from manylabel import Classifier\n"
        "print(len(Classifier.load(sys.argv[1], device='cpu').predict(['late', 'the parcel was late'])))\n"
        "try:\n"
        "    os.write(os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY), b'x')\n"
        "except OSError as exc:\n"
        "    print(exc.strerror)",
        bundle,
        bundle.parent / "control",
        PYTHONDONTWRITEBYTECODE="1",
        HOME="/nonexistent",
        TMPDIR="/nonexistent",
    )
    (bundle.parent / "control").unlink(missing_ok=True)
    assert (done.returncode, done.stdout) == (0, "2\nFile too large\n"), done.stderr


def test_prediction_without_permission_for_threads(
    bundle: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    fresh = Classifier.load(bundle, device="cpu", threads=2)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    np.testing.assert_array_equal(fresh.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert "continuing on one thread: can't start new thread" in caplog.text


PRELOADED = """
import os
import re
from manylabel import Classifier, ForkedProcess

BUNDLE = os.environ["BUNDLE"]
early = Classifier.load(BUNDLE, device="cpu", threads=2)
early.predict(["late", "good"])
own = {}


def app(environ, start_response):
    if os.getpid() not in own:
        own[os.getpid()] = Classifier.load(BUNDLE, device="cpu", threads=2)
    try:
        message = repr(early.predict(["late", "good"]))
    except ForkedProcess as exc:
        message = str(exc)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{message}\\n{own[os.getpid()].predict_proba(['late', 'good']).tolist()}".encode()]
"""


@pytest.mark.timeout(60)
def test_gunicorn_preload_error_and_worker_load(bundle: Path, classifier: Classifier, tmp_path: Path) -> None:
    """A classifier that was loaded before the fork raises at once; one that a worker loads predicts the same bits."""
    pytest.importorskip("gunicorn")
    (tmp_path / "preloaded.py").write_text(PRELOADED)
    place = tmp_path / "socket"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "preloaded:app", "--preload"),
            *("--workers", "2", "--bind", f"unix:{place}"),
        ],
        cwd=tmp_path,
        env={**os.environ, "BUNDLE": str(bundle), "TOKENIZERS_PARALLELISM": "false"},
        stderr=subprocess.PIPE,
    )
    try:
        while not place.exists():
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.02)
        message, scores = _got(place)
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert "does not survive a fork. Load it in each worker" in message
    assert json.loads(scores) == classifier.predict_proba(["late", "good"]).tolist()


def _got(place: Path) -> list[str]:
    """Return the lines of a response over a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(place))
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return answer.decode().partition("\r\n\r\n")[2].split("\n")


def test_a_forked_pool_loads_in_each_worker(bundle: Path, python: Python) -> None:
    """With multiprocessing's fork: the initializer loads, and every worker predicts the same bits."""
    done = python(
        "import multiprocessing, sys, warnings\n"
        "from manylabel import Classifier\n"
        "warnings.simplefilter('ignore')\n"
        "def load(path):\n"
        "    global own\n"
        "    own = Classifier.load(path, device='cpu', threads=2)\n"
        "def answer(texts):\n"
        "    return own.predict_proba(texts).tolist()\n"
        "expected = Classifier.load(sys.argv[1], device='cpu', threads=2).predict_proba(['late', 'good']).tolist()\n"
        "with multiprocessing.get_context('fork').Pool(2, load, [sys.argv[1]]) as pool:\n"
        "    print(pool.map(answer, [['late', 'good']] * 4, chunksize=1) == [expected] * 4)",
        bundle,
        TOKENIZERS_PARALLELISM="false",
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_stream_without_leftover_processes(
    bundle: Path, number: signal.Signals, unmeasured: dict[str, str]
) -> None:
    """Several threads are running: the program ends by the signal, at once."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import itertools, signal, sys\n"
            "from manylabel import Classifier\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "classifier = Classifier.load(sys.argv[1], device='cpu', threads=2)\n"
            "for at, _ in enumerate(classifier.stream(itertools.repeat('the parcel was late'))):\n"
            "    if at == 1000:\n"
            "        print('running', flush=True)\n",
            str(bundle),
        ],
        env=unmeasured,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    try:
        _, message = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == -number, message
    assert number is signal.SIGTERM or message.endswith("KeyboardInterrupt\n")
