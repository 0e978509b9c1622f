"""Traces, for those who ask for them: a span for every request, within the trace that its client began.

Spans are made once a request is over, from what is known of it then, so that nothing is carried through its way. Only
this module knows `opentelemetry`.
"""

import os

from manylabel.errors import MissingDependency
from manylabel.server.observability.access_log import Finished, Recorder

NANOSECONDS = 1_000_000_000


def exporting_to(url: str, name: str) -> Recorder:
    """A recorder that sends spans to a collector, such as `http://localhost:4318/v1/traces`.

    Args:
        url: Takes OpenTelemetry's protocol over HTTP.
        name: The service's name, where `OTEL_SERVICE_NAME` does not say another.

    Raises:
        MissingDependency: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ModuleNotFoundError as exc:
        raise MissingDependency(f'{exc.name} is not installed. pip install "manylabel[server-otel]"') from exc
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": name}  # what is named here has precedence
    resource = Resource.create(named)
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    tracer, propagator = provider.get_tracer("manylabel.server"), TraceContextTextMapPropagator()

    def record(done: Finished) -> None:
        start = int(done.started * NANOSECONDS)
        end = start + int(done.seconds * NANOSECONDS)
        context = propagator.extract(done.headers)
        span = tracer.start_span(done.route, context, SpanKind.SERVER, _attributes(done), start_time=start)
        if done.status >= 500:
            span.set_status(Status(StatusCode.ERROR, done.reason))
        if done.texts:
            begun = start + int(done.timings.queue * NANOSECONDS)
            inner = set_span_in_context(span)
            tracer.start_span("queue", inner, start_time=start).end(begun)
            tracer.start_span("compute", inner, attributes=_seconds(done), start_time=begun).end(end)
        span.end(end)

    return record


def _attributes(done: Finished) -> dict[str, str | int]:
    """By OpenTelemetry's names for HTTP servers."""
    return {
        "http.request.method": done.method,
        "http.route": done.route,
        "http.response.status_code": done.status,
        "manylabel.request_id": done.request_id,
        "manylabel.texts": done.texts,
        **({"error.type": done.reason} if done.reason else {}),
    }


def _seconds(done: Finished) -> dict[str, float]:
    return {"manylabel.tokenize": done.timings.tokenize, "manylabel.inference": done.timings.inference}
