"""`huggingface_hub.InferenceClient` against a running server."""

from pathlib import Path

import pytest
from tests.helpers.serving import serving

from manylabel import Classifier

hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("uvicorn")
KEY = "0123456789abcdef"
TEXTS = ("the courier was late", "the parcel was late and the invoice is bad " * 20)


@pytest.fixture
def client(url: str, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return hub.InferenceClient(url)


@pytest.mark.parametrize("text", TEXTS)
def test_text_classification_matches_the_classifier(client: object, classifier: Classifier, text: str) -> None:
    (expected,) = classifier.classify(text)
    result = client.text_classification(text)  # type: ignore[attr-defined]
    assert {each.label: each.score for each in result} == expected.scores
    assert [each.label for each in result] == list(expected.scores)  # most probable first
    assert sum(each.score for each in result) != pytest.approx(1)  # not a softmax


def test_top_k_keeps_the_highest_scores(client: object, classifier: Classifier) -> None:
    result = client.text_classification(TEXTS[0], top_k=2)  # type: ignore[attr-defined]
    assert [each.label for each in result] == list(classifier.classify(TEXTS[0])[0].scores)[:2]


def test_softmax_request_is_rejected(client: object) -> None:
    with pytest.raises(hub.errors.HfHubHTTPError) as caught:
        client.text_classification(TEXTS[0], function_to_apply="softmax")  # type: ignore[attr-defined]
    assert caught.value.response.status_code == 422


def test_hub_token_is_the_api_key(bundle: Path) -> None:
    with serving(bundle, MANYLABEL_API_KEY=KEY) as url:
        assert hub.InferenceClient(url, token=KEY).text_classification(TEXTS[0])
        with pytest.raises(hub.errors.HfHubHTTPError) as caught:
            hub.InferenceClient(url, token="wrong").text_classification(TEXTS[0])
        assert caught.value.response.status_code == 401
