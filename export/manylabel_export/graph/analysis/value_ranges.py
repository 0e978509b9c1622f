"""Value ranges: bounds of a tensor's elements, found by interval arithmetic before the graph runs.

Graph variants take texts of equal length, so the attention mask is all ones and the token types are all zeros. From
these two facts interval arithmetic follows the mask through the graph, however a version of transformers builds it,
and finds where it has no effect: for every length, not only for those that were tested. Tensors whose range cannot be
inferred are left out, so a mask with an effect (a sliding window) stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import onnx

from manylabel_export.graph.ir.editor import GraphEditor, get_attribute


@dataclass(frozen=True)
class ValueRange:
    """Bounds of all elements of a tensor; booleans count as 0 and 1.

    >>> ValueRange(0, 0).value, ValueRange(0, 1).value
    (0, None)
    """

    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The value of every element, if all are equal."""
        return self.low if self.low == self.high else None


# Operators that move or repeat the elements of their first input without changing them.
RESHAPERS = frozenset({"Unsqueeze", "Squeeze", "Reshape", "Expand", "Transpose", "Flatten", "Tile"})
MOVERS = RESHAPERS | {"Cast", "Identity", "Slice", "Gather", "GatherND", "GatherElements"}
LARGEST_CONSTANT = 2**17  # elements: masks and indices are small, and weights need no range


def infer_value_ranges(editor: GraphEditor, inputs: Mapping[str, ValueRange]) -> dict[str, ValueRange]:
    """Propagate value ranges from the graph's inputs through its nodes.

    Args:
        editor: A graph in topological order.
        inputs: The ranges of the graph's inputs, as far as known.

    Returns:
        The range of every tensor for which one could be inferred, by name.

    Example:
        >>> header = '<ir_version: 8, opset_import: ["": 17]>'
        >>> body = "g (int64[n] mask) => (bool[n] is_padding) {is_padding = Not(mask)}"
        >>> proto = onnx.parser.parse_model(header + body)
        >>> infer_value_ranges(GraphEditor(proto), {"mask": ValueRange(1, 1)})["is_padding"].value
        0
    """
    known = dict(inputs)
    for node in editor.nodes:
        bounds = _node_range(editor, node, known)
        if bounds is not None and not (math.isnan(bounds.low) or math.isnan(bounds.high)):
            known[node.output[0]] = bounds
    return known


def _node_range(editor: GraphEditor, node: onnx.NodeProto, known: Mapping[str, ValueRange]) -> ValueRange | None:
    if node.op_type == "Shape":
        return ValueRange(1, math.inf)  # neither batches nor texts are ever empty
    inputs = [known.get(name) or _constant_range(editor, name) for name in node.input]
    if node.op_type in MOVERS:
        return inputs[0]
    if node.op_type == "ConstantOfShape":
        fill = get_attribute(node, "value")
        value = float(onnx.numpy_helper.to_array(fill).reshape(-1)[0]) if fill is not None else 0.0
        return ValueRange(value, value)
    if any(bounds is None for bounds in inputs):
        return None
    rule = RULES.get(node.op_type)
    return rule(*[bounds for bounds in inputs if bounds is not None]) if rule else None


def _constant_range(editor: GraphEditor, name: str) -> ValueRange | None:
    value = editor.constant(name)
    if value is None or not 0 < value.size <= LARGEST_CONSTANT or value.dtype.kind not in "biuf":
        return None
    return ValueRange(float(value.min()), float(value.max()))


def _hull(*ranges: ValueRange) -> ValueRange:
    return ValueRange(min(each.low for each in ranges), max(each.high for each in ranges))


def _corners(operation: Callable[[float, float], float]) -> Callable[[ValueRange, ValueRange], ValueRange]:
    """Return the rule for an operation that is monotone in each argument: its extremes lie at the corners."""

    def rule(a: ValueRange, b: ValueRange) -> ValueRange:
        values = [operation(x, y) for x, y in product((a.low, a.high), (b.low, b.high))]
        return ValueRange(math.nan, math.nan) if any(map(math.isnan, values)) else ValueRange(min(values), max(values))

    return rule


def _comparison(true: bool, false: bool) -> ValueRange:
    return ValueRange(float(true), float(not false))


def _where(condition: ValueRange, a: ValueRange, b: ValueRange) -> ValueRange:
    return _hull(a, b) if condition.value is None else a if condition.value else b


def _absolute(a: ValueRange) -> ValueRange:
    low = 0.0 if a.low <= 0 <= a.high else min(abs(a.low), abs(a.high))
    return ValueRange(low, max(abs(a.low), abs(a.high)))


RULES: dict[str, Callable[..., ValueRange]] = {
    "Add": _corners(lambda x, y: x + y),
    "Sub": _corners(lambda x, y: x - y),
    "Mul": _corners(lambda x, y: x * y),
    "Neg": lambda a: ValueRange(-a.high, -a.low),
    "Abs": _absolute,
    "Not": lambda a: ValueRange(1 - a.high, 1 - a.low),
    "And": lambda a, b: ValueRange(min(a.low, b.low), min(a.high, b.high)),
    "Or": lambda a, b: ValueRange(max(a.low, b.low), max(a.high, b.high)),
    "Equal": lambda a, b: _comparison(a.value is not None and a == b, a.high < b.low or b.high < a.low),
    "Greater": lambda a, b: _comparison(a.low > b.high, a.high <= b.low),
    "GreaterOrEqual": lambda a, b: _comparison(a.low >= b.high, a.high < b.low),
    "Less": lambda a, b: _comparison(a.high < b.low, a.low >= b.high),
    "LessOrEqual": lambda a, b: _comparison(a.high <= b.low, a.low > b.high),
    "Where": _where,
    "Range": lambda start, limit, step: _hull(start, limit),
    "Concat": _hull,
    "Min": lambda *a: ValueRange(min(i.low for i in a), min(i.high for i in a)),
    "Max": lambda *a: ValueRange(max(i.low for i in a), max(i.high for i in a)),
    "ReduceMax": lambda a, *axes: a,
    "ReduceMin": lambda a, *axes: a,
}
