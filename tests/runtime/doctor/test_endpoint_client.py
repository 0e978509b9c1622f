"""`manylabel doctor --endpoint` against real servers on loopback, with right and wrong scores."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers.toy import LABELS
from tests.runtime.conftest import Cli

from manylabel import Bundle, Classifier
from manylabel.doctor.activation_diagnosis import recognise_activation

KEY = "0123456789abcdef0123456789abcdef"
Answer = Callable[[Any], Any]


@contextmanager
def answering(routes: Mapping[str, Answer], *, key: str = "") -> Iterator[str]:
    """Run a server on a free port. `routes` maps `"POST /predict"` to a function of the request's JSON."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            route = routes.get(f"{self.command} {self.path}")
            status = 401 if key and self.headers.get("Authorization") != f"Bearer {key}" else 200 if route else 404
            given = route(json.loads(body) if body else None) if route and status == 200 else {"error": "sorry"}
            content = given if isinstance(given, bytes) else json.dumps(given).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815  # the library's names

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def logits(fp32: Classifier) -> Callable[[Sequence[str]], Any]:
    """Return the logits of texts, as a server that loads the checkpoint computes them."""

    def of(texts: Sequence[str]) -> Any:
        probabilities = fp32.predict_proba(texts).astype(np.float64)
        return np.log(probabilities) - np.log1p(-probabilities)

    return of


def softmax(values: Any) -> Any:
    exponents = np.exp(values - values.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def as_tei(scores: Any, names: Sequence[str] = LABELS) -> Any:
    """Return rows of label and score, highest first."""
    rows = [
        [{"label": name, "score": score} for name, score in zip(names, row, strict=True)] for row in scores.tolist()
    ]
    return [sorted(row, key=lambda each: -each["score"]) for row in rows]


def tei(of: Callable[[Any], Any], names: Sequence[str] = LABELS) -> Mapping[str, Answer]:
    """Return the routes of text-embeddings-inference, with scores that are a function of the texts."""
    return {"POST /predict": lambda asked: as_tei(of([text for (text,) in asked["inputs"]]), names)}


def diagnosed(cli: Cli, bundle: Path, url: str, *options: object) -> Any:
    done = cli("doctor", "--endpoint", url, "--bundle", bundle, "--json", *options)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert done.exit_code == (0 if document["sound"] else 1)
    return document


def test_doctor_detects_softmax_endpoint(cli: Cli, bundle: Path, logits: Any) -> None:
    with answering(tei(lambda texts: softmax(logits(texts)))) as url:
        document = diagnosed(cli, bundle, url)
        done = cli("doctor", "--endpoint", url, "--bundle", bundle)
    assert (document["protocol"], document["kind"]) == ("text-embeddings-inference", "softmax")
    probes = Bundle.open(bundle).manifest.probes
    right = np.array([[probe.probabilities[label] for label in LABELS] for probe in probes])
    found = softmax(logits([probe.text for probe in probes]))
    assert document["greatest"] == pytest.approx(np.abs(found - right).max(), abs=1e-4)
    assert document["decisions"] == right.size
    assert document["turned"]
    for each in document["turned"]:
        assert (each["right"] >= each["threshold"]) != (each["found"] >= each["threshold"])
    assert done.exit_code == 1
    assert "The scores are a softmax over the logits of a multi-label model" in done.stdout
    assert f"{len(document['turned'])} of {right.size} decisions differ" in done.stdout
    assert "Next: manylabel serve BUNDLE" in done.stdout


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (sigmoid, "right"),
        (lambda values: values, "logits"),
        (lambda values: sigmoid(sigmoid(values)), "twice"),
        (lambda values: sigmoid(values)[:, ::-1], "unknown"),
    ],
)
def test_doctor_classifies_endpoint_scores(cli: Cli, bundle: Path, logits: Any, given: Any, kind: str) -> None:
    with answering(tei(lambda texts: given(logits(texts)))) as url:
        assert diagnosed(cli, bundle, url)["kind"] == kind


def test_endpoint_labels_by_index(cli: Cli, bundle: Path, logits: Any) -> None:
    with answering(tei(lambda texts: sigmoid(logits(texts)), [f"LABEL_{at}" for at in range(len(LABELS))])) as url:
        assert diagnosed(cli, bundle, url)["kind"] == "right"


def test_endpoint_open_inference_tensor(cli: Cli, bundle: Path, logits: Any) -> None:
    def infer(asked: Any) -> Any:
        (tensor,) = asked["inputs"]
        assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("TEXT", "BYTES", [len(tensor["data"])])
        scores = softmax(logits(tensor["data"]))
        return {
            "outputs": [
                {"name": "scores", "datatype": "FP32", "shape": [*scores.shape], "data": scores.ravel().tolist()}
            ]
        }

    routes: Mapping[str, Answer] = {
        "POST /v2/repository/index": lambda asked: [{"name": "reviews", "version": "1", "state": "READY"}],
        "GET /v2/models/reviews": lambda asked: {"inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [-1]}]},
        "POST /v2/models/reviews/infer": infer,
    }
    with answering(routes) as url:
        assert diagnosed(cli, bundle, url)["kind"] == "softmax"
        assert diagnosed(cli, bundle, f"{url}/v2/models/reviews/infer")["protocol"] == "Open Inference Protocol v2"


def test_endpoint_kserve_rounded_dictionaries(cli: Cli, bundle: Path, logits: Any) -> None:
    def rows(texts: Sequence[str]) -> list[dict[int, float]]:
        return [{at: round(score, 4) for at, score in enumerate(row)} for row in softmax(logits(texts)).tolist()]

    v1: Mapping[str, Answer] = {
        "GET /v1/models": lambda asked: {"models": ["reviews"]},
        "POST /v1/models/reviews:predict": lambda asked: {"predictions": rows(asked["instances"])},
    }
    v2: Mapping[str, Answer] = {
        "GET /v2/models": lambda asked: {"models": ["reviews"]},
        "GET /v2/models/reviews": lambda asked: {"name": "reviews", "inputs": [], "outputs": []},
        "POST /v2/models/reviews/infer": lambda asked: {
            "outputs": [
                {
                    "name": "output-0",
                    "datatype": "BYTES",
                    "shape": [6],
                    "data": [*map(str, rows(asked["inputs"][0]["data"]))],
                }
            ]
        },
    }
    for routes, protocol in ((v1, "KServe v1"), (v2, "Open Inference Protocol v2")):
        with answering(routes) as url:
            document = diagnosed(cli, bundle, url)
        assert (document["protocol"], document["kind"]) == (protocol, "softmax")


@pytest.mark.parametrize("path", ["", "/v1/classify", "/predict", "/v2/models/bundle", "/"])
def test_own_server_is_correct_in_every_protocol(cli: Cli, bundle: Path, ours: str, path: str) -> None:
    document = diagnosed(cli, bundle, ours + path)
    assert (document["kind"], document["sound"], document["turned"]) == ("right", True, [])
    expected = {"/predict": "text-embeddings-inference", "/v2/models/bundle": "Open Inference Protocol v2"}
    assert document["protocol"] == expected.get(path, "manylabel")


@pytest.fixture(scope="module")
def ours(bundle: Path) -> Iterator[str]:
    pytest.importorskip("uvicorn")
    from tests.helpers.serving import serving

    with serving(bundle, "--precision", "fp32", "--name", "bundle", MANYLABEL_API_KEY="") as url:
        yield url


def test_endpoint_client_sends_api_key(
    cli: Cli, bundle: Path, logits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    with answering(tei(lambda texts: sigmoid(logits(texts))), key=KEY) as url:
        assert diagnosed(cli, bundle, url, "--api-key-file", tmp_path / "key")["kind"] == "right"
        refused = cli("doctor", "--endpoint", url, "--bundle", bundle)
        monkeypatch.setenv("MANYLABEL_API_KEY", KEY)
        assert diagnosed(cli, bundle, url)["kind"] == "right"
    assert refused.exit_code == 2
    assert "/v1/classify returned 401 Unauthorized" in refused.stderr


@pytest.mark.parametrize(
    ("routes", "sentence"),
    [
        ({}, "speaks none of manylabel, text-embeddings-inference"),
        ({"POST /predict": lambda asked: b"<html>"}, "did not return JSON"),
        ({"POST /predict": lambda asked: {"unlike": 1}}, "the response is not one of text-embeddings-inference"),
        ({"POST /predict": lambda asked: as_tei(np.ones((1, 4)))}, "the endpoint returned scores for 1 of 6 texts"),
        ({"POST /predict": lambda asked: as_tei(np.ones((6, 2)), ["joy", "fear"])}, "returns 2 labels (fear, joy ...)"),
        (
            {
                "GET /v1/models": lambda asked: {"models": ["m"]},
                "POST /v1/models/m:predict": lambda asked: {"predictions": [1] * 6},
            },
            "returns one class per text, such as '1', instead of scores",
        ),
        (
            {
                "GET /v2/models": lambda asked: {"models": ["m"]},
                "GET /v2/models/m": lambda asked: {"inputs": [{"name": "input_ids", "datatype": "INT64"}]},
            },
            "m takes input_ids (INT64) instead of texts",
        ),
    ],
)
def test_uncheckable_endpoint_error(cli: Cli, bundle: Path, routes: Mapping[str, Answer], sentence: str) -> None:
    with answering(routes) as url:
        done = cli("doctor", "--endpoint", url, "--bundle", bundle)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--endpoint", "http://127.0.0.1:9"], "--endpoint and --bundle go together"),
        (["--bundle", "B"], "manylabel verify BUNDLE"),
        (
            ["--endpoint", "http://127.0.0.1:9", "--bundle", "BUNDLE"],
            "http://127.0.0.1:9/v1/classify cannot be reached",
        ),
        (["--endpoint", "file:///etc/passwd", "--bundle", "BUNDLE"], "'file:///etc/passwd' is not an endpoint"),
        (["--endpoint", "localhost:80", "--bundle", "BUNDLE"], "is not an endpoint: expected http://HOST:PORT"),
    ],
)
def test_usage_error_is_one_sentence(cli: Cli, bundle: Path, options: Sequence[str], sentence: str) -> None:
    done = cli("doctor", *(bundle if each == "BUNDLE" else each for each in options))
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_endpoint_tolerance_accepts_int8() -> None:
    right = np.random.default_rng(0).random((6, 28))
    noisy = np.clip(right + np.random.default_rng(1).normal(0, 0.02, right.shape), 0, 1)
    assert recognise_activation(right, noisy) == "right"
    assert recognise_activation(right, right + 0.5) == "unknown"
