"""The native protocol and the web page, over HTTP."""

from itertools import pairwise
from typing import Any

import pytest

from manylabel import Classifier

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

LONG = "the parcel was late 😀 and the invoice is bad, " * 20


def _classify(server: Any, **body: Any) -> list[dict[str, Any]]:
    response = httpx.post(f"{server.url}/v1/classify", json=body)
    assert response.status_code == 200, response.text
    predictions: list[dict[str, Any]] = response.json()["predictions"]
    return predictions


def test_window_offsets_match_the_text(server: Any, classifier: Classifier) -> None:
    """Each passage on its own has the window's probabilities, and the windows cover the text."""
    (prediction,) = _classify(server, inputs=LONG, windows=True)
    windows = prediction["windows"]
    assert len(windows) == prediction["n_windows"] > 2
    for window in windows:
        alone = classifier.predict_proba(LONG[window["start"] : window["end"]])[0]
        assert list(window["probabilities"].values()) == pytest.approx(alone.tolist(), abs=1e-6)
    assert windows[0]["start"] == 0
    assert windows[-1]["end"] == len(LONG.rstrip())
    for window, following in pairwise(windows):
        assert window["start"] < following["start"] <= window["end"] < following["end"]
    for label, probability in prediction["probabilities"].items():
        assert probability == max(window["probabilities"][label] for window in windows)


def test_windows_are_returned_on_request(server: Any) -> None:
    texts = ["good", "", "late 😀", LONG]
    assert all("windows" not in each for each in _classify(server, inputs=texts))
    spans = [
        [(each["start"], each["end"]) for each in prediction["windows"]]
        for prediction in _classify(server, inputs=texts, windows=True)
    ]
    assert spans[:2] == [[(0, 4)], [(0, 0)]]
    assert [len(each) > 1 for each in spans] == [False, False, False, True]


def test_pages_have_a_strict_csp(server: Any) -> None:
    for path in ("/", "/docs", "/page/page.css", "/page/page.js"):
        response = httpx.get(server.url + path)
        assert response.status_code == 200, path
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "trusted-types 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
    assert "/v1/classify" in httpx.get(f"{server.url}/docs").text
    assert httpx.get(f"{server.url}/page/../lifecycle.py").status_code == 404
    assert httpx.get(f"{server.url}/page/docs.py").status_code == 404


def test_tei_info_matches_the_server(server: Any, classifier: Classifier) -> None:
    info = httpx.get(f"{server.url}/info").json()
    assert info["tokenization_workers"] == 2
    assert info["max_concurrent_requests"] == server.service.settings.max_queue_tokens // 2 + 2
    assert info["max_batch_tokens"] == 512
    assert info["max_input_length"] == classifier.bundle.manifest.max_length


def test_response_has_server_timing(server: Any) -> None:
    response = httpx.post(f"{server.url}/v1/classify", json={"inputs": "late"})
    parts = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert list(parts) == ["queue", "tokenize", "inference", "total"]
    spent = [float(each) for each in parts.values()]
    assert 0 < sum(spent[:3]) <= spent[3]


def test_cors_allows_named_origins_only(server: Any, run: Any, classifier: Classifier) -> None:
    friend, stranger = {"Origin": "https://friend.example"}, {"Origin": "https://stranger.example"}
    allowed = "access-control-allow-origin"
    assert allowed not in httpx.get(f"{server.url}/health", headers=friend).headers
    with run(classifier, cors_origins=("https://friend.example",)) as cors_server:
        assert httpx.get(f"{cors_server.url}/health", headers=friend).headers[allowed] == "https://friend.example"
        assert allowed not in httpx.get(f"{cors_server.url}/health", headers=stranger).headers
        cors_server.pretend_queued_tokens(10**6)
        rejected = httpx.post(f"{cors_server.url}/v1/classify", json={"inputs": "late"}, headers=friend)
        assert (rejected.status_code, rejected.headers[allowed]) == (429, "https://friend.example")
