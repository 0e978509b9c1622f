"""Explanations over HTTP: what the library says, by the scheduler, within the limits of texts."""

import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.toy import LABELS
from tests.runtime.server.conftest import running

from manylabel import Classifier

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

from manylabel.server.served_model import Model  # once it is known to be there

TEXT = "the parcel was late 😀, and the invoice wasn't good!!"
LONG = "the parcel was late 😀 and the invoice is bad, " * 20


def ask(server: Any, **body: Any) -> Any:
    return httpx.post(f"{server.url}/v1/explain", json=body, timeout=30)


@pytest.mark.parametrize("text", [TEXT, LONG, "", "...", "😀"])
def test_explain_route_equals_the_library(server: Any, classifier: Classifier, text: str) -> None:
    for label in (None, *LABELS[:2]):
        expected = classifier.explain(text, label)
        found = ask(server, input=text, **({} if label is None else {"label": label})).json()
        assert (found["label"], found["probability"]) == (expected.label, expected.score)
        assert (found["threshold"], found["carried_by"]) == (expected.threshold, expected.carried_by)
        assert [(each["start"], each["end"], each["probability"]) for each in found["passages"]] == [
            (each.start, each.end, each.score) for each in expected.passages
        ]
        assert [(each["start"], each["end"], each["effect"]) for each in found["words"]] == [
            (each.start, each.end, each.effect) for each in expected.words
        ]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"input": TEXT, "label": "nothing"}, 422, "nothing"),
        ({"input": "x" * 200_001}, 413, "200,001 characters; at most 200,000"),
        ({"input": [TEXT]}, 422, "input"),
        ({}, 422, "input"),
    ],
)
def test_explain_route_errors(server: Any, body: Any, status: int, said: str) -> None:
    refused = ask(server, **body)
    assert refused.status_code == status
    assert said in refused.json()["detail"]


def test_explain_route_has_a_deadline(server: Any) -> None:
    late = httpx.post(f"{server.url}/v1/explain", json={"input": LONG}, headers={"X-Timeout-Ms": "1"})
    assert late.status_code in (429, 504)


def test_explain_route_is_not_counted_as_texts(classifier: Classifier) -> None:
    with running(classifier) as server:
        assert ask(server, input=TEXT).status_code == 200
        metrics = httpx.get(f"{server.url}/metrics").text
    assert "manylabel_texts_total 0.0" in metrics
    assert 'manylabel_requests_total{route="own.explain",status="200"} 1.0' in metrics


def test_explanations_do_not_block_single_texts(classifier: Classifier) -> None:
    """Of a crowd of explanations no more than a part of each is in the queue."""
    with running(classifier, max_queue_tokens=8_000) as server:
        crowd = [threading.Thread(target=ask, args=(server,), kwargs={"input": LONG}) for _ in range(6)]
        for one in crowd:
            one.start()
        statuses = []
        while any(one.is_alive() for one in crowd):
            statuses.append(httpx.post(f"{server.url}/v1/classify", json={"inputs": "late"}, timeout=30).status_code)
            time.sleep(0.005)
        for one in crowd:
            one.join()
    assert statuses
    assert set(statuses) == {200}


def test_reload_during_explanation_error(own_bundle: Path, resign: Any) -> None:
    models = [Model("tiny", Classifier.load(own_bundle, device="cpu", threads=1))]
    resign(own_bundle, lambda manifest: manifest["source"].update(new=1))
    models.append(Model("tiny", Classifier.load(own_bundle, device="cpu", threads=1)))
    stop = threading.Event()
    with running(models[0].classifier) as server:

        def switch() -> None:
            for number in count():
                if stop.wait(0.002):
                    return
                server.service.engine.model = models[number % 2]

        switching = threading.Thread(target=switch)
        switching.start()
        answers = []
        for _ in range(200):
            answers.append(ask(server, input=LONG))
            if answers[-1].status_code == 503:
                break
        stop.set()
        switching.join()
    assert answers[-1].status_code == 503
    assert "another bundle was loaded meanwhile" in answers[-1].json()["detail"]
    assert {each.status_code for each in answers[:-1]} <= {200}
