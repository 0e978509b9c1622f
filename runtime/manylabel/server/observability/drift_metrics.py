"""Drift metrics: Prometheus gauges of the drift of served texts, computed when `/metrics` is scraped."""

from collections.abc import Iterator, Sequence

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from manylabel.drift import DriftMonitor, LabelDrift
from manylabel.drift.baseline import BASELINE_FILE
from manylabel.server.served_model import BatchResult, ServedModel, TextResult

GAUGES = {
    "psi": "Population stability index of a label's scores against the validation texts.",
    "psi_limit": "The index that chance can explain for this number of texts, or 0.1, whichever is greater.",
    "positive_rate": "Share of the texts that have the label.",
    "expected_positive_rate": "Share of the validation texts that have the label.",
    "likely_positive_rate_low": "Lower bound of the positive rate that chance can explain.",
    "likely_positive_rate_high": "Upper bound of the positive rate that chance can explain.",
    "detected": "1 if the scores or the positive rate differ by more than chance can explain.",
}


class DriftGauges(Collector):
    """Gauges for the served model; none if its bundle does not contain the scores of validation texts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._model: ServedModel | None = None
        self._monitor: DriftMonitor | None = None
        registry.register(self)

    def watch(self, model: ServedModel) -> None:
        """Start a new comparison, with this model's validation texts."""
        has_baseline = BASELINE_FILE in model.classifier.bundle.manifest.files
        self._monitor = DriftMonitor.from_classifier(model.classifier) if has_baseline else None
        self._model = model

    def update(self, model: ServedModel, batch: BatchResult) -> None:
        """Count the results of a batch; may be called on any thread."""
        rows = [each.probabilities for each in batch.results if isinstance(each, TextResult) and each.is_client_text]
        if self._monitor and rows and model is self._model:
            self._monitor.update(np.stack(rows))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges, each with one value per label; only the number of texts before the first text."""
        if not self._monitor:
            return
        report = self._monitor.report()
        yield GaugeMetricFamily("manylabel_drift_texts", "Texts that drift is measured on.", report.texts)
        values_of = [(each.label, _gauge_values(each)) for each in report.labels]
        for position, (name, help_) in enumerate(GAUGES.items()):
            gauge = GaugeMetricFamily(f"manylabel_drift_{name}", help_, labels=["label"])
            for label, values in values_of:
                gauge.add_metric([label], values[position])
            yield gauge


def _gauge_values(each: LabelDrift) -> Sequence[float]:
    """Return a label's values in the order of `GAUGES`."""
    return each.psi, each.psi_limit, each.rate, each.expected_rate, *each.likely, float(each.drifted)
