"""Tracing: an OpenTelemetry span per request, as a child of the client's trace.

A span is created when its request has finished, from the request's record, so no context is carried through the
server. Only this module imports `opentelemetry`.
"""

import os

from manylabel.errors import MissingDependency
from manylabel.server.observability.access_log import Recorder, RequestRecord

NANOSECONDS = 1_000_000_000


def create_span_recorder(url: str, service_name: str) -> Recorder:
    """Create a recorder that sends spans to a collector.

    Args:
        url: The collector's address for OTLP over HTTP, such as `http://localhost:4318/v1/traces`.
        service_name: The service's name, unless the environment variable `OTEL_SERVICE_NAME` is set.

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
    # An attribute passed here would override the environment variable.
    attributes = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service_name}
    provider = TracerProvider(resource=Resource.create(attributes))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    tracer, propagator = provider.get_tracer("manylabel.server"), TraceContextTextMapPropagator()

    def record(request: RequestRecord) -> None:
        start = int(request.started * NANOSECONDS)
        end = start + int(request.seconds * NANOSECONDS)
        context = propagator.extract(request.headers)
        span = tracer.start_span(request.route, context, SpanKind.SERVER, _attributes(request), start_time=start)
        if request.status >= 500:
            span.set_status(Status(StatusCode.ERROR, request.reason))
        if request.texts:
            computing = start + int(request.timings.queue * NANOSECONDS)
            inner = set_span_in_context(span)
            tracer.start_span("queue", inner, start_time=start).end(computing)
            tracer.start_span("compute", inner, attributes=_compute_attributes(request), start_time=computing).end(end)
        span.end(end)

    return record


def _attributes(request: RequestRecord) -> dict[str, str | int]:
    """Return the span's attributes, named by OpenTelemetry's conventions for HTTP servers."""
    return {
        "http.request.method": request.method,
        "http.route": request.route,
        "http.response.status_code": request.status,
        "manylabel.request_id": request.request_id,
        "manylabel.texts": request.texts,
        **({"error.type": request.reason} if request.reason else {}),
    }


def _compute_attributes(request: RequestRecord) -> dict[str, float]:
    return {"manylabel.tokenize": request.timings.tokenize, "manylabel.inference": request.timings.inference}
