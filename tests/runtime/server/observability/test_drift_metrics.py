"""Drift metrics, as Prometheus scrapes them."""

import json
from pathlib import Path

import pytest
from tests.helpers.toy import LABELS, TEXTS
from tests.runtime.server.conftest import running

from manylabel import Classifier

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")


def read_gauges(url: str) -> dict[str, float]:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return {
        name: float(value)
        for line in lines
        if line.startswith("manylabel_drift")
        for name, value in [line.rsplit(" ", 1)]
    }


def test_drift_metrics_compare_with_validation(fp32: Classifier) -> None:
    """With fp32, whose scores are those of the baseline; int8 shifts the scores of random weights noticeably."""
    with running(fp32) as server:
        assert read_gauges(server.url) == {"manylabel_drift_texts": 0}
        httpx.post(f"{server.url}/v1/classify", json={"inputs": list(TEXTS)}).raise_for_status()
        similar = read_gauges(server.url)
        httpx.post(f"{server.url}/v1/classify", json={"inputs": ["sehr sehr gut"] * 400}).raise_for_status()
        drifted = read_gauges(server.url)
    assert similar["manylabel_drift_texts"] == len(TEXTS)
    for label in LABELS:
        assert similar[f'manylabel_drift_detected{{label="{label}"}}'] == 0
        rate, expected = (
            similar[f'manylabel_drift_{name}{{label="{label}"}}']
            for name in ("positive_rate", "expected_positive_rate")
        )
        assert rate == pytest.approx(expected, abs=0.05)
    assert drifted["manylabel_drift_texts"] == len(TEXTS) + 400
    assert any(drifted[f'manylabel_drift_detected{{label="{label}"}}'] for label in LABELS)


def test_bundle_without_scores_has_no_drift_metrics(own_bundle: Path, resign) -> None:  # type: ignore[no-untyped-def]  # a fixture
    (own_bundle / "scores.json").unlink()
    manifest = json.loads((own_bundle / "bundle.json").read_text())
    del manifest["files"]["scores.json"]
    (own_bundle / "bundle.json").write_text(json.dumps(manifest))
    with running(Classifier.load(resign(own_bundle), threads=1)) as server:
        httpx.post(f"{server.url}/v1/classify", json={"inputs": "late"}).raise_for_status()
        assert read_gauges(server.url) == {}
