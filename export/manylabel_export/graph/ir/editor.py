"""One ONNX graph with its edges indexed: the tool that every pass of this package edits through."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from manylabel_export.graph.ir.external_data import Store, value_of

Message = TypeVar(
    "Message", onnx.ModelProto, onnx.NodeProto, onnx.TensorProto, onnx.ValueInfoProto, onnx.OperatorSetIdProto
)
CONTRIB = "com.microsoft"  # the domain of ONNX Runtime's own operators
ML = "ai.onnx.ml"  # of ONNX' operators for tables
VERSIONS = {CONTRIB: 1, ML: 3}


class Editor:
    """Reads and rewires the top-level graph of a model.

    Passes add nodes and redirect readers; nodes that nobody reads any more vanish in `finish`, which
    also restores the topological order. So no pass has to delete anything or mind where it inserts.

    Args:
        proto: The model to edit, in place. Pass a copy to keep the original.
        store: Where large constants go that are added; None for into the model.
    """

    def __init__(self, proto: onnx.ModelProto, store: Store | None = None) -> None:
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
        for name in dict.fromkeys(inputs_of(node)):
            self._consumers[name].append(node)

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes as they stand, safe to iterate over while editing."""
        return list(self.graph.node)

    @property
    def outputs(self) -> list[str]:
        """Names of the graph's outputs."""
        return [value.name for value in self.graph.output]

    def has_input(self, name: str) -> bool:
        """Whether the graph is fed a tensor of this name."""
        return any(value.name == name for value in self.graph.input)

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that computes a tensor; None for inputs and initializers."""
        return self._producer.get(name)

    def consumers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor."""
        return list(self._consumers.get(name, ()))

    def sole_consumer(self, name: str) -> onnx.NodeProto | None:
        """The only reader of a tensor's values; None where there are none, several, or it is an output.

        Readers of its shape do not count: a pass that replaces the values keeps the shape.
        """
        readers = [node for node in self.consumers(name) if node.op_type != "Shape"]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of an initializer or `Constant` node, otherwise None."""
        if name not in self._constants:
            tensor = self._initializers.get(name)
            node = self.producer(name)
            if tensor is None and node is not None and node.op_type == "Constant":
                tensor = attribute(node, "value")
            if tensor is None:
                return None
            self._constants[name] = value_of(tensor)
        return self._constants[name]

    def scalar(self, name: str) -> float | None:
        """The value of a constant with a single element, otherwise None."""
        value = self.constant(name)
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def unused(self, hint: str) -> str:
        """A name that nothing in the graph bears yet."""
        name, count = hint, 0
        while name in self._names:
            count += 1
            name = f"{hint}_{count}"
        self._names.add(name)
        return name

    def add_constant(self, value: NDArray[Any] | np.generic, hint: str) -> str:
        """Adds an initializer and returns its name; equal values share one, as ALBERT's layers share weights."""
        array = np.asarray(value, order="C")
        key = (array.dtype.str, array.shape, hashlib.blake2b(array.reshape(-1).view(np.uint8).data).digest())
        if key not in self._added:
            name = self._added[key] = self.unused(hint)
            strings = array.dtype.kind == "U"
            values = array.astype(object) if strings else array
            kept = self.store.keep(values, name) if self.store else numpy_helper.from_array(values, name)
            self.graph.initializer.append(kept)
            self._initializers[name] = self.graph.initializer[-1]
        return self._added[key]

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        hint: str,
        *,
        domain: str = "",
        outputs: int = 1,
        **attributes: Any,
    ) -> str:
        """Adds a node and returns the name of its first output."""
        names = [self.unused(hint)] + [self.unused(f"{hint}_{i}") for i in range(1, outputs)]
        node = helper.make_node(op, inputs, names, name=self.unused(f"{hint}_node"), domain=domain, **attributes)
        self.graph.node.append(node)
        self._index(self.graph.node[-1])
        return names[0]

    def set_input(self, node: onnx.NodeProto, index: int, name: str) -> None:
        """Makes one input of a node read another tensor."""
        old = node.input[index]
        node.input[index] = name
        if old not in node.input:
            self._consumers[old] = [reader for reader in self._consumers[old] if reader is not node]
        if all(reader is not node for reader in self._consumers[name]):
            self._consumers[name].append(node)

    def redirect(self, old: str, new: str, *, only: Iterable[onnx.NodeProto] | None = None) -> None:
        """Makes every reader of `old` (or only some of them) read `new`."""
        for node in self.consumers(old) if only is None else list(only):
            for index, name in enumerate(node.input):
                if name == old and new not in node.output:
                    self.set_input(node, index, new)

    def supersede(self, old: str, new: str) -> None:
        """Computes `old`, under its name, as `new` is computed: also where `old` is an output of the graph."""
        former, current = self.producer(old), self.producer(new)
        assert former is not None
        assert current is not None
        former.output[list(former.output).index(old)] = self.unused(f"{old}_before")
        current.output[list(current.output).index(new)] = old
        for node in self.consumers(new):
            for index, name in enumerate(node.input):
                if name == new:
                    node.input[index] = old
        self._reindex()

    def finish(self) -> onnx.ModelProto:
        """Drops what no output needs, sorts the rest, and returns the model."""
        kept = self._needed_in_order()
        used = {name for node in kept for name in inputs_of(node)} | set(self.outputs)
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
        ordered: list[onnx.NodeProto] = []
        done: set[str] = set()
        stack = [(name, False) for name in reversed(self.outputs)]
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
                stack.extend((source, False) for source in inputs_of(node))
        return ordered

    def _drop_unused_inputs(self, used: set[str]) -> None:
        kept = [_copy(value) for value in self.graph.input if value.name in used]
        del self.graph.input[:]
        self.graph.input.extend(kept)


def inputs_of(node: onnx.NodeProto) -> list[str]:
    """All tensors that a node reads, also from inside the branches of an `If` or the body of a `Loop`."""
    names = list(node.input)
    for item in node.attribute:
        for graph in (item.g, *item.graphs):
            names += [name for inner in graph.node for name in inputs_of(inner)]
            names += [output.name for output in graph.output]
    return names


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute of a node."""
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def clone(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that can be edited without touching the original."""
    return _copy(proto)


def _copy(message: Message) -> Message:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _declare_domains(proto: onnx.ModelProto) -> None:
    """Declares a domain beside ONNX' own just where a node uses it: standard readers refuse what they do not know."""
    used = {node.domain for node in proto.graph.node}
    kept = [_copy(entry) for entry in proto.opset_import if entry.domain in ("", *used)]
    for domain in sorted(used & VERSIONS.keys() - {entry.domain for entry in kept}):
        kept.append(helper.make_opsetid(domain, VERSIONS[domain]))
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
