"""What `/metrics` tells Prometheus. Times are seconds; boundaries are text-embeddings-inference's where they fit.

Source of the boundaries: `router/src/prometheus.rs` of huggingface/text-embeddings-inference. No text is in any of it.
"""

from collections.abc import Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from manylabel import __version__
from manylabel.errors import NonFiniteScore
from manylabel.server.observability.access_log import Finished
from manylabel.server.observability.drift_metrics import DriftGauges
from manylabel.server.scheduler import Work
from manylabel.server.served_model import Answer, Computed, Model
from manylabel.server.worker_pool import Job

SECONDS = [0.00001 * 1.5**step for step in range(1, 36)]
TOKENS = [2.0**step for step in range(20)]
BATCH_TEXTS = [2.0**step for step in range(13)]
BATCH_TOKENS = [2.0**step for step in range(21)]


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("requests", "Requests by route and HTTP status.", "route", "status")
        self.request_seconds = self._histogram("request_seconds", "From a request's headers to its answer.", "route")
        self.refusals = self._counter("refusals", "Requests that were not answered, by reason.", "reason")
        self._unread, self._full = self.requests.labels("unread", 429), self.refusals.labels("full")
        self.queue_tokens = self._gauge("queue_tokens", "Tokens that wait, as estimated from characters.")
        self.queue_requests = self._gauge("queue_requests", "Requests that have texts in the queue.")
        self.queue_seconds = self._histogram("queue_seconds", "A text's time in the queue.")
        self.tokenize_seconds = self._histogram("tokenize_seconds", "Tokenising a batch.")
        self.inference_seconds = self._histogram("inference_seconds", "Inference of a batch.")
        self.batch_texts = self._histogram("batch_texts", "Texts that were computed together.", buckets=BATCH_TEXTS)
        self.batch_tokens = self._histogram("batch_tokens", "Tokens that were computed together.", buckets=BATCH_TOKENS)
        self.input_tokens = self._histogram("input_tokens", "Tokens of a text.", buckets=TOKENS)
        self.truncated = self._counter("truncated", "Texts of which a part was not read.")
        self.non_finite = self._counter("non_finite", "Texts whose scores were no numbers.")
        self.texts = self._counter("texts", "Texts that were answered.")
        self.positives = self._counter("positives", "Texts that reached the bundle's threshold, by label.", "label")
        self.reloads = self._counter("reloads", "Hot reloads by outcome: switched, unchanged, failed.", "outcome")
        self.ready = self._gauge("ready", "1 while texts are taken.")
        self.drift = DriftGauges(self.registry)
        self.model = Info("manylabel_model", "The model that answers.", registry=self.registry)

    def describe(self, model: Model) -> None:
        """Tell which model answers, and show all its labels from the start."""
        classifier = model.classifier
        self.model.info(
            {
                "name": model.name,
                "bundle": model.version,
                "precision": classifier.precision,
                "device": classifier.device,
                "manylabel": __version__,
            }
        )
        self.drift.watch(model)
        for label in model.labels:
            self.positives.labels(label)

    def finished(self, done: Finished) -> None:
        """Note a request that is over."""
        self.requests.labels(done.route, done.status).inc()
        self.request_seconds.labels(done.route).observe(done.seconds)
        if done.reason:
            self.refusals.labels(done.reason).inc()

    def turned_away(self) -> None:
        """Note a request that was refused before it was read."""
        self._unread.inc()
        self._full.inc()

    def computed(self, works: Sequence[Work[Job]], computed: Computed, start: float) -> None:
        """Note what was computed together; called on the thread that did it."""
        self.drift.answered(works[0].ticket.payload.model, computed)
        self.tokenize_seconds.observe(computed.tokenize)
        self.inference_seconds.observe(computed.inference)
        self.batch_texts.observe(len(works))
        self.batch_tokens.observe(sum(each.n_tokens for each in computed.results if isinstance(each, Answer)))
        for work, result in zip(works, computed.results, strict=True):
            job = work.ticket.payload
            self.queue_seconds.observe(start - job.submitted)
            if isinstance(result, Answer) and result.sent:
                self._answered(result, job.model)
            elif isinstance(result, NonFiniteScore):
                self.non_finite.inc()

    def _answered(self, answer: Answer, model: Model) -> None:
        self.texts.inc()
        self.input_tokens.observe(answer.n_tokens)
        if answer.truncated:
            self.truncated.inc()
        for column in np.flatnonzero(answer.probabilities >= model.thresholds):
            self.positives.labels(model.labels[column]).inc()

    def expose(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"manylabel_{name}", help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str) -> Gauge:
        return Gauge(f"manylabel_{name}", help_, registry=self.registry)

    def _histogram(self, name: str, help_: str, *labels: str, buckets: Sequence[float] = SECONDS) -> Histogram:
        return Histogram(f"manylabel_{name}", help_, labels, buckets=buckets, registry=self.registry)
