"""OpenTelemetry's exporter against a collector, which here is a list: what comes over the wire."""

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
"""A span's kind and a span's status, by their numbers in the protocol."""


@contextmanager
def collecting() -> Iterator[tuple[str, list[Any]]]:
    """Where spans may be sent, and what came."""
    found: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = service.ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            found.extend(sent.resource_spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", found
        server.shutdown()
        thread.join()


def ask(url: str, body: object, **headers: str) -> None:
    sent = {"Content-Type": "application/json", **headers}
    with urlopen(Request(f"{url}/v1/classify", json.dumps(body).encode(), sent), timeout=30) as answer:
        answer.read()


def test_request_span_belongs_to_client_trace(bundle: Path) -> None:
    """All of it is sent before the server ends, and no text is in it."""
    with collecting() as (where, found):
        with serving(bundle, "--name", "tiny", "--otlp", where) as url:
            ask(url, {"inputs": ["a secret", "late"]}, traceparent=f"00-{TRACE}-{PARENT}-01")
            with pytest.raises(HTTPError):
                ask(url, {"inputs": 3})
        attributes = {each.key: each.value.string_value for each in found[0].resource.attributes}
        assert attributes["service.name"] == "tiny"
        spans = [span for each in found for scope in each.scope_spans for span in scope.spans]
    answered, queue, compute, refused = sorted(
        spans, key=lambda span: ("own.classify", "queue", "compute").index(span.name) + 3 * (not span.parent_span_id)
    )
    assert (answered.name, answered.kind) == ("own.classify", SERVER)
    assert (answered.trace_id.hex(), answered.parent_span_id.hex()) == (TRACE, PARENT)
    for part in (queue, compute):
        assert (part.trace_id, part.parent_span_id) == (answered.trace_id, answered.span_id)
    assert answered.start_time_unix_nano == queue.start_time_unix_nano
    assert queue.end_time_unix_nano == compute.start_time_unix_nano < compute.end_time_unix_nano
    assert told(answered) == {
        "http.request.method": "POST",
        "http.route": "own.classify",
        "manylabel.texts": 2,
        "http.response.status_code": 200,
    }
    assert told(refused)["http.response.status_code"] == 422
    assert told(refused)["error.type"] == "malformed"
    assert refused.status.code != ERROR  # the client's fault
    assert b"secret" not in b"".join(each.SerializeToString() for each in found)


def told(span: Any) -> dict[str, Any]:
    """A span's attributes, without the request's id."""
    values = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
    assert values.pop("manylabel.request_id")
    return values


def test_unreachable_collector_does_not_block_responses(bundle: Path) -> None:
    with serving(bundle, "--otlp", "http://127.0.0.1:9/v1/traces", OTEL_EXPORTER_OTLP_TIMEOUT="1") as url:
        ask(url, {"inputs": "late"})
