"""Large weights as ONNX external data: kept in a file while graphs are built, and memory-mapped when read.

A tensor with external data names its file (here by an absolute path) and its position in it. A copy of such a graph
therefore costs nothing, and the operating system keeps as much of the weights in memory as fits.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor

MIN_BYTES = 2**20  # smaller tensors stay in the graph: passes read their values
ALIGNMENT = 64  # bytes, for vector instructions


class WeightStore:
    """A file that holds the large weights of graphs. Graphs with weights in it are valid as long as its folder exists.

    Args:
        folder: The folder of the file.
        min_bytes: Tensors of at least this size go into the file.
    """

    def __init__(self, folder: Path, *, min_bytes: int = MIN_BYTES) -> None:
        self._path = folder.absolute() / "weights"
        self._min_bytes = min_bytes

    def move_weights(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Return the model with its large weights in the file.

        The result is a new model, because a protobuf message does not release the memory of removed fields.
        """
        light = copy_without_weights(proto)
        for tensor in proto.graph.initializer:
            if tensor_bytes(tensor) < self._min_bytes:
                light.graph.initializer.append(embed_tensor(tensor))
            else:
                light.graph.initializer.append(self._append(read_tensor(tensor), tensor.name))
        return light

    def make_tensor(self, value: NDArray[Any], name: str) -> TensorProto:
        """Return an array as a tensor, stored in the file if it is large."""
        if value.nbytes < self._min_bytes:
            return numpy_helper.from_array(value, name)
        return self._append(value, name)

    def _append(self, value: NDArray[Any], name: str) -> TensorProto:
        with self._path.open("ab") as file:
            return append_tensor(value, name, file, str(self._path))


def is_external(tensor: TensorProto) -> bool:
    """Return whether the values of a tensor are in a file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def external_tensors(proto: onnx.ModelProto) -> list[TensorProto]:
    """Return the initializers whose values are in a file."""
    return [tensor for tensor in proto.graph.initializer if is_external(tensor)]


def external_path(tensor: TensorProto) -> str:
    """Return the file that holds the values of a tensor with external data."""
    return next(str(entry.value) for entry in tensor.external_data if entry.key == "location")


def tensor_bytes(tensor: TensorProto) -> int:
    """Return the size of a tensor's values in bytes.

    >>> tensor_bytes(numpy_helper.from_array(np.zeros((3, 4), np.float32)))
    48
    """
    return int(np.prod(tensor.dims, dtype=np.int64)) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def read_tensor(tensor: TensorProto) -> NDArray[Any]:
    """Return the values of a tensor, memory-mapped if they are in a file."""
    if not is_external(tensor):
        return numpy_helper.to_array(tensor)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.asarray(np.memmap(entries["location"], dtype, "r", int(entries.get("offset", 0)), tuple(tensor.dims)))


def embed_tensor(tensor: TensorProto) -> TensorProto:
    """Return the tensor with its values inside the message."""
    return numpy_helper.from_array(read_tensor(tensor), tensor.name) if is_external(tensor) else tensor


def embed_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with all weights inside, for tools that cannot read external data."""
    whole = copy_without_weights(proto)
    for tensor in proto.graph.initializer:
        whole.graph.initializer.append(embed_tensor(tensor))
    return whole


def append_tensor(value: NDArray[Any], name: str, file: BinaryIO, location: str) -> TensorProto:
    """Append an array to a file, and return the tensor that refers to it."""
    file.write(bytes(-file.tell() % ALIGNMENT))
    dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
    tensor = TensorProto(name=name, data_type=dtype, dims=value.shape, data_location=TensorProto.EXTERNAL)
    for key, entry in (("location", location), ("offset", file.tell()), ("length", value.nbytes)):
        tensor.external_data.add(key=key, value=str(entry))
    file.write(value.data)
    return tensor


def read_model(path: Path) -> onnx.ModelProto:
    """Load a model and leave its external data in the files, which must exist as long as the model is used.

    External constants of nodes are loaded: PyTorch writes even single numbers as external data if a model is larger
    than 2 GiB.
    """
    proto = onnx.load(str(path), load_external_data=False)
    for tensor in external_tensors(proto):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(path.absolute().parent / entry.value)
    for constant in (attribute.t for node in proto.graph.node for attribute in node.attribute):
        if is_external(constant):
            load_external_data_for_tensor(constant, str(path.parent))
            constant.ClearField("external_data")
            constant.data_location = TensorProto.DEFAULT
    return proto


def copy_without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model without its initializers."""
    light = onnx.ModelProto()
    copy_fields(proto, light, without=("graph",))
    copy_fields(proto.graph, light.graph, without=("initializer",))
    return light


def copy_fields(source: Message, target: Message, *, without: Collection[str]) -> None:
    """Copy all fields but some into an empty protobuf message of the same type."""
    for field, value in source.ListFields():
        if field.name in without:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)
