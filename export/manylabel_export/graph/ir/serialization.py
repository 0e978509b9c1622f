"""Graphs to files and sessions: whole, or with their weights apart where one message cannot have as many bytes.

A serialised ONNX graph ends at 2 GiB. Beyond, what is large is kept apart, as ONNX has it: the graph names a file, and
where in it a tensor lies. Either is written tensor by tensor, so that nothing is copied in memory on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, TypeVar

import onnx
import onnxruntime
from onnx import TensorProto, helper

from manylabel_export.graph.ir.editor import inputs_of
from manylabel_export.graph.ir.external_data import bytes_of, is_stored, located, put, stored, value_of, without_weights
from manylabel_export.graph.ir.protobuf_fields import around, header

Message = TypeVar("Message", TensorProto, onnx.ValueInfoProto)

MAX_BYTES = 2**31 - 2**20  # protobuf refuses 2 GiB; the margin is for the graph around the weights
LEAST = 1024  # smaller tensors stay in the graph, whose shapes hang on some of them
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9  # fields of ModelProto, GraphProto and TensorProto


def size_of(proto: onnx.ModelProto) -> int:
    """Bytes of a model's weights."""
    return sum(bytes_of(tensor) for tensor in proto.graph.initializer)


def write(proto: onnx.ModelProto, path: Path, *, beside: str, limit: int = MAX_BYTES) -> bool:
    """Serialise a model into a file, with its weights in another if they have more than `limit` bytes.

    Args:
        proto: The model; left as it is.
        path: The file.
        beside: The name of the file of weights, in the same folder.
        limit: Bytes of weights that a graph may hold.

    Returns:
        Whether the weights are apart.
    """
    apart = size_of(proto) > limit
    with path.open("wb") as file:
        if not apart:
            _write_whole(proto, file)
            return False
        with path.with_name(beside).open("wb") as weights:
            file.write(_apart(proto, weights, beside).SerializeToString())
    return True


def _apart(proto: onnx.ModelProto, file: BinaryIO, location: str) -> onnx.ModelProto:
    """The model with its weights in a file."""
    light = without_weights(proto)
    large = [tensor for tensor in proto.graph.initializer if bytes_of(tensor) >= LEAST]
    light.graph.initializer.extend(tensor for tensor in proto.graph.initializer if bytes_of(tensor) < LEAST)
    light.graph.initializer.extend(put(value_of(tensor), tensor.name, file, location) for tensor in large)
    return light


def _write_whole(proto: onnx.ModelProto, file: BinaryIO) -> None:
    """Write what `SerializeToString` would give were all weights in the model."""
    before, after = around(proto, GRAPH)
    graph_before, graph_after = around(proto.graph, INITIALIZER)
    tensors = [(_head(tensor), tensor) for tensor in proto.graph.initializer]
    size = len(graph_before) + sum(len(head) + _mapped(tensor) for head, tensor in tensors) + len(graph_after)
    file.write(before + header(GRAPH, size) + graph_before)
    for head, tensor in tensors:
        file.write(head)
        if is_stored(tensor):
            file.write(value_of(tensor).data)
    file.write(graph_after + after)


def _head(tensor: TensorProto) -> bytes:
    """A tensor as a field of its graph, as far as its values if these are in a file."""
    if is_stored(tensor):
        plain = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        content = bytes(plain.SerializeToString()) + header(RAW_DATA, bytes_of(tensor))
    else:
        content = bytes(tensor.SerializeToString())
    return header(INITIALIZER, len(content) + _mapped(tensor)) + content


def _mapped(tensor: TensorProto) -> int:
    return bytes_of(tensor) if is_stored(tensor) else 0


def session_of(proto: onnx.ModelProto, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session on the CPU that runs a graph as it is, unoptimised, on so many threads, or on all cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    files = {Path(located(tensor)) for tensor in stored(proto)}
    if not files:
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers)
    (weights,) = files
    with NamedTemporaryFile(dir=weights.parent, suffix=".onnx") as file:  # from which onnxruntime maps them
        file.write(_beside(proto, weights.name).SerializeToString())
        file.flush()
        return onnxruntime.InferenceSession(file.name, options, providers)


def _beside(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model as one that lies in the same folder as its file of weights: onnxruntime opens no others."""
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    for tensor in stored(copied):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name
    return copied


@contextmanager
def lifted(proto: onnx.ModelProto) -> Iterator[list[TensorProto]]:
    """A model whose stored weights are inputs for the time of the block.

    For what rewrites a graph and need not know its weights. They are put back at the end.

    Args:
        proto: The model, changed in place.
    """
    tensors = _own(stored(proto))
    if tensors:
        others = _own([tensor for tensor in proto.graph.initializer if not is_stored(tensor)])
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(others)
        proto.graph.input.extend(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in tensors
        )
    try:
        yield tensors
    finally:
        put_back(proto, tensors)


def put_back(proto: onnx.ModelProto, tensors: list[TensorProto]) -> None:
    """Make inputs the weights again that they were before they were `lifted`, here or in what became of the model."""
    names = {tensor.name for tensor in tensors}
    kept = _own([value for value in proto.graph.input if value.name not in names])
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    read = {name for node in proto.graph.node for name in inputs_of(node)}
    proto.graph.initializer.extend(tensor for tensor in tensors if tensor.name in read)


def _own(messages: list[Message]) -> list[Message]:
    """Copies, which outlive the list that they are taken from."""
    copies = [type(message)() for message in messages]
    for copy, message in zip(copies, messages, strict=True):
        copy.CopyFrom(message)
    return copies
