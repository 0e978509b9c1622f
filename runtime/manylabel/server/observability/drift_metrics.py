"""Drift of what is answered, as gauges: computed when they are asked for."""

from collections.abc import Iterator, Sequence

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from manylabel.drift import DriftMonitor, LabelDrift
from manylabel.drift.baseline import FILE
from manylabel.server.served_model import Answer, Computed, Model

GAUGES = {
    "psi": "Population stability index of a label's scores, beside the validation texts'.",
    "psi_limit": "What chance may make of it with this many texts, or 0.1, whichever is more.",
    "positive_rate": "Share of the texts that have the label.",
    "expected_positive_rate": "That of the validation texts.",
    "likely_positive_rate_low": "The least rate that as many texts of their kind would have.",
    "likely_positive_rate_high": "The greatest.",
    "detected": "1 where the scores or the rate differ by more than chance.",
}


class DriftGauges(Collector):
    """The gauges of the model that answers; none where its bundle carries no scores of validation texts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._model: Model | None = None
        self._monitor: DriftMonitor | None = None
        registry.register(self)

    def watch(self, model: Model) -> None:
        """Begin anew with a model."""
        known = FILE in model.classifier.bundle.manifest.files
        self._monitor = DriftMonitor.of(model.classifier) if known else None
        self._model = model

    def answered(self, model: Model, computed: Computed) -> None:
        """Count what a model has answered; called on any thread."""
        rows = [each.probabilities for each in computed.results if isinstance(each, Answer) and each.sent]
        if self._monitor and rows and model is self._model:
            self._monitor.update(np.stack(rows))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, of a label each; none before the first text."""
        if not self._monitor:
            return
        report = self._monitor.report()
        yield GaugeMetricFamily("manylabel_drift_texts", "Texts that drift is measured on.", report.texts)
        figures = [(each.label, _figures(each)) for each in report.labels]
        for at, (name, help_) in enumerate(GAUGES.items()):
            gauge = GaugeMetricFamily(f"manylabel_drift_{name}", help_, labels=["label"])
            for label, values in figures:
                gauge.add_metric([label], values[at])
            yield gauge


def _figures(each: LabelDrift) -> Sequence[float]:
    return each.psi, each.psi_limit, each.rate, each.expected_rate, *each.likely, float(each.drifted)
