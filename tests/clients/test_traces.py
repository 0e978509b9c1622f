"""OpenTelemetry's exporter against a collector that stores what it receives in a list."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from tests.helpers.serving import serving

service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
pytest.importorskip("uvicorn")

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, ERROR = 2, 2
"""Numbers of a span's kind and of its status in the protocol."""


@contextmanager
def collecting() -> Iterator[tuple[str, list[Any]]]:
    """Run a collector; yield its URL and the list of received spans."""
    received: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = service.ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            received.extend(sent.resource_spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", received
        server.shutdown()
        thread.join()


def classify(url: str, body: object, **headers: str) -> None:
    sent = {"Content-Type": "application/json", **headers}
    with urlopen(Request(f"{url}/v1/classify", json.dumps(body).encode(), sent), timeout=30) as response:
        response.read()


def test_request_span_belongs_to_client_trace(bundle: Path) -> None:
    """All spans are sent before the server exits, and they do not contain the texts."""
    with collecting() as (collector, received):
        with serving(bundle, "--name", "tiny", "--otlp", collector) as url:
            classify(url, {"inputs": ["a secret", "late"]}, traceparent=f"00-{TRACE}-{PARENT}-01")
            with pytest.raises(HTTPError):
                classify(url, {"inputs": 3})
        attributes = {each.key: each.value.string_value for each in received[0].resource.attributes}
        assert attributes["service.name"] == "tiny"
        spans = [span for each in received for scope in each.scope_spans for span in scope.spans]
    request, queue, compute, rejected = sorted(
        spans, key=lambda span: ("own.classify", "queue", "compute").index(span.name) + 3 * (not span.parent_span_id)
    )
    assert (request.name, request.kind) == ("own.classify", SERVER)
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    for part in (queue, compute):
        assert (part.trace_id, part.parent_span_id) == (request.trace_id, request.span_id)
    assert request.start_time_unix_nano == queue.start_time_unix_nano
    assert queue.end_time_unix_nano == compute.start_time_unix_nano < compute.end_time_unix_nano
    assert attributes_of(request) == {
        "http.request.method": "POST",
        "http.route": "own.classify",
        "manylabel.texts": 2,
        "http.response.status_code": 200,
    }
    assert attributes_of(rejected)["http.response.status_code"] == 422
    assert attributes_of(rejected)["error.type"] == "malformed"
    assert rejected.status.code != ERROR  # a client error is not a server error
    assert b"secret" not in b"".join(each.SerializeToString() for each in received)


def attributes_of(span: Any) -> dict[str, Any]:
    """Return a span's attributes, without the request ID."""
    values = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
    assert values.pop("manylabel.request_id")
    return values


def test_unreachable_collector_does_not_block_responses(bundle: Path) -> None:
    with serving(bundle, "--otlp", "http://127.0.0.1:9/v1/traces", OTEL_EXPORTER_OTLP_TIMEOUT="1") as url:
        classify(url, {"inputs": "late"})
