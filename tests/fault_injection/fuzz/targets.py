"""Fuzz targets: each takes any bytes, and fails on anything but a result or one of the package's errors.

`run.py` searches for bytes that make a target fail; `test_corpus.py` replays those that are worth keeping.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import tokenizers

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.manifest import read_manifest
from manylabel.data.readers.block import read_blocks, scan_file
from manylabel.data.readers.open_table import Source
from manylabel.errors import BundleError, DataError
from manylabel.inference.tokenizer import Encoding, LongText, Tokenizer
from manylabel.server.http.body import decode_json
from manylabel.server.http.errors import HTTPRefusal
from manylabel.server.routes.open_inference_tensors import check_outputs, read_texts
from manylabel.server.schemas.huggingface import HfRequest
from manylabel.server.schemas.open_inference import OipInferRequest
from manylabel.server.schemas.tei import TeiPredictRequest
from manylabel.server.schemas.v1 import ClassifyRequest

BUNDLE = Path(os.environ.get("MANYLABEL_FUZZ_BUNDLE", Path(__file__).parents[3] / "build" / "tiny-bundle"))
SHARD_ROWS = 3


def manifest(content: bytes) -> None:
    """Read a manifest as it is, and with a matching digest."""
    for raw in (content, _with_digest(content)):
        with suppress(BundleError):
            read_manifest(raw, where="the bundle")


def texts(content: bytes) -> None:
    """Tokenise texts: each gives the same alone as in a batch, within the maximum length."""
    texts = content.decode("utf-8", "surrogateescape").split("\x00")  # invalid UTF-8 becomes lone surrogates
    for reader in _tokenizers():
        batched = reader.try_encode(texts)
        alone = [reader.try_encode([text])[0] for text in texts]
        for one, other, text in zip(batched, alone, texts, strict=True):
            assert _ids(one) == _ids(other), text
            assert all(len(window) <= reader.max_length for window in one.windows)  # type: ignore[union-attr]


def requests(content: bytes) -> None:
    """Decode request bodies of every protocol, and the texts of a tensor."""
    for schema in (ClassifyRequest, TeiPredictRequest, HfRequest, OipInferRequest):
        head, _, tail = content.partition(b"\n\n") if schema is OipInferRequest else (content, b"", b"")
        try:
            decoded: Any = decode_json(head, msgspec.json.Decoder(schema))
            if schema is OipInferRequest:
                check_outputs(decoded)
                assert all(isinstance(text, str) for text in read_texts(decoded, memoryview(tail)))
        except HTTPRefusal as exc:
            if not 400 <= exc.status < 500:
                raise


def csv(content: bytes) -> None:
    """Plan and read a CSV file; both must agree, from the start of any shard."""
    _read(content, "csv")


def jsonl(content: bytes) -> None:
    """Plan and read a JSON lines file in the same way."""
    _read(content, "jsonl")


TARGETS: dict[str, Callable[[bytes], None]] = {each.__name__: each for each in (manifest, texts, requests, csv, jsonl)}


def careless(content: bytes) -> None:
    """Pass texts unchecked to the tokenizers library (the control): anything that is not UTF-8 makes it fail."""
    tokenizer = tokenizers.Tokenizer.from_buffer(Bundle.open(BUNDLE).read("tokenizer.json"))
    tokenizer.encode_batch(content.decode("utf-8", "surrogateescape").split("\x00"))


CONTROLS: dict[str, Callable[[bytes], None]] = {"careless": careless}


def _read(content: bytes, format: Any) -> None:
    """Check that planning and reading agree on rows and offsets."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        path.write_bytes(content)
        source = Source(str(path), format)
        try:
            scanned = scan_file(source, "text", SHARD_ROWS)
        except DataError:
            return
        all_rows = [
            row
            for block in read_blocks(source, scanned.schema, "text", scanned.starts[0])
            for row in zip(block.columns.to_pylist(), block.texts, strict=True)
        ]
        assert len(all_rows) == scanned.rows
        for start in scanned.starts[1:]:
            block = next(read_blocks(source, scanned.schema, "text", start), None)
            rows = [] if block is None else [*zip(block.columns.to_pylist(), block.texts, strict=True)]
            assert rows[:SHARD_ROWS] == all_rows[start.row : start.row + len(rows[:SHARD_ROWS])]
            assert bool(rows) == (start.row < scanned.rows)


def _with_digest(content: bytes) -> bytes:
    """Return the canonical form with a matching digest if the content is a JSON object, otherwise the content."""
    try:
        manifest = json.loads(content)
        manifest.pop("digest", None)
        manifest["digest"] = hashlib.sha256(_canonical(manifest)).hexdigest()
        return _canonical(manifest)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return content


def _canonical(content: object) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


@cache
def _tokenizers() -> list[Tokenizer]:
    """Return the toy bundle's tokenizer with the policies `window` and `truncate`."""
    serialized = Bundle.open(BUNDLE).read("tokenizer.json")
    policies = (LongText("window", overlap=2, max_windows=3), LongText("truncate", overlap=2))
    return [Tokenizer(serialized, prefix=[2], suffix=[3], max_length=12, long_text=policy) for policy in policies]


def _ids(outcome: object) -> object:
    assert isinstance(outcome, Encoding), outcome
    return [window.tolist() for window in outcome.windows], outcome.n_tokens, outcome.truncated
