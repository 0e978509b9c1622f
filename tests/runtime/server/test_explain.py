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

from manylabel.server.served_model import Model  # noqa: E402  # once it is known to be there

TEXT = "the parcel was late 😀, and the invoice wasn't good!!"
LONG = "the parcel was late 😀 and the invoice is bad, " * 20


def ask(server: Any, **body: Any) -> Any:
    return httpx.post(f"{server.url}/v1/explain", json=body, timeout=30)


@pytest.mark.parametrize("text", [TEXT, LONG, "", "...", "😀"])
def test_it_says_to_the_bit_what_the_library_says(server: Any, classifier: Classifier, text: str) -> None:
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
def test_what_cannot_be_explained_is_refused(server: Any, body: Any, status: int, said: str) -> None:
    refused = ask(server, **body)
    assert refused.status_code == status
    assert said in refused.json()["detail"]


def test_its_time_is_that_of_a_text(server: Any) -> None:
    late = httpx.post(f"{server.url}/v1/explain", json={"input": LONG}, headers={"X-Timeout-Ms": "1"})
    assert late.status_code in (429, 504)


def test_it_is_no_text_that_drift_or_counters_see(classifier: Classifier) -> None:
    with running(classifier) as server:
        assert ask(server, input=TEXT).status_code == 200
        metrics = httpx.get(f"{server.url}/metrics").text
    assert "manylabel_texts_total 0.0" in metrics
    assert 'manylabel_requests_total{route="own.explain",status="200"} 1.0' in metrics


def test_single_texts_are_answered_while_explanations_are_computed(classifier: Classifier) -> None:
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


def test_a_model_that_changes_between_its_parts_is_said(own_bundle: Path, resign: Any) -> None:
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
