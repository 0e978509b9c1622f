"""The protocols of other servers, with requests written by hand: valid ones, and invalid ones that no client sends.

tests/clients sends requests with the protocols' own clients.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manylabel import Classifier
from manylabel.errors import InputError

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

TEXTS = ["the courier was late", "very good and cheap"]
INFER = "/v2/models/tiny/infer"
HEADER = "inference-header-content-length"


def tensor(**changed: Any) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [2], "data": TEXTS, **changed}


def elements(texts: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def infer(server: Any, *inputs: dict[str, Any], tail: bytes | None = None, **parameters: Any) -> Any:
    body = json.dumps({"inputs": inputs, **parameters}).encode()
    headers = {} if tail is None else {HEADER: str(len(body))}
    return httpx.post(server.url + INFER, content=body + (tail or b""), headers=headers)


def test_json_tensors_round_trip(server: Any, classifier: Classifier) -> None:
    outputs = [{"name": name} for name in ("probabilities", "decisions", "labels")]
    for data, shape in ((TEXTS, [2]), ([[each] for each in TEXTS], [2, 1])):
        response = infer(server, tensor(data=data, shape=shape), outputs=outputs, id="mine").json()
        values = {each["name"]: each["data"] for each in response["outputs"]}
        expected = classifier.predict_proba(TEXTS)
        assert response["id"] == "mine"
        assert np.array_equal(np.array(values["probabilities"], np.float32).reshape(expected.shape), expected)
        assert np.array_equal(np.array(values["decisions"]).reshape(expected.shape), expected >= classifier.thresholds_)
        assert values["labels"] == list(classifier.classes_)


def test_binary_tensors_round_trip(server: Any, classifier: Classifier) -> None:
    tail = elements([each.encode() for each in TEXTS])
    sized = tensor(data=None, parameters={"binary_data_size": len(tail)})
    for asked in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "probabilities"}, {"name": "labels"}]},
    ):
        if "outputs" in asked:
            asked["outputs"] = [{**each, "parameters": {"binary_data": True}} for each in asked["outputs"]]
        found = infer(server, sized, tail=tail, **asked)
        length = int(found.headers[HEADER])
        header, body = json.loads(found.content[:length]), found.content[length:]
        sizes = [each["parameters"]["binary_data_size"] for each in header["outputs"]]
        assert [each["name"] for each in header["outputs"]] == ["probabilities", "labels"]
        assert body[: sizes[0]] == classifier.predict_proba(TEXTS).astype("<f4").tobytes()
        assert body[sizes[0] :] == elements([label.encode() for label in classifier.classes_])
        assert sum(sizes) == len(body)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([], "the inputs are none; expected one"),
        ([tensor(name="tokens")], "the inputs are tokens BYTES; expected one"),
        ([tensor(datatype="FP32")], "the inputs are text FP32; expected one"),
        ([tensor(), tensor()], "expected one"),
        ([tensor(shape=[1, 2])], "has shape [1, 2]; expected [n] or [n, 1]"),
        ([tensor(shape=[1, 1, 2])], "expected [n] or [n, 1]"),
        ([tensor(shape=[3])], "has shape [3], but 2 elements"),
        ([tensor(data=["a", ["b", "c"]])], "element 1 of `text` is not a string"),
        ([tensor(data=None)], "its binary_data_size is None for 0 bytes"),
    ],
)
def test_inconsistent_tensor_is_rejected(server: Any, tensors: list[dict[str, Any]], message: str) -> None:
    response = infer(server, *tensors)
    assert response.status_code == 422
    assert message in response.text.replace("\\", "")


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (elements([b"late"])[:-1], "element 0 of `text` exceeds the 7 bytes"),
        (elements([b"late"]) + b"\x01\x00", "element 1 of `text` exceeds the 10 bytes"),
        (elements([b"late", b"\xff"]), "element 1 of `text` is not valid UTF-8"),
    ],
)
def test_non_utf8_tensor_is_rejected(server: Any, tail: bytes, message: str) -> None:
    response = infer(server, tensor(data=None, parameters={"binary_data_size": len(tail)}), tail=tail)
    assert response.status_code == 422
    assert message in response.text


@pytest.mark.parametrize("length", ["-1", "1e3", "99999", "²"])
def test_tensor_header_longer_than_body_is_rejected(server: Any, length: str) -> None:
    response = httpx.post(server.url + INFER, content=b"{}", headers={HEADER: length.encode()})
    assert response.status_code == 400
    assert "the body has 2 bytes" in response.text


def test_unknown_output_is_rejected(server: Any) -> None:
    response = infer(server, tensor(), outputs=[{"name": "logits"}])
    assert response.status_code == 422
    assert "the outputs are probabilities, labels, decisions" in response.text


def test_model_metadata_lists_tensors(server: Any, classifier: Classifier) -> None:
    model = httpx.get(f"{server.url}/v2/models/tiny").json()
    n_labels = len(classifier.classes_)
    assert [each["shape"] for each in model["outputs"]] == [[-1, n_labels], [n_labels], [-1, n_labels]]
    assert httpx.get(f"{server.url}/v2/models/tiny/versions/{model['versions'][0]}/ready").json()["ready"] is True
    assert httpx.get(f"{server.url}/v2").json()["name"] == "manylabel"
    (entry,) = httpx.post(f"{server.url}/v2/repository/index").json()
    assert (entry["name"], entry["state"]) == ("tiny", "READY")
    for path in ("/v2/models/other", "/v2/models/tiny/versions/7"):
        assert httpx.get(server.url + path).status_code == 404


def test_reload_always_requires_a_key(server: Any) -> None:
    response = httpx.post(f"{server.url}/v2/repository/models/tiny/load")
    assert response.status_code == 401
    assert "a reload over HTTP requires a server with an API key" in response.text


def test_api_key_is_required_and_compared(run: Any, classifier: Classifier) -> None:
    key = "0123456789abcdef"
    with run(classifier, api_key=key) as closed:
        ask = {"url": f"{closed.url}/v1/classify", "json": {"inputs": "late"}}
        for headers in ({}, {"Authorization": f"Bearer {key[:-1]}"}, {"Authorization": f"Basic {key}"}):
            refused = httpx.post(**ask, headers=headers)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert httpx.post(**ask, headers={"Authorization": f"bearer {key}"}).status_code == 200
        assert httpx.get(f"{closed.url}/health").status_code == 200
        assert httpx.get(f"{closed.url}/info").status_code == 401


def test_huggingface_response_is_sorted(server: Any, classifier: Classifier) -> None:
    one = dict(zip(classifier.classes_, classifier.predict_proba(TEXTS[0])[0].tolist(), strict=True))
    for path, inputs in (("/", TEXTS[0]), ("/models/tiny", TEXTS)):
        found = httpx.post(server.url + path, json={"inputs": inputs}).json()
        assert len(found) == (1 if isinstance(inputs, str) else 2)
        scores = [each["score"] for each in found[0]]
        assert scores == sorted(scores, reverse=True)
        assert {each["label"]: np.float32(each["score"]) for each in found[0]} == {
            label: np.float32(score) for label, score in one.items()
        }
    top = httpx.post(server.url + "/", json={"inputs": TEXTS, "parameters": {"top_k": 1}}).json()
    assert [len(row) for row in top] == [1, 1]


def test_huggingface_softmax_is_rejected(server: Any) -> None:
    asked = {"inputs": TEXTS, "parameters": {"function_to_apply": "softmax"}}
    response = httpx.post(server.url + "/", json=asked)
    assert response.status_code == 422
    assert "labels are independent" in response.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": []}, "`inputs` is empty"),
        ({"inputs": ["one", "two"]}, "a list of 2 strings, which this protocol reads as a text pair"),
        ({"inputs": [["one"], ["two", "three"]]}, "`inputs[1]` has 2 strings"),
        ({"inputs": "late", "raw_scores": True}, "`raw_scores` is not supported"),
        ({"inputs": "late", "truncation_direction": "Left"}, "`truncation_direction` left is not supported"),
    ],
)
def test_unsupported_tei_options_are_rejected(server: Any, body: dict[str, Any], message: str) -> None:
    response = httpx.post(f"{server.url}/predict", json=body)
    assert response.status_code == 422
    assert message in response.text


def test_tei_response_for_text_and_batch(server: Any) -> None:
    (alone,) = httpx.post(f"{server.url}/predict", json={"inputs": [[TEXTS[0]]]}).json()
    for inputs in (TEXTS[0], [TEXTS[0]]):
        assert httpx.post(f"{server.url}/predict", json={"inputs": inputs}).json() == alone
    assert len(httpx.post(f"{server.url}/predict", json={"inputs": [[each] for each in TEXTS]}).json()) == 2


def test_api_key_from_file_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from manylabel.cli.options import read_api_key
    from manylabel.server.settings import Settings

    file = tmp_path / "key"
    file.write_text("0123456789abcdef\n")
    monkeypatch.delenv("MANYLABEL_API_KEY", raising=False)
    assert read_api_key(None) == ""
    monkeypatch.setenv("MANYLABEL_API_KEY", "fedcba9876543210")
    assert (read_api_key(None), read_api_key(file)) == ("fedcba9876543210", "0123456789abcdef")
    for key in ("short", "has a blank 0123456789", "0123456789abcdeé"):
        with pytest.raises(InputError, match=f"the API key cannot be used: .* found {len(key)} characters"):
            Settings("tiny", key)
    file.write_text("\n")
    with pytest.raises(InputError, match=r"the API key file .*key is empty"):
        read_api_key(file)
    with pytest.raises(InputError, match=r"the API key file .*none cannot be read"):
        read_api_key(tmp_path / "none")
