"""Prometheus metrics of `/metrics`, in seconds; histogram buckets follow text-embeddings-inference where they fit.

Source of the buckets: `router/src/prometheus.rs` of huggingface/text-embeddings-inference.
"""

from collections.abc import Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from manylabel import __version__
from manylabel.errors import NonFiniteScore
from manylabel.server.observability.access_log import RequestRecord
from manylabel.server.observability.drift_metrics import DriftGauges
from manylabel.server.scheduler import TextTask
from manylabel.server.served_model import BatchResult, ServedModel, TextResult
from manylabel.server.worker_pool import PendingRequest

SECONDS_BUCKETS = [0.00001 * 1.5**step for step in range(1, 36)]
TOKENS_BUCKETS = [2.0**step for step in range(20)]
BATCH_TEXTS_BUCKETS = [2.0**step for step in range(13)]
BATCH_TOKENS_BUCKETS = [2.0**step for step in range(21)]


class ServerMetrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("requests", "Requests by route and HTTP status.", "route", "status")
        self.request_seconds = self._histogram("request_seconds", "From a request's headers to its response.", "route")
        self.refusals = self._counter("refusals", "Refused requests by reason.", "reason")
        self._shed_requests = self.requests.labels("unread", 429)
        self._shed_refusals = self.refusals.labels("full")
        self.queue_tokens = self._gauge("queue_tokens", "Tokens in the queue, as estimated from characters.")
        self.queue_requests = self._gauge("queue_requests", "Requests with texts in the queue.")
        self.queue_seconds = self._histogram("queue_seconds", "A text's time in the queue.")
        self.tokenize_seconds = self._histogram("tokenize_seconds", "Tokenization of a batch.")
        self.inference_seconds = self._histogram("inference_seconds", "Inference of a batch.")
        self.batch_texts = self._histogram("batch_texts", "Texts in a batch.", buckets=BATCH_TEXTS_BUCKETS)
        self.batch_tokens = self._histogram("batch_tokens", "Tokens in a batch.", buckets=BATCH_TOKENS_BUCKETS)
        self.input_tokens = self._histogram("input_tokens", "Tokens in a text.", buckets=TOKENS_BUCKETS)
        self.truncated = self._counter("truncated", "Truncated texts.")
        self.non_finite = self._counter("non_finite", "Texts with NaN or infinite scores.")
        self.texts = self._counter("texts", "Classified texts.")
        self.positives = self._counter("positives", "Texts that reached the bundle's threshold, by label.", "label")
        self.reloads = self._counter("reloads", "Reloads by outcome: switched, unchanged, failed.", "outcome")
        self.ready = self._gauge("ready", "1 while requests are accepted.")
        self.drift = DriftGauges(self.registry)
        self.model = Info("manylabel_model", "The served model.", registry=self.registry)

    def set_model(self, model: ServedModel) -> None:
        """Describe the served model, and create the counters of all its labels."""
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

    def record_request(self, request: RequestRecord) -> None:
        """Count a finished request."""
        self.requests.labels(request.route, request.status).inc()
        self.request_seconds.labels(request.route).observe(request.seconds)
        if request.reason:
            self.refusals.labels(request.reason).inc()

    def count_shed_request(self) -> None:
        """Count a request that load shedding rejected before its body was read."""
        self._shed_requests.inc()
        self._shed_refusals.inc()

    def record_batch(self, tasks: Sequence[TextTask[PendingRequest]], batch: BatchResult, start: float) -> None:
        """Count a computed batch; called on the worker thread that computed it."""
        self.drift.update(tasks[0].ticket.payload.model, batch)
        self.tokenize_seconds.observe(batch.tokenize)
        self.inference_seconds.observe(batch.inference)
        self.batch_texts.observe(len(tasks))
        self.batch_tokens.observe(sum(each.n_tokens for each in batch.results if isinstance(each, TextResult)))
        for task, result in zip(tasks, batch.results, strict=True):
            request = task.ticket.payload
            self.queue_seconds.observe(start - request.submitted)
            if isinstance(result, TextResult) and result.is_client_text:
                self._record_text(result, request.model)
            elif isinstance(result, NonFiniteScore):
                self.non_finite.inc()

    def _record_text(self, result: TextResult, model: ServedModel) -> None:
        self.texts.inc()
        self.input_tokens.observe(result.n_tokens)
        if result.truncated:
            self.truncated.inc()
        for column in np.flatnonzero(result.probabilities >= model.thresholds):
            self.positives.labels(model.labels[column]).inc()

    def expose(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"manylabel_{name}", help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str) -> Gauge:
        return Gauge(f"manylabel_{name}", help_, registry=self.registry)

    def _histogram(self, name: str, help_: str, *labels: str, buckets: Sequence[float] = SECONDS_BUCKETS) -> Histogram:
        return Histogram(f"manylabel_{name}", help_, labels, buckets=buckets, registry=self.registry)
