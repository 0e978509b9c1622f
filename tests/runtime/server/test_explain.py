"""Explanations over HTTP: the library's result, computed through the scheduler, within the limits on texts."""

import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.toy import LABELS
from tests.runtime.server.conftest import running

from manylabel import Classifier
from manylabel.server.served_model import ServedModel

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")


TEXT = "the parcel was late 😀, and the invoice wasn't good!!"
LONG = "the parcel was late 😀 and the invoice is bad, " * 20


def explain(server: Any, **body: Any) -> Any:
    return httpx.post(f"{server.url}/v1/explain", json=body, timeout=30)


@pytest.mark.parametrize("text", [TEXT, LONG, "", "...", "😀"])
def test_explain_route_equals_the_library(server: Any, classifier: Classifier, text: str) -> None:
    for label in (None, *LABELS[:2]):
        expected = classifier.explain(text, label)
        response = explain(server, input=text, **({} if label is None else {"label": label})).json()
        assert (response["label"], response["probability"]) == (expected.label, expected.score)
        assert (response["threshold"], response["carried_by"]) == (expected.threshold, expected.carried_by)
        assert [(each["start"], each["end"], each["probability"]) for each in response["passages"]] == [
            (each.start, each.end, each.score) for each in expected.passages
        ]
        assert [(each["start"], each["end"], each["effect"]) for each in response["words"]] == [
            (each.start, each.end, each.effect) for each in expected.words
        ]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"input": TEXT, "label": "nothing"}, 422, "nothing"),
        ({"input": "x" * 200_001}, 413, "200,001 characters; at most 200,000"),
        ({"input": [TEXT]}, 422, "input"),
        ({}, 422, "input"),
    ],
)
def test_explain_route_errors(server: Any, body: Any, status: int, message: str) -> None:
    response = explain(server, **body)
    assert response.status_code == status
    assert message in response.json()["detail"]


def test_explain_route_has_a_deadline(server: Any) -> None:
    late = httpx.post(f"{server.url}/v1/explain", json={"input": LONG}, headers={"X-Timeout-Ms": "1"})
    assert late.status_code in (429, 504)


def test_explain_route_is_not_counted_as_texts(classifier: Classifier) -> None:
    with running(classifier) as server:
        assert explain(server, input=TEXT).status_code == 200
        metrics = httpx.get(f"{server.url}/metrics").text
    assert "manylabel_texts_total 0.0" in metrics
    assert 'manylabel_requests_total{route="own.explain",status="200"} 1.0' in metrics


def test_explanations_do_not_block_single_texts(classifier: Classifier) -> None:
    """Each explanation has only one small part in the queue."""
    with running(classifier, max_queue_tokens=8_000) as server:
        explanations = [threading.Thread(target=explain, args=(server,), kwargs={"input": LONG}) for _ in range(6)]
        for thread in explanations:
            thread.start()
        statuses = []
        while any(thread.is_alive() for thread in explanations):
            statuses.append(httpx.post(f"{server.url}/v1/classify", json={"inputs": "late"}, timeout=30).status_code)
            time.sleep(0.005)
        for thread in explanations:
            thread.join()
    assert statuses
    assert set(statuses) == {200}


def test_reload_during_explanation_error(own_bundle: Path, resign: Any) -> None:
    models = [ServedModel("tiny", Classifier.load(own_bundle, device="cpu", threads=1))]
    resign(own_bundle, lambda manifest: manifest["source"].update(new=1))
    models.append(ServedModel("tiny", Classifier.load(own_bundle, device="cpu", threads=1)))
    stop = threading.Event()
    with running(models[0].classifier) as server:

        def switch() -> None:
            for number in count():
                if stop.wait(0.002):
                    return
                server.service.pool.model = models[number % 2]

        switching = threading.Thread(target=switch)
        switching.start()
        responses = []
        for _ in range(200):
            responses.append(explain(server, input=LONG))
            if responses[-1].status_code == 503:
                break
        stop.set()
        switching.join()
    assert responses[-1].status_code == 503
    assert "a new bundle was loaded" in responses[-1].json()["detail"]
    assert {each.status_code for each in responses[:-1]} <= {200}
