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
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    yield client
    client.close()


def text_tensor(texts: tuple[str, ...], *, binary: bool, column: bool = False) -> Any:
    values = np.array([text.encode() for text in texts], dtype=np.object_)
    values = values[:, None] if column else values
    tensor = triton.InferInput("text", list(values.shape), "BYTES")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
def test_infer_matches_the_classifier(
    client: Any, classifier: Classifier, binary_input: bool, binary_output: bool
) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_output) for name in ("probabilities", "labels")]
    response = client.infer("tiny", [text_tensor(TEXTS, binary=binary_input)], outputs=outputs, request_id="mine")
    assert np.array_equal(response.as_numpy("probabilities"), classifier.predict_proba(TEXTS))
    labels = [each.decode() if isinstance(each, bytes) else each for each in response.as_numpy("labels")]
    assert labels == list(classifier.classes_)
    assert response.get_response()["id"] == "mine"


def test_all_outputs_are_returned_by_default(client: Any, classifier: Classifier) -> None:
    response = client.infer("tiny", [text_tensor(TEXTS, binary=True, column=True)])
    assert np.array_equal(response.as_numpy("probabilities"), classifier.predict_proba(TEXTS))


def test_decisions_follow_the_thresholds(client: Any, classifier: Classifier) -> None:
    response = client.infer(
        "tiny", [text_tensor(TEXTS, binary=True)], outputs=[triton.InferRequestedOutput("decisions")]
    )
    decisions = response.as_numpy("decisions")
    assert [list(classifier.classes_[row]) for row in decisions] == classifier.predict(TEXTS)


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
def test_unknown_model_is_not_found(client: Any, model: str) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer(model, [text_tensor(TEXTS, binary=True)])
    assert "not found" in str(caught.value)


def test_invalid_utf8_is_an_error_of_its_text(client: Any) -> None:
    invalid = triton.InferInput("text", [1], "BYTES")
    invalid.set_data_from_numpy(np.array([b"late \xff"], dtype=np.object_), binary_data=True)
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer("tiny", [invalid])
    assert "not valid UTF-8" in str(caught.value)


def test_compressed_body_is_rejected(client: Any) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer("tiny", [text_tensor(TEXTS, binary=True)], request_compression_algorithm="gzip")
    assert "415" in str(caught.value) or "compressed" in str(caught.value)
