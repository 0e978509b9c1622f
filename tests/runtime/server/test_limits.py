"""Requests that are rejected early: slow, large, deeply nested, compressed and invalid ones, as bytes on a socket."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.helpers.wire import chunk, connected, post

from manylabel import Classifier

pytest.importorskip("uvicorn")

TIMEOUT = 0.3
"""Timeout in seconds for headers, and for bodies."""

MAX_BODY = 3_000
TEXT = b'{"inputs": "late"}'


@pytest.fixture(scope="module")
def url(run: Any, classifier: Classifier) -> Iterator[str]:
    limits = {"max_body_bytes": MAX_BODY, "max_texts": 5, "max_characters": 100}
    with run(classifier, header_timeout=TIMEOUT, body_timeout=TIMEOUT, **limits) as started:
        yield started.url


def _reject(url: str, request: bytes) -> tuple[int, dict[str, Any]]:
    with connected(url) as wire:
        wire.send(request)
        response = wire.response()
        return response.status, json.loads(response.body)


def test_header_timeout(url: str) -> None:
    with connected(url) as wire:
        wire.send(b"POST /v1/classify HTTP/1.1\r\nHost: te")
        assert wire.response().status == 408
        assert wire.is_closed()


def test_slow_header_bytes_do_not_extend_the_timeout(url: str) -> None:
    with connected(url) as wire:
        wire.send(b"POST /v1/classify HTTP/1.1\r\nX-Slow: ")
        for _ in range(100):
            wire.send(b"x")
            time.sleep(TIMEOUT / 10)
        assert wire.response().status == 408
        assert wire.is_closed()


def test_silent_connection_is_closed(url: str) -> None:
    with connected(url) as wire:
        assert wire.is_closed()


def test_keep_alive_is_longer_than_header_timeout(url: str) -> None:
    with connected(url) as wire:
        for _ in range(2):
            wire.send(post(TEXT) + b"\r\n")  # an extra line break, as old clients send it, does not start a request
            assert wire.response().status == 200
            time.sleep(2 * TIMEOUT)
        wire.send(b"POST /v1")
        assert wire.response().status == 408


@pytest.mark.parametrize(
    "partial", [post(TEXT + b" " * 99)[:-50], post(chunk(b"{"), "Transfer-Encoding: chunked", length=False)]
)
def test_body_timeout(url: str, partial: bytes) -> None:
    with connected(url) as wire:
        wire.send(partial)
        response = wire.response()
        assert (response.status, json.loads(response.body)["detail"]) == (408, "the body did not arrive within 0.3 s.")
        assert "connection: close" in response.headers
        assert wire.is_closed()


def test_header_size_is_limited(url: str) -> None:
    with connected(url) as wire:
        wire.send(b"POST /v1/classify HTTP/1.1\r\n" + b"X-Large: " + b"x" * 400_000)
        assert wire.response().status == 431
        assert wire.is_closed()


def test_declared_too_large_body_is_not_read(url: str) -> None:
    with connected(url) as wire:
        wire.send(post(b"", f"Content-Length: {MAX_BODY + 1}", length=False))
        response = wire.response()
        assert (response.status, json.loads(response.body)["title"]) == (413, "Request Entity Too Large")
        assert wire.is_closed()


def test_chunked_body_size_is_limited(url: str) -> None:
    with connected(url) as wire:
        wire.send(post(b"", "Transfer-Encoding: chunked", length=False))
        for _ in range(MAX_BODY // 100):
            wire.send(chunk(b"x" * 100))
        wire.send(chunk(b"x"))  # the rest is never sent
        assert wire.response().status == 413
        assert wire.is_closed()


def test_chunked_body_is_accepted(url: str) -> None:
    with connected(url) as wire:
        wire.send(post(chunk(TEXT[:5]) + chunk(TEXT[5:]) + b"0\r\n\r\n", "Transfer-Encoding: chunked", length=False))
        assert wire.response().status == 200
        wire.send(post(TEXT))
        assert wire.response().status == 200


def test_pipelined_requests_are_answered_in_order(url: str) -> None:
    with connected(url) as wire:
        wire.send(post(TEXT) + post(b"[]") + post(b"{") + post(TEXT, path="/predict"))
        assert [wire.response().status for _ in range(4)] == [200, 422, 400, 200]


CHUNKED = "Transfer-Encoding: chunked"
LENGTH = f"Content-Length: {len(TEXT)}"
WHOLE = chunk(TEXT) + b"0\r\n\r\n"
ADMIN = post(b"", path="/v2/repository/index")
SMUGGLED = {
    "a length and chunks": post(b"0\r\n\r\n" + ADMIN, CHUNKED, f"Content-Length: {5 + len(ADMIN)}", length=False),
    "chunks and a length": post(WHOLE, LENGTH, CHUNKED, length=False),
    "two lengths": post(TEXT + ADMIN, LENGTH, f"Content-Length: {len(TEXT + ADMIN)}", length=False),
    "the same length twice": post(TEXT, LENGTH, LENGTH, length=False),
    "a list of lengths": post(TEXT, f"{LENGTH}, {len(TEXT)}", length=False),
    "a signed length": post(TEXT, f"Content-Length: +{len(TEXT)}", length=False),
    "a length in hexadecimal": post(TEXT, f"Content-Length: {len(TEXT):#x}", length=False),
    "a length that overflows": post(TEXT, f"Content-Length: {2**64 + len(TEXT)}", length=False),
    "an empty length": post(TEXT, "Content-Length:", length=False),
    "a space before the colon": post(TEXT, LENGTH.replace(":", " :"), length=False),
    "chunked twice": post(WHOLE, CHUNKED, CHUNKED, length=False),
    "chunked is not last": post(WHOLE, f"{CHUNKED}, identity", length=False),
    "nearly chunked": post(WHOLE, "Transfer-Encoding: xchunked", length=False),
    "chunked after a vertical tab": post(WHOLE, "Transfer-Encoding: \x0bchunked", length=False),
    "identity and a length": post(TEXT, "Transfer-Encoding: identity"),
    "a folded header": post(WHOLE, "Transfer-Encoding:\r\n chunked", length=False),
    "a folded first header": post(TEXT).replace(b"\r\nHost", b"\r\n Host"),
    "a line that ends in LF": post(TEXT).replace(b"test\r\n", b"test\n"),
    "lines that end in LF": post(TEXT).replace(b"\r\n", b"\n"),
    "a bare CR in a header": post(TEXT, "X-A: b\rX-B: c"),
    "a zero byte in a header": post(TEXT, "X-A: b\0c"),
    "a space in a name": post(TEXT, "X A: b"),
    "a header without a name": post(TEXT, ": b"),
    "a chunk's size that ends in LF": post(WHOLE.replace(b"\r\n", b"\n", 1), CHUNKED, length=False),
    "a chunk's extension that ends in LF": post(WHOLE.replace(b"\r\n", b";a\n", 1), CHUNKED, length=False),
    "a chunk's data that ends in LF": post(WHOLE.replace(b"}\r\n", b"}\n"), CHUNKED, length=False),
    "a chunk longer than its size": post(WHOLE.replace(b"}\r\n", b"}XX"), CHUNKED, length=False),
    "a chunk's size with 0x": post(b"0x" + WHOLE, CHUNKED, length=False),
    "a chunk's size below 0": post(b"-" + WHOLE, CHUNKED, length=False),
    "a chunk's size that overflows": post(b"1" + b"0" * 16 + WHOLE, CHUNKED, length=False),
    "a length after the chunks": post(WHOLE[:-2] + b"Content-Length: 3\r\n\r\n", CHUNKED, length=False),
    "no host": post(TEXT).replace(b"Host: test\r\n", b""),
    "two hosts": post(TEXT, "Host: other"),
    "a CONNECT tunnel": b"CONNECT other:80 HTTP/1.1\r\nHost: other\r\n\r\n",
    "the HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
"""Requests that two parsers may read differently (request smuggling): a proxy in front would take the bytes that the
server left over for another client's response, or the reverse."""


@pytest.mark.parametrize("case", SMUGGLED)
def test_request_smuggling_is_rejected(url: str, case: str) -> None:
    with connected(url) as wire:
        wire.send(SMUGGLED[case] + post(TEXT))
        assert wire.response().status == 400
        assert wire.is_closed()


@pytest.mark.parametrize("extension", [b";a=b", b';a="b;c"', b";a"])
def test_chunk_extension_is_skipped(url: str, extension: bytes) -> None:
    with connected(url) as wire:
        wire.send(post(WHOLE.replace(b"\r\n", extension + b"\r\n", 1), CHUNKED, length=False) + post(TEXT))
        assert [wire.response().status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_upgrade_is_ignored(url: str, upgrade: str) -> None:
    with connected(url) as wire:
        wire.send(post(TEXT, "Connection: Upgrade", f"Upgrade: {upgrade}"))
        assert wire.response().status != 101


def test_http_1_0_chunked_closes_the_connection(url: str) -> None:
    """HTTP/1.0 does not have chunks: a proxy of that version waits for the end of the connection."""
    with connected(url) as wire:
        wire.send(post(WHOLE, CHUNKED, length=False).replace(b"HTTP/1.1", b"HTTP/1.0") + post(TEXT))
        assert wire.response().status == 200
        assert wire.is_closed()


def test_total_header_size_is_limited(url: str) -> None:
    with connected(url) as wire:
        wire.send(post(TEXT, *(f"X-{number}: a" for number in range(20_000))))
        assert wire.response().status == 431
        assert wire.is_closed()


@pytest.mark.parametrize(
    "request_", [b"\x00\x01\x02\x03\r\n\r\n", b"GET\r\n\r\n", post(TEXT).replace(b"HTTP/1.1", b"HTTP/9.9")]
)
def test_invalid_http_is_rejected(url: str, request_: bytes) -> None:
    with connected(url) as wire:
        wire.send(request_)
        assert wire.response().status == 400
        assert wire.is_closed()


@pytest.mark.parametrize(
    "header",
    [
        "Content-Encoding: gzip",
        "Content-Encoding: identity, br",
        "Content-Type: text/plain",
        "Transfer-Encoding: gzip, chunked",
    ],
)
def test_unsupported_encoding_and_content_type(url: str, header: str) -> None:
    status, problem = _reject(url, post(WHOLE if "chunked" in header else TEXT, header, length="chunked" not in header))
    assert status == 415
    assert header.split(": ")[1].removesuffix(", chunked") in problem["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/classify", b'{"inputs": "a", "more": %b}'),
        ("/v1/classify", b'{"inputs": %b}'),
        ("/predict", b'{"inputs": %b}'),
        ("/", b"%b"),
        ("/v2/models/tiny/infer", b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": %b}]}'),
    ],
)
def test_deeply_nested_json_is_rejected(run: Any, classifier: Classifier, path: str, body: bytes) -> None:
    with run(classifier) as server:
        for deep in (b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000):
            assert _reject(server.url, post(body % deep, path=path))[0] in (400, 422)
        with connected(server.url) as wire:
            wire.send(post(TEXT))
            assert wire.response().status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"inputs": "\xff"}', 400),
        (b'{"inputs": NaN}', 400),
        (b'{"inputs": []}', 422),
        (b'{"inputs": [3]}', 422),
        (b'{"inputs": "a", "top_k": 0}', 422),
        (b'{"inputs": "a", "thresholds": 2}', 422),
        (b'{"inputs": ["a", "a", "a", "a", "a", "a"]}', 413),
        (b'{"inputs": "%b"}' % (b"a" * 101), 413),
    ],
)
def test_error_status_codes(url: str, body: bytes, status: int) -> None:
    response_status, problem = _reject(url, post(body))
    assert (response_status, problem["status"]) == (status, status)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"error", "error_type"}),
        ("/v2/models/tiny/infer", {"error"}),
        ("/", {"error"}),
        ("/v1/classify", {"title", "status", "detail", "request_id", "type"}),
    ],
)
def test_error_format_of_every_protocol(url: str, path: str, body: set[str]) -> None:
    for request in (post(b"{", path=path), post(TEXT, "Content-Encoding: gzip", path=path)):
        assert set(_reject(url, request)[1]) == body


def test_text_pair_is_not_a_batch(url: str) -> None:
    status, error = _reject(url, post(b'{"inputs": ["a", "b"]}', path="/predict"))
    assert (status, error["error_type"]) == (422, "Validation")
    assert "text pair" in error["error"]
    with connected(url) as wire:
        wire.send(post(b'{"inputs": [["a"], ["b"]]}', path="/predict") + post(b'{"inputs": ["a"]}', path="/predict"))
        assert [len(json.loads(wire.response().body)) for _ in range(2)] == [2, 4]


def test_total_body_size_is_limited(run: Any, classifier: Classifier) -> None:
    with run(classifier, max_held_bytes=2_000, body_timeout=TIMEOUT) as server, connected(server.url) as one:
        one.send(post(b" " * 1_900)[:-1])
        time.sleep(TIMEOUT / 3)
        assert _reject(server.url, post(b" " * 200 + TEXT))[0] == 429
        assert one.response().status == 408
        with connected(server.url) as wire:  # the memory was released
            wire.send(post(b" " * 1_900 + TEXT))
            assert wire.response().status == 200


def test_request_id_is_echoed_if_valid(url: str) -> None:
    with connected(url) as wire:
        wire.send(post(TEXT, "X-Request-Id: mine-1.2"))
        assert "x-request-id: mine-1.2" in wire.response().headers
        wire.send(post(TEXT, 'X-Request-Id: "><script>'))
        assert "script" not in wire.response().headers


def _return_nan(onnx: Any, graph: Any, token: int) -> None:
    """Damage a graph: the scores are NaN for texts with the token, whose embedding is NaN."""
    (table,) = (each for each in graph.initializer if each.name.endswith("word_embeddings.weight"))
    rows = onnx.numpy_helper.to_array(table).copy()
    rows[token] = float("nan")
    table.CopyFrom(onnx.numpy_helper.from_array(rows, table.name))


def _return_wrong_shape(onnx: Any, graph: Any, token: int) -> None:
    """Damage a graph: it returns too many rows for texts with the token."""
    (maker,) = (node for node in graph.node if "probabilities" in node.output)
    maker.output[list(maker.output).index("probabilities")] = "undamaged"
    constants = {"token": [token], "one": [1], "shape": [1]}
    for name, value in constants.items():
        graph.initializer.append(onnx.helper.make_tensor(f"wrong_{name}", onnx.TensorProto.INT64, [1], value))
    steps = [
        ("Equal", ["input_ids", "wrong_token"], "wrong_found", {}),
        ("Cast", ["wrong_found"], "wrong_counted", {"to": onnx.TensorProto.INT64}),
        ("ReduceSum", ["wrong_counted"], "wrong_sum", {"keepdims": 0}),
        ("Add", ["wrong_sum", "wrong_one"], "wrong_times", {}),
        ("Reshape", ["wrong_times", "wrong_shape"], "wrong_rows", {}),
        ("Concat", ["wrong_rows", "wrong_one"], "wrong_repeats", {"axis": 0}),
        ("Tile", ["undamaged", "wrong_repeats"], "probabilities", {}),
    ]
    for kind, given, name, more in steps:
        graph.node.append(onnx.helper.make_node(kind, given, [name], **more))


@pytest.mark.parametrize(
    ("damage", "message", "n_non_finite"),
    [(_return_nan, "NaN or infinity", "3.0"), (_return_wrong_shape, "returned shape (2, 4)", "0.0")],
)
def test_bad_graph_output_fails_only_its_request(
    run: Any, own_bundle: Any, resign: Any, damage: Any, message: str, n_non_finite: str
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(own_bundle / "model.onnx")
    damage(onnx, model.graph, json.loads((own_bundle / "tokenizer.json").read_text())["model"]["vocab"]["kaputt"])
    onnx.save(model, own_bundle / "model.onnx")
    broken = Classifier.load(resign(own_bundle), device="cpu", precision="fp32")
    with run(broken) as server, connected(server.url) as wire:
        for path, status in (("/v1/classify", 500), ("/predict", 424), ("/v2/models/tiny/infer", 500)):
            body = b'{"inputs": "kaputt"}'
            if path.startswith("/v2"):
                body = b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["kaputt"]}]}'
            wire.send(post(body, path=path) + post(TEXT))
            rejected = wire.response()
            assert rejected.status == status
            assert message in rejected.body.decode()
            assert wire.response().status == 200
        assert f"manylabel_non_finite_total {n_non_finite}" in server.metrics()


def test_load_shedding_rejects_unread_and_keeps_alive(run: Any, classifier: Classifier) -> None:
    """The error has each protocol's format; requests without texts are answered as usual."""
    body = b'{"inputs": "' + b"late " * 20_000 + b'"}'
    with run(classifier, max_queue_tokens=1_000) as server, connected(server.url) as wire:
        server.pretend_queued_tokens(960)
        for path, field in (("/v1/classify", "title"), ("/predict", "error_type"), ("/v2/models/tiny/infer", "error")):
            wire.send(post(body, "X-Request-Id: mine", path=path))
            response = wire.response()
            assert (response.status, field in json.loads(response.body)) == (429, True)
            assert "retry-after: 1" in response.headers
            assert "x-request-id: mine" in response.headers
        wire.send(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        assert wire.response().status == 200
        wire.send(post(chunk(b"{") + b"0\r\n\r\n", "Transfer-Encoding: chunked", length=False))
        assert wire.response().status == 429
        server.pretend_queued_tokens(0)
        wire.send(post(TEXT))
        assert wire.response().status == 200
        metrics = server.metrics()
        assert 'manylabel_refusals_total{reason="full"} 4.0' in metrics
        assert 'manylabel_requests_total{route="unread",status="429"} 4.0' in metrics
        wire.send(post(TEXT, "Connection: close"))
        assert wire.response().status == 200
        assert wire.is_closed()


def test_expect_100_continue_and_head_requests(url: str) -> None:
    with connected(url) as wire:
        wire.send(post(TEXT, "Expect: 100-continue")[: -len(TEXT)])
        assert wire.response().status == 100
        wire.send(TEXT)
        assert wire.response().status == 200
        wire.send(b"HEAD /health HTTP/1.1\r\nHost: test\r\n\r\n")
        assert wire.response().status == 200
