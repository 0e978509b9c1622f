"""Graphs to files and sessions, with external weights where one protobuf message would be too large.

A serialised ONNX graph ends at 2 GiB. Larger weights go into a second file, as ONNX external data. Both forms are
written tensor by tensor, so that no second copy of the weights is made in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, TypeVar

import onnx
import onnxruntime
from google.protobuf.message import Message
from onnx import TensorProto, helper, version_converter

from manylabel_export.graph.ir.editor import input_names
from manylabel_export.graph.ir.external_data import (
    append_tensor,
    copy_fields,
    copy_without_weights,
    external_path,
    external_tensors,
    is_external,
    read_tensor,
    tensor_bytes,
)

MessageT = TypeVar("MessageT", bound=Message)

MAX_BYTES = 2**31 - 2**20  # protobuf refuses 2 GiB; the margin is for the graph around the weights
MIN_EXTERNAL_BYTES = 1024  # smaller tensors stay in the graph: shape inference reads some of them
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9  # field numbers in ModelProto, GraphProto and TensorProto
INT8_OPSET = 21  # the first with blockwise scales in QuantizeLinear


def weight_bytes(proto: onnx.ModelProto) -> int:
    """Return the size of a model's weights in bytes."""
    return sum(tensor_bytes(tensor) for tensor in proto.graph.initializer)


def write_model(proto: onnx.ModelProto, path: Path, *, weights_name: str, limit: int = MAX_BYTES) -> bool:
    """Serialise a model into a file, with its weights in a second file if they exceed `limit` bytes.

    Args:
        proto: The model; it is not changed.
        path: The file.
        weights_name: The name of the second file, in the same folder.
        limit: Largest size of the weights inside the graph, in bytes.

    Returns:
        Whether a second file was written.
    """
    is_split = weight_bytes(proto) > limit
    with path.open("wb") as file:
        if not is_split:
            _write_whole(proto, file)
            return False
        with path.with_name(weights_name).open("wb") as weights:
            file.write(_with_external_weights(proto, weights, weights_name).SerializeToString())
    return True


def _with_external_weights(proto: onnx.ModelProto, file: BinaryIO, location: str) -> onnx.ModelProto:
    """Write the weights to a file, and return the model that refers to it."""
    light = copy_without_weights(proto)
    small = [tensor for tensor in proto.graph.initializer if tensor_bytes(tensor) < MIN_EXTERNAL_BYTES]
    large = [tensor for tensor in proto.graph.initializer if tensor_bytes(tensor) >= MIN_EXTERNAL_BYTES]
    light.graph.initializer.extend(small)
    light.graph.initializer.extend(append_tensor(read_tensor(tensor), tensor.name, file, location) for tensor in large)
    return light


def _write_whole(proto: onnx.ModelProto, file: BinaryIO) -> None:
    """Write the bytes that `SerializeToString` would return if all weights were inside the model."""
    before, after = _bytes_around_field(proto, GRAPH)
    graph_before, graph_after = _bytes_around_field(proto.graph, INITIALIZER)
    tensors = [(_tensor_header(tensor), tensor) for tensor in proto.graph.initializer]
    size = sum(len(header) + _external_bytes(tensor) for header, tensor in tensors)
    file.write(before + _field_header(GRAPH, len(graph_before) + size + len(graph_after)) + graph_before)
    for header, tensor in tensors:
        file.write(header)
        if is_external(tensor):
            file.write(read_tensor(tensor).data)
    file.write(graph_after + after)


def _tensor_header(tensor: TensorProto) -> bytes:
    """Serialise a tensor as a field of its graph, up to its values if those are external."""
    if is_external(tensor):
        plain = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        content = bytes(plain.SerializeToString()) + _field_header(RAW_DATA, tensor_bytes(tensor))
    else:
        content = bytes(tensor.SerializeToString())
    return _field_header(INITIALIZER, len(content) + _external_bytes(tensor)) + content


def _external_bytes(tensor: TensorProto) -> int:
    return tensor_bytes(tensor) if is_external(tensor) else 0


def _bytes_around_field(message: MessageT, number: int) -> tuple[bytes, bytes]:
    """Serialise the fields before and after a field, which is left out."""
    numbers = {field.name: field.number for field in message.DESCRIPTOR.fields}
    before, after = type(message)(), type(message)()
    copy_fields(message, before, without=[name for name, other in numbers.items() if other >= number])
    copy_fields(message, after, without=[name for name, other in numbers.items() if other <= number])
    return before.SerializeToString(), after.SerializeToString()


def _field_header(number: int, size: int) -> bytes:
    """Encode what precedes the `size` bytes of a length-delimited field: its tag and its length."""
    return _varint(number << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    """Encode a number in groups of seven bits, the lowest first."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def open_session(proto: onnx.ModelProto, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open a CPU session that runs a graph unoptimised.

    Args:
        proto: The graph.
        threads: Number of threads; 0 for all cores.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    files = {Path(external_path(tensor)) for tensor in external_tensors(proto)}
    if not files:
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers)
    (weights,) = files
    with NamedTemporaryFile(dir=weights.parent, suffix=".onnx") as file:  # ONNX Runtime maps weights of the same folder
        file.write(_with_location(proto, weights.name).SerializeToString())
        file.flush()
        return onnxruntime.InferenceSession(file.name, options, providers)


def _with_location(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return the model with a relative path to its weights: ONNX Runtime opens no file outside the model's folder."""
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    for tensor in external_tensors(copied):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name
    return copied


@contextmanager
def weights_as_inputs(proto: onnx.ModelProto) -> Iterator[list[TensorProto]]:
    """Turn external weights into graph inputs within the block, and restore them at the end.

    For tools that rewrite a graph, do not need its weights, and cannot read external data.

    Args:
        proto: The model, changed in place.

    Yields:
        The weights, for `restore_weights` of a model that was made from this one.
    """
    tensors = _copies(external_tensors(proto))
    if tensors:
        others = _copies([tensor for tensor in proto.graph.initializer if not is_external(tensor)])
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(others)
        proto.graph.input.extend(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in tensors
        )
    try:
        yield tensors
    finally:
        restore_weights(proto, tensors)


def restore_weights(proto: onnx.ModelProto, tensors: list[TensorProto]) -> None:
    """Turn inputs that `weights_as_inputs` made back into initializers, where a node still reads them."""
    names = {tensor.name for tensor in tensors}
    kept = _copies([value for value in proto.graph.input if value.name not in names])
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    read = {name for node in proto.graph.node for name in input_names(node)}
    proto.graph.initializer.extend(tensor for tensor in tensors if tensor.name in read)


def _copies(messages: list[MessageT]) -> list[MessageT]:
    """Copy messages, so that they outlive the list that they come from."""
    copies = [type(message)() for message in messages]
    for copy, message in zip(copies, messages, strict=True):
        copy.CopyFrom(message)
    return copies


def raise_opset(proto: onnx.ModelProto, opset: int = INT8_OPSET) -> onnx.ModelProto:
    """Return the graph in another opset, by default the one that int8 needs.

    Args:
        proto: A graph of standard operators.
        opset: The version of the standard operator set.
    """
    with weights_as_inputs(proto) as tensors:
        raised = version_converter.convert_version(proto, opset)
    restore_weights(raised, tensors)
    return raised
