"""A bundle in other Python libraries: logits in Optimum, probabilities in OpenVINO."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from manylabel import Classifier


@pytest.fixture(scope="module")
def probabilities(portable: Path, texts: list[str]) -> np.ndarray:
    """Return the fp32 probabilities of the bundle, shape `(n_texts, n_labels)`."""
    return Classifier.load(portable, device="cpu", precision="fp32").predict_proba(texts)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_optimum_gives_equal_logits(portable: Path, texts: list[str], probabilities: np.ndarray) -> None:
    optimum = pytest.importorskip("optimum.onnxruntime", exc_type=ImportError)
    model = optimum.ORTModelForSequenceClassification.from_pretrained(portable)
    tokenizer = AutoTokenizer.from_pretrained(portable)
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    pytorch = AutoModelForSequenceClassification.from_pretrained(portable.parent / "checkpoint").eval()
    np.testing.assert_allclose(model(**inputs).logits.numpy(), pytorch(**inputs).logits.detach().numpy(), atol=1e-5)
    assert model.config.problem_type == "multi_label_classification"
    assert list(model.config.id2label.values()) == Classifier.load(portable, device="cpu").classes_.tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_openvino_gives_equal_probabilities(portable: Path, texts: list[str], probabilities: np.ndarray) -> None:
    pytest.importorskip("openvino", reason="make test-interop installs it")
    openvino = importlib.import_module("openvino")
    compiled = openvino.Core().compile_model(
        portable / "model.onnx",
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32"},  # the default is bf16 on processors that support it
    )
    tokenizer = AutoTokenizer.from_pretrained(portable)
    rows = []
    for text in texts:
        feeds = tokenizer(text, return_tensors="np")
        found = compiled({each.any_name: feeds[each.any_name] for each in compiled.inputs})
        rows.append(found["probabilities"][0])
    np.testing.assert_allclose(rows, probabilities, atol=1e-5)
