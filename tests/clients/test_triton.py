"""Triton's HTTP client against a running server: the Open Inference Protocol, in JSON and in binary."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from manylabel import Classifier

triton = pytest.importorskip("tritonclient.http")
pytest.importorskip("uvicorn")
TEXTS = ("the courier was late", "zu spät, 💥", "")


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    started = triton.InferenceServerClient(url.removeprefix("http://"))
    yield started
    started.close()


def tensor(texts: tuple[str, ...], *, binary: bool, column: bool = False) -> Any:
    values = np.array([text.encode() for text in texts], dtype=np.object_)
    values = values[:, None] if column else values
    one = triton.InferInput("text", list(values.shape), "BYTES")
    one.set_data_from_numpy(values, binary_data=binary)
    return one


@pytest.mark.parametrize("sent_as_binary", [True, False])
@pytest.mark.parametrize("answered_in_binary", [True, False])
def test_infer_gives_the_classifiers_probabilities(
    client: Any, classifier: Classifier, sent_as_binary: bool, answered_in_binary: bool
) -> None:
    outputs = [
        triton.InferRequestedOutput(name, binary_data=answered_in_binary) for name in ("probabilities", "labels")
    ]
    found = client.infer("tiny", [tensor(TEXTS, binary=sent_as_binary)], outputs=outputs, request_id="mine")
    assert np.array_equal(found.as_numpy("probabilities"), classifier.predict_proba(TEXTS))
    labels = [each.decode() if isinstance(each, bytes) else each for each in found.as_numpy("labels")]
    assert labels == list(classifier.classes_)
    assert found.get_response()["id"] == "mine"


def test_all_outputs_are_returned_by_default(client: Any, classifier: Classifier) -> None:
    found = client.infer("tiny", [tensor(TEXTS, binary=True, column=True)])
    assert np.array_equal(found.as_numpy("probabilities"), classifier.predict_proba(TEXTS))


def test_decisions_follow_the_thresholds(client: Any, classifier: Classifier) -> None:
    found = client.infer("tiny", [tensor(TEXTS, binary=True)], outputs=[triton.InferRequestedOutput("decisions")])
    decided = found.as_numpy("decisions")
    assert [list(classifier.classes_[row]) for row in decided] == classifier.predict(TEXTS)


def test_server_and_model_metadata(client: Any, version: str) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", version)
    assert client.get_server_metadata()["name"] == "manylabel"
    metadata = client.get_model_metadata("tiny")
    assert metadata["versions"] == [version]
    assert metadata["inputs"][0] == {"name": "text", "datatype": "BYTES", "shape": [-1]}
    assert {each["name"] for each in metadata["outputs"]} >= {"probabilities", "labels"}


@pytest.mark.parametrize("model", ["other", "tiny/versions/9"])
def test_another_model_is_not_found(client: Any, model: str) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer(model, [tensor(TEXTS, binary=True)])
    assert "not found" in str(caught.value)


def test_invalid_utf8_is_an_error_of_its_text(client: Any) -> None:
    one = triton.InferInput("text", [1], "BYTES")
    one.set_data_from_numpy(np.array([b"late \xff"], dtype=np.object_), binary_data=True)
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer("tiny", [one])
    assert "not UTF-8" in str(caught.value)


def test_compressed_bodies_are_refused(client: Any) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer("tiny", [tensor(TEXTS, binary=True)], request_compression_algorithm="gzip")
    assert "415" in str(caught.value) or "compressed" in str(caught.value)
