"""Tensors of the Open Inference Protocol: texts from a BYTES tensor, tensors from answers."""

import struct
from math import prod
from typing import Any

import numpy as np

from manylabel.server.http.errors import Refusal
from manylabel.server.schemas.all import OipInferRequest, OipInput, OipOutput
from manylabel.server.worker_pool import Answered

DEFAULT = ("probabilities", "labels")
"""What is given where no output is named."""


def texts_of(asked: OipInferRequest, tail: memoryview) -> list[str]:
    """The texts of a request.

    Args:
        asked: The request.
        tail: What follows the JSON: the tensor where it comes in binary.

    Raises:
        Refusal: There is no tensor `text`, or it is not as it says.
    """
    if len(asked.inputs) != 1 or asked.inputs[0].name != "text" or asked.inputs[0].datatype != "BYTES":
        found = ", ".join(f"{each.name[:40]} {each.datatype[:10]}" for each in asked.inputs[:4]) or "none"
        raise Refusal(422, "malformed", f"the inputs are {found}; expected one, `text` of BYTES.")
    tensor = asked.inputs[0]
    if len(tensor.shape) not in (1, 2) or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
        raise Refusal(422, "malformed", f"`text` has shape {tensor.shape[:8]}; expected [n] or [n, 1].")
    texts = _from_json(tensor) if tensor.data is not None else _from_binary(tensor, tail)
    if len(texts) != prod(tensor.shape):
        raise Refusal(422, "malformed", f"`text` has shape {tensor.shape} and {len(texts)} elements.")
    return texts


def _from_json(tensor: OipInput) -> list[str]:
    """Elements of `data`, flat or in rows of one."""
    texts: list[str] = []
    for row, element in enumerate(tensor.data or []):
        text = element[0] if isinstance(element, list) and len(element) == 1 else element
        if not isinstance(text, str):
            raise Refusal(422, "text", f"element {row} of `text` is not a string.")
        texts.append(text)
    return texts


def _from_binary(tensor: OipInput, tail: memoryview) -> list[str]:
    """Elements as four bytes of length, little-endian, and that many of UTF-8."""
    size = tensor.parameters.get("binary_data_size")
    if type(size) is not int or size != len(tail):
        raise Refusal(
            422, "malformed", f"`text` has no data, and a binary_data_size of {str(size)[:20]} for {len(tail)} bytes."
        )
    texts: list[str] = []
    at = 0
    while at < len(tail):
        end = at + 4
        if end > len(tail) or (end := end + struct.unpack_from("<I", tail, at)[0]) > len(tail):
            raise Refusal(422, "malformed", f"element {len(texts)} of `text` runs beyond the {len(tail)} bytes.")
        try:
            texts.append(str(tail[at + 4 : end], "utf-8"))
        except UnicodeDecodeError as exc:
            raise Refusal(422, "text", f"element {len(texts)} of `text` is not UTF-8.") from exc
        at = end
    return texts


def outputs_of(asked: OipInferRequest, answered: Answered) -> tuple[list[OipOutput], list[bytes]]:
    """The tensors that were asked for, and the bytes of those that go in binary, in order.

    Raises:
        Refusal: There is no such output.
    """
    by_default = asked.parameters.get("binary_data_output") is True
    named = [(each.name, each.parameters.get("binary_data", by_default) is True) for each in asked.outputs]
    outputs, binary = [], []
    for name, as_bytes in named or [(name, by_default) for name in DEFAULT]:
        datatype, shape, values = _tensor(name, answered)
        if as_bytes:
            raw = _serialized(datatype, values)
            outputs.append(OipOutput(name, shape, datatype, parameters={"binary_data_size": len(raw)}))
            binary.append(raw)
        else:
            outputs.append(
                OipOutput(name, shape, datatype, data=values if isinstance(values, list) else values.ravel().tolist())
            )
    return outputs, binary


def check_outputs(asked: OipInferRequest) -> None:
    """Refuse an output that there is not, before anything is computed."""
    for output in asked.outputs:
        if output.name not in (*DEFAULT, "decisions"):
            raise Refusal(
                422,
                "malformed",
                f"there is no output {output.name[:40]!r}; there are probabilities, labels and decisions.",
            )


def _tensor(name: str, answered: Answered) -> tuple[str, list[int], Any]:
    """Kind, shape and values."""
    model = answered.model
    if name == "labels":
        return "BYTES", [len(model.labels)], list(model.labels)
    probabilities = np.stack([answer.probabilities for answer in answered.answers])
    if name == "decisions":
        return "BOOL", list(probabilities.shape), probabilities >= model.thresholds
    return "FP32", list(probabilities.shape), probabilities


def _serialized(datatype: str, values: Any) -> bytes:
    if datatype == "BYTES":
        return b"".join(_element(text) for text in values)
    return bytes(values.astype("<f4" if datatype == "FP32" else "?").tobytes())


def _element(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<I", len(raw)) + raw
