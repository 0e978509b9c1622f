"""Graphs of more bytes than one message may have: weights beside a graph, or out of it for a while.

A serialised ONNX graph ends at 2 GiB. Beyond, what is large is kept apart, as ONNX has it: the graph names a file, and
where in it a tensor lies. Every step that serialises a graph takes one of the two ways here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from manylabel_export.graph.editor import inputs_of

Message = TypeVar("Message", TensorProto, onnx.ValueInfoProto)

MAX_BYTES = 2**31 - 2**20  # protobuf refuses 2 GiB; the margin is for the graph around the weights
LEAST = 1024  # smaller tensors stay: their values decide how a graph is read
BESIDE = "weights"
ALIGNED = 64  # bytes; what vector instructions like to find


@dataclass(frozen=True)
class Packed:
    """A serialised graph.

    Attributes:
        model: The graph.
        beside: The file of weights that it names, with its content; empty where it holds them itself.
    """

    model: bytes
    beside: Mapping[str, bytes]


def size_of(proto: onnx.ModelProto) -> int:
    """Bytes of a model's weights."""
    return sum(_bytes_of(tensor) for tensor in proto.graph.initializer)


def pack(proto: onnx.ModelProto, location: str = BESIDE, *, limit: int = MAX_BYTES) -> Packed:
    """Serialise a model, with its weights apart if they have more than `limit` bytes.

    Args:
        proto: The model; left as it is.
        location: What the graph calls the file of weights beside it.
        limit: Bytes of weights that a graph may hold.
    """
    if size_of(proto) <= limit:
        return Packed(proto.SerializeToString(), {})
    with lifted(proto, limit=limit) as tensors:
        light = onnx.ModelProto()
        light.CopyFrom(proto)
    weights = bytearray()
    for tensor in tensors:
        weights += bytes(-len(weights) % ALIGNED)
        content = numpy_helper.to_array(tensor).tobytes()
        entry = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        entry.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", len(weights)), ("length", len(content))):
            entry.external_data.add(key=key, value=str(value))
        light.graph.initializer.append(entry)
        weights += content
    _drop_inputs(light, {tensor.name for tensor in tensors})
    return Packed(light.SerializeToString(), {location: bytes(weights)})


def session_of(proto: onnx.ModelProto, *, threads: int = 0, limit: int = MAX_BYTES) -> onnxruntime.InferenceSession:
    """A session on the CPU that runs a graph as it is, unoptimised, on so many threads, or on all cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    packed = pack(proto, limit=limit)
    names, contents = list(packed.beside), list(packed.beside.values())
    options.add_external_initializers_from_files_in_memory(names, contents, [len(content) for content in contents])
    return onnxruntime.InferenceSession(packed.model, options, ["CPUExecutionProvider"])


@contextmanager
def lifted(proto: onnx.ModelProto, *, limit: int = MAX_BYTES) -> Iterator[list[TensorProto]]:
    """A model whose large weights are inputs for the time of the block, if they have more than `limit` bytes.

    For what rewrites a graph and need not know its weights. They are put back at the end.

    Args:
        proto: The model, changed in place.
        limit: Bytes of weights that a graph may hold.
    """
    tensors: list[TensorProto] = []
    if size_of(proto) > limit:
        tensors = [tensor for tensor in proto.graph.initializer if _bytes_of(tensor) >= LEAST]
        small = [tensor for tensor in proto.graph.initializer if _bytes_of(tensor) < LEAST]
        tensors, small = _own(tensors), _own(small)
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(small)
        proto.graph.input.extend(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in tensors
        )
    try:
        yield tensors
    finally:
        put_back(proto, tensors)


def put_back(proto: onnx.ModelProto, tensors: list[TensorProto]) -> None:
    """Make inputs the weights again that they were before they were `lifted`, here or in what became of the model."""
    _drop_inputs(proto, {tensor.name for tensor in tensors})
    read = {name for node in proto.graph.node for name in inputs_of(node)}
    proto.graph.initializer.extend(tensor for tensor in tensors if tensor.name in read)


def _drop_inputs(proto: onnx.ModelProto, names: set[str]) -> None:
    kept = _own([value for value in proto.graph.input if value.name not in names])
    del proto.graph.input[:]
    proto.graph.input.extend(kept)


def _own(messages: list[Message]) -> list[Message]:
    """Copies, which outlive the list that they are taken from."""
    copies = [type(message)() for message in messages]
    for copy, message in zip(copies, messages, strict=True):
        copy.CopyFrom(message)
    return copies


def _bytes_of(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64)) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
