"""The graph editor: one ONNX graph with its edges indexed, through which every pass reads and rewires nodes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from manylabel_export.graph.ir.external_data import WeightStore, read_tensor

Proto = TypeVar(
    "Proto", onnx.ModelProto, onnx.NodeProto, onnx.TensorProto, onnx.ValueInfoProto, onnx.OperatorSetIdProto
)
INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TYPE_IDS = "token_type_ids"
PROBABILITIES = "probabilities"
LOGITS = "logits"

CONTRIB = "com.microsoft"  # the domain of ONNX Runtime's contrib operators
ML = "ai.onnx.ml"  # the domain of ONNX's operators for classical machine learning, such as LabelEncoder
VERSIONS = {CONTRIB: 1, ML: 3}


class GraphEditor:
    """Read and rewire the top-level graph of a model.

    Passes add nodes and redirect consumers. `finish` removes the nodes that no output needs and restores the
    topological order, so a pass neither deletes nodes nor cares where it inserts them.

    Args:
        proto: The model to edit, in place. Pass a copy to keep the original.
        store: Where large new constants go; None to keep them in the model.

    Example:
        >>> header = '<ir_version: 8, opset_import: ["": 17]>'
        >>> editor = GraphEditor(onnx.parser.parse_model(header + "g (float[2] x) => (float[2] y) {y = Neg(x)}"))
        >>> editor.replace_tensor("y", editor.add_node("Abs", ["x"], "absolute"))
        >>> [node.op_type for node in editor.finish().graph.node]
        ['Abs']
    """

    def __init__(self, proto: onnx.ModelProto, store: WeightStore | None = None) -> None:
        self.proto = proto
        self.store = store
        self.graph = proto.graph
        self._initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self._constants: dict[str, NDArray[Any]] = {}
        self._added: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._names = {name for node in self.graph.node for name in (*node.output, node.name)}
        self._names |= {value.name for value in self.graph.input} | set(self._initializers)
        self._reindex()

    def _reindex(self) -> None:
        self._producer: dict[str, onnx.NodeProto] = {}
        self._consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            self._index(node)

    def _index(self, node: onnx.NodeProto) -> None:
        for name in node.output:
            self._producer[name] = node
        for name in dict.fromkeys(input_names(node)):
            self._consumers[name].append(node)

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The current nodes, as a list that is safe to iterate over while editing."""
        return list(self.graph.node)

    @property
    def output_names(self) -> list[str]:
        """The names of the graph's outputs."""
        return [value.name for value in self.graph.output]

    def has_input(self, name: str) -> bool:
        """Return whether the graph has an input of this name."""
        return any(value.name == name for value in self.graph.input)

    def producer(self, name: str) -> onnx.NodeProto | None:
        """Return the node that computes a tensor; None for inputs and initializers."""
        return self._producer.get(name)

    def consumers(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor."""
        return list(self._consumers.get(name, ()))

    def sole_consumer(self, name: str) -> onnx.NodeProto | None:
        """Return the only node that reads a tensor's values.

        `Shape` nodes do not count, because a pass that replaces the values keeps the shape.

        Returns:
            The node; None if no node or several read the tensor, or if it is an output of the graph.
        """
        readers = [node for node in self.consumers(name) if node.op_type != "Shape"]
        return readers[0] if len(readers) == 1 and name not in self.output_names else None

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the value of an initializer or `Constant` node, otherwise None."""
        if name not in self._constants:
            tensor = self._initializers.get(name)
            node = self.producer(name)
            if tensor is None and node is not None and node.op_type == "Constant":
                tensor = get_attribute(node, "value")
            if tensor is None:
                return None
            self._constants[name] = read_tensor(tensor)
        return self._constants[name]

    def scalar(self, name: str) -> float | None:
        """Return the value of a constant with a single element, otherwise None."""
        value = self.constant(name)
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def unused_name(self, hint: str) -> str:
        """Reserve and return a name that nothing in the graph has yet."""
        name, count = hint, 0
        while name in self._names:
            count += 1
            name = f"{hint}_{count}"
        self._names.add(name)
        return name

    def add_constant(self, value: NDArray[Any] | np.generic, hint: str) -> str:
        """Add an initializer and return its name. Equal values share one, as ALBERT's layers share weights."""
        array = np.asarray(value, order="C")
        key = (array.dtype.str, array.shape, hashlib.blake2b(array.reshape(-1).view(np.uint8).data).digest())
        if key not in self._added:
            name = self._added[key] = self.unused_name(hint)
            values = array.astype(object) if array.dtype.kind == "U" else array  # ONNX wants strings as objects
            tensor = self.store.make_tensor(values, name) if self.store else numpy_helper.from_array(values, name)
            self.graph.initializer.append(tensor)
            self._initializers[name] = self.graph.initializer[-1]
        return self._added[key]

    def add_node(
        self,
        op_type: str,
        inputs: Sequence[str],
        hint: str,
        *,
        domain: str = "",
        outputs: int = 1,
        **attributes: Any,
    ) -> str:
        """Add a node and return the name of its first output.

        Args:
            op_type: The operator.
            inputs: The names of its inputs.
            hint: The name of the output; a number is appended if it is taken.
            domain: The operator's domain; "" for standard operators.
            outputs: The number of outputs.
            **attributes: The node's attributes.
        """
        names = [self.unused_name(hint)] + [self.unused_name(f"{hint}_{i}") for i in range(1, outputs)]
        node = helper.make_node(
            op_type, inputs, names, name=self.unused_name(f"{hint}_node"), domain=domain, **attributes
        )
        self.graph.node.append(node)
        self._index(self.graph.node[-1])
        return names[0]

    def set_input(self, node: onnx.NodeProto, index: int, name: str) -> None:
        """Make one input of a node read another tensor."""
        old = node.input[index]
        node.input[index] = name
        if old not in node.input:
            self._consumers[old] = [reader for reader in self._consumers[old] if reader is not node]
        if all(reader is not node for reader in self._consumers[name]):
            self._consumers[name].append(node)

    def redirect_consumers(self, old: str, new: str, *, only: Iterable[onnx.NodeProto] | None = None) -> None:
        """Make every consumer of `old` (or only some of them) read `new`."""
        for node in self.consumers(old) if only is None else list(only):
            for index, name in enumerate(node.input):
                if name == old and new not in node.output:
                    self.set_input(node, index, new)

    def replace_tensor(self, old: str, new: str) -> None:
        """Replace `old` by `new` and keep the name `old`, which may be an output of the graph."""
        former, current = self.producer(old), self.producer(new)
        assert former is not None
        assert current is not None
        former.output[list(former.output).index(old)] = self.unused_name(f"{old}_before")
        current.output[list(current.output).index(new)] = old
        for node in self.consumers(new):
            for index, name in enumerate(node.input):
                if name == new:
                    node.input[index] = old
        self._reindex()

    def finish(self) -> onnx.ModelProto:
        """Remove what no output needs, sort the nodes topologically, and return the model."""
        kept = self._needed_in_order()
        used = {name for node in kept for name in input_names(node)} | set(self.output_names)
        copies = [_copy(node) for node in kept]
        del self.graph.node[:]
        self.graph.node.extend(copies)
        tensors = [tensor for tensor in self.graph.initializer if tensor.name in used]
        if len(tensors) < len(self.graph.initializer):
            tensors = [_copy(tensor) for tensor in tensors]
            del self.graph.initializer[:]
            self.graph.initializer.extend(tensors)
        del self.graph.value_info[:]
        self._drop_unused_inputs(used)
        _declare_domains(self.proto)
        return self.proto

    def _needed_in_order(self) -> list[onnx.NodeProto]:
        """Return the nodes that the outputs depend on, each after the nodes that it reads."""
        ordered: list[onnx.NodeProto] = []
        done: set[str] = set()
        stack = [(name, False) for name in reversed(self.output_names)]
        while stack:
            name, expanded = stack.pop()
            node = self.producer(name)
            if node is None or node.output[0] in done:
                continue
            if expanded:
                done.add(node.output[0])
                ordered.append(node)
            else:
                stack.append((name, True))
                stack.extend((source, False) for source in input_names(node))
        return ordered

    def _drop_unused_inputs(self, used: set[str]) -> None:
        kept = [_copy(value) for value in self.graph.input if value.name in used]
        del self.graph.input[:]
        self.graph.input.extend(kept)


def input_names(node: onnx.NodeProto) -> list[str]:
    """Return all tensors that a node reads, including those read by the branches of an `If` or the body of a `Loop`."""
    names = list(node.input)
    for item in node.attribute:
        for graph in (item.g, *item.graphs):
            names += [name for inner in graph.node for name in input_names(inner)]
            names += [output.name for output in graph.output]
    return names


def get_attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute.

    >>> get_attribute(helper.make_node("Gather", ["x", "i"], ["y"], axis=1), "axis", 0)
    1
    """
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def copy_model(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that can be edited without changing the original."""
    return _copy(proto)


def _copy(message: Proto) -> Proto:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _declare_domains(proto: onnx.ModelProto) -> None:
    """Declare only the operator domains that nodes use: standard runtimes refuse models with unknown domains."""
    used = {node.domain for node in proto.graph.node}
    kept = [_copy(entry) for entry in proto.opset_import if entry.domain in ("", *used)]
    for domain in sorted(used & VERSIONS.keys() - {entry.domain for entry in kept}):
        kept.append(helper.make_opsetid(domain, VERSIONS[domain]))
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
