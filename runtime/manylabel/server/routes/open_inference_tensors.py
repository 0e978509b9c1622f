"""Tensors of the Open Inference Protocol: read texts from a BYTES tensor, build output tensors from results."""

import struct
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from manylabel.server.http.errors import HTTPRefusal
from manylabel.server.schemas.open_inference import OipInferRequest, OipInput, OipOutput
from manylabel.server.worker_pool import RequestResult

DEFAULT_OUTPUTS = ("probabilities", "labels")
"""The outputs of a request that does not name any."""

OUTPUTS = (*DEFAULT_OUTPUTS, "decisions")


def read_texts(request: OipInferRequest, tail: memoryview) -> list[str]:
    """Return the texts of a request.

    Args:
        request: The request.
        tail: The bytes after the JSON: the tensor, if it is binary.

    Raises:
        HTTPRefusal: The request does not have the tensor `text`, or the tensor is invalid (422).
    """
    if len(request.inputs) != 1 or request.inputs[0].name != "text" or request.inputs[0].datatype != "BYTES":
        inputs = ", ".join(f"{each.name[:40]} {each.datatype[:10]}" for each in request.inputs[:4]) or "none"
        raise HTTPRefusal(422, "malformed", f"the inputs are {inputs}; expected one, `text` of type BYTES.")
    tensor = request.inputs[0]
    if len(tensor.shape) not in (1, 2) or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
        raise HTTPRefusal(422, "malformed", f"`text` has shape {tensor.shape[:8]}; expected [n] or [n, 1].")
    texts = _texts_from_json(tensor) if tensor.data is not None else _texts_from_binary(tensor, tail)
    if len(texts) != prod(tensor.shape):
        raise HTTPRefusal(422, "malformed", f"`text` has shape {tensor.shape}, but {len(texts)} elements.")
    return texts


def _texts_from_json(tensor: OipInput) -> list[str]:
    """Return the elements of `data`, a flat list or rows of one element."""
    texts: list[str] = []
    for row, element in enumerate(tensor.data or []):
        text = element[0] if isinstance(element, list) and len(element) == 1 else element
        if not isinstance(text, str):
            raise HTTPRefusal(422, "text", f"element {row} of `text` is not a string.")
        texts.append(text)
    return texts


def _texts_from_binary(tensor: OipInput, tail: memoryview) -> list[str]:
    """Return the elements, each a four-byte little-endian length and that many bytes of UTF-8."""
    size = tensor.parameters.get("binary_data_size")
    if type(size) is not int or size != len(tail):
        detail = f"`text` does not have data, and its binary_data_size is {str(size)[:20]} for {len(tail)} bytes."
        raise HTTPRefusal(422, "malformed", detail)
    texts: list[str] = []
    start = 0
    while start < len(tail):
        end = start + 4
        if end > len(tail) or (end := end + struct.unpack_from("<I", tail, start)[0]) > len(tail):
            raise HTTPRefusal(422, "malformed", f"element {len(texts)} of `text` exceeds the {len(tail)} bytes.")
        try:
            texts.append(str(tail[start + 4 : end], "utf-8"))
        except UnicodeDecodeError as exc:
            raise HTTPRefusal(422, "text", f"element {len(texts)} of `text` is not valid UTF-8.") from exc
        start = end
    return texts


def check_outputs(request: OipInferRequest) -> None:
    """Refuse a request for an unknown output, before anything is computed.

    Raises:
        HTTPRefusal: An output is unknown (422).
    """
    for output in request.outputs:
        if output.name not in OUTPUTS:
            detail = f"output {output.name[:40]!r} does not exist; the outputs are {', '.join(OUTPUTS)}."
            raise HTTPRefusal(422, "malformed", detail)


def build_outputs(request: OipInferRequest, computed: RequestResult) -> tuple[list[OipOutput], list[bytes]]:
    """Return the requested tensors, and the bytes of those that are sent in binary, in order."""
    by_default = request.parameters.get("binary_data_output") is True
    requested = [(each.name, each.parameters.get("binary_data", by_default) is True) for each in request.outputs]
    outputs, binary = [], []
    for name, as_binary in requested or [(name, by_default) for name in DEFAULT_OUTPUTS]:
        datatype, shape, values = _build_tensor(name, computed)
        if as_binary:
            raw = _serialize(datatype, values)
            outputs.append(OipOutput(name, shape, datatype, parameters={"binary_data_size": len(raw)}))
            binary.append(raw)
        else:
            data = values if isinstance(values, list) else values.ravel().tolist()
            outputs.append(OipOutput(name, shape, datatype, data=data))
    return outputs, binary


def _build_tensor(name: str, computed: RequestResult) -> tuple[str, list[int], Any]:
    """Return a tensor's data type, shape and values."""
    model = computed.model
    if name == "labels":
        return "BYTES", [len(model.labels)], list(model.labels)
    probabilities = np.stack([result.probabilities for result in computed.results])
    if name == "decisions":
        return "BOOL", list(probabilities.shape), probabilities >= model.thresholds
    return "FP32", list(probabilities.shape), probabilities


def _serialize(datatype: str, values: Any) -> bytes:
    if datatype == "BYTES":
        return _serialize_strings(values)
    return bytes(values.astype("<f4" if datatype == "FP32" else "?").tobytes())


def _serialize_strings(strings: Sequence[str]) -> bytes:
    encoded = [string.encode() for string in strings]
    return b"".join(struct.pack("<I", len(raw)) + raw for raw in encoded)
