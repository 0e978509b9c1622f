"""A bundle in JavaScript: fp32 in transformers.js, the single-file model in ONNX Runtime for Node."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from manylabel import Bundle, Classifier
from manylabel_export.graph.tokenizer.build import FILE


def test_transformers_js_gives_equal_labels(portable: Path, texts: list[str], node: Callable[..., Any]) -> None:
    classifier = Classifier.load(portable, device="cpu", precision="fp32")
    thresholds = dict(zip(classifier.bundle.labels, classifier.variant.thresholds, strict=True))
    scores = node("labels.mjs", portable, texts)
    found = np.array([[row[label] for label in thresholds] for row in scores])
    np.testing.assert_allclose(found, classifier.predict_proba(texts), atol=1e-5)
    named = [[label for label, least in thresholds.items() if row[label] >= least] for row in scores]
    assert named == classifier.predict(texts)


def test_single_file_gives_equal_labels_in_node(portable: Path, texts: list[str], node: Callable[..., Any]) -> None:
    texts = [*texts, "", "[SEP] [CLS]", "the parcel was late " * 40, "漢字\u200b\u0301"]
    precision: Any = Bundle.open(portable).manifest.source["single_file"]["precision"]
    expected = Classifier.load(portable, device="cpu", precision=precision).predict(texts)
    assert node("text.mjs", portable / FILE, texts) == expected
