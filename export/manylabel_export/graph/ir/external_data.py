"""Large weights in a file while a graph is made, mapped by whoever reads one.

The graph says where each lies, as ONNX has it for external data, by an absolute path. So a copy of a graph costs
nothing, and of the weights the system keeps in memory what there is room for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor

from manylabel_export.graph.ir.protobuf_fields import copy_fields

LEAST = 2**20  # bytes; smaller tensors stay: their values decide how a graph is read
ALIGNED = 64  # bytes; what vector instructions like to find


class Store:
    """A file of weights. Graphs that have weights in it live as long as its folder.

    Args:
        folder: Where the file lies.
        least: Bytes of the tensors that are kept in it.
    """

    def __init__(self, folder: Path, *, least: int = LEAST) -> None:
        self._path = folder.absolute() / "weights"
        self._least = least

    def take(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """The same model with its large weights in the file: a new one, as a message does not give memory back."""
        light = without_weights(proto)
        for tensor in proto.graph.initializer:
            if bytes_of(tensor) < self._least:
                light.graph.initializer.append(held(tensor))
            else:
                light.graph.initializer.append(self._put(value_of(tensor), tensor.name))
        return light

    def keep(self, value: NDArray[Any], name: str) -> TensorProto:
        """An array as a tensor, in the file if it is large."""
        return numpy_helper.from_array(value, name) if value.nbytes < self._least else self._put(value, name)

    def _put(self, value: NDArray[Any], name: str) -> TensorProto:
        with self._path.open("ab") as file:
            return put(value, name, file, str(self._path))


def value_of(tensor: TensorProto) -> NDArray[Any]:
    """A tensor's values; those in a file are mapped."""
    if not is_stored(tensor):
        return numpy_helper.to_array(tensor)
    place = {entry.key: entry.value for entry in tensor.external_data}
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.asarray(np.memmap(place["location"], kind, "r", int(place.get("offset", 0)), tuple(tensor.dims)))


def is_stored(tensor: TensorProto) -> bool:
    """Whether a tensor's values are in a file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def located(tensor: TensorProto) -> str:
    """The file that has a stored tensor's values."""
    return next(str(entry.value) for entry in tensor.external_data if entry.key == "location")


def stored(proto: onnx.ModelProto) -> list[TensorProto]:
    """The weights that are in a file."""
    return [tensor for tensor in proto.graph.initializer if is_stored(tensor)]


def held(tensor: TensorProto) -> TensorProto:
    """A tensor with its values in it."""
    return numpy_helper.from_array(value_of(tensor), tensor.name) if is_stored(tensor) else tensor


def hold(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model with all weights in it, for what cannot do without."""
    whole = without_weights(proto)
    for tensor in proto.graph.initializer:
        whole.graph.initializer.append(held(tensor))
    return whole


def put(value: NDArray[Any], name: str, file: BinaryIO, location: str) -> TensorProto:
    """Append an array to a file, and make the tensor that says where it is."""
    file.write(bytes(-file.tell() % ALIGNED))
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    tensor = TensorProto(name=name, data_type=kind, dims=value.shape, data_location=TensorProto.EXTERNAL)
    for key, said in (("location", location), ("offset", file.tell()), ("length", value.nbytes)):
        tensor.external_data.add(key=key, value=str(said))
    file.write(value.data)
    return tensor


def bytes_of(tensor: TensorProto) -> int:
    """Bytes of a tensor's values."""
    return int(np.prod(tensor.dims, dtype=np.int64)) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model that lacks its weights."""
    light = onnx.ModelProto()
    copy_fields(proto, light, without=("graph",))
    copy_fields(proto.graph, light.graph, without=("initializer",))
    return light


def load(path: Path) -> onnx.ModelProto:
    """A model from a file; weights that lie in files beside it stay there, as long as these do.

    Constants of nodes are read: PyTorch writes even a single number of these beside a model of more than 2 GiB.
    """
    proto = onnx.load(str(path), load_external_data=False)
    for tensor in stored(proto):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(path.absolute().parent / entry.value)
    for constant in (attribute.t for node in proto.graph.node for attribute in node.attribute):
        if is_stored(constant):
            load_external_data_for_tensor(constant, str(path.parent))
            constant.ClearField("external_data")
            constant.data_location = TensorProto.DEFAULT
    return proto
