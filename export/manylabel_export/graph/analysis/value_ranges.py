"""What is known of a tensor's values before anything runs: the least and the greatest.

The variants take texts of equal length, so their mask is all ones and their token types are all zeros. From
those two facts interval arithmetic follows a mask's way through a graph, whatever way a version of
transformers builds it, and tells where it has no effect: for every length, not only for lengths that were
tried. What cannot be told is left out of the answer, so that a mask with an effect (a sliding window) stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import onnx

from manylabel_export.graph.ir.editor import Editor, attribute


@dataclass(frozen=True)
class Interval:
    """All elements of a tensor lie within `[low, high]`; booleans count as 0 and 1."""

    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The one value of every element, where there is only one."""
        return self.low if self.low == self.high else None


# Operators that move or repeat elements of their first input without changing them.
RESHAPERS = frozenset({"Unsqueeze", "Squeeze", "Reshape", "Expand", "Transpose", "Flatten", "Tile"})
MOVERS = RESHAPERS | {"Cast", "Identity", "Slice", "Gather", "GatherND", "GatherElements"}
LARGEST_CONSTANT = 2**17  # elements: masks and indices are small, and weights need no interval


def analyse(editor: Editor, given: Mapping[str, Interval]) -> dict[str, Interval]:
    """Follows intervals from the inputs to wherever they can be told.

    Args:
        editor: A graph in topological order.
        given: What is known of the graph's inputs.

    Returns:
        The interval of every tensor for which one is known, by name.
    """
    known = dict(given)
    for node in editor.nodes:
        interval = _of_node(editor, node, known)
        if interval is not None and not (math.isnan(interval.low) or math.isnan(interval.high)):
            known[node.output[0]] = interval
    return known


def _of_node(editor: Editor, node: onnx.NodeProto, known: Mapping[str, Interval]) -> Interval | None:
    if node.op_type == "Shape":
        return Interval(1, math.inf)  # empty batches and empty texts are never run
    inputs = [known.get(name) or _of_constant(editor, name) for name in node.input]
    if node.op_type in MOVERS:
        return inputs[0]
    if node.op_type == "ConstantOfShape":
        fill = attribute(node, "value")
        value = float(onnx.numpy_helper.to_array(fill).reshape(-1)[0]) if fill is not None else 0.0
        return Interval(value, value)
    if any(interval is None for interval in inputs):
        return None
    rule = RULES.get(node.op_type)
    return rule(*[interval for interval in inputs if interval is not None]) if rule else None


def _of_constant(editor: Editor, name: str) -> Interval | None:
    value = editor.constant(name)
    if value is None or not 0 < value.size <= LARGEST_CONSTANT or value.dtype.kind not in "biuf":
        return None
    return Interval(float(value.min()), float(value.max()))


def _hull(*intervals: Interval) -> Interval:
    return Interval(min(i.low for i in intervals), max(i.high for i in intervals))


def _corners(operation: Callable[[float, float], float]) -> Callable[[Interval, Interval], Interval]:
    """An operation that is monotone in each argument takes its extremes at the corners."""

    def rule(a: Interval, b: Interval) -> Interval:
        values = [operation(x, y) for x, y in product((a.low, a.high), (b.low, b.high))]
        return Interval(math.nan, math.nan) if any(map(math.isnan, values)) else Interval(min(values), max(values))

    return rule


def _decided(true: bool, false: bool) -> Interval:
    return Interval(float(true), float(not false))


def _where(condition: Interval, a: Interval, b: Interval) -> Interval:
    return _hull(a, b) if condition.value is None else a if condition.value else b


def _absolute(a: Interval) -> Interval:
    low = 0.0 if a.low <= 0 <= a.high else min(abs(a.low), abs(a.high))
    return Interval(low, max(abs(a.low), abs(a.high)))


RULES: dict[str, Callable[..., Interval]] = {
    "Add": _corners(lambda x, y: x + y),
    "Sub": _corners(lambda x, y: x - y),
    "Mul": _corners(lambda x, y: x * y),
    "Neg": lambda a: Interval(-a.high, -a.low),
    "Abs": _absolute,
    "Not": lambda a: Interval(1 - a.high, 1 - a.low),
    "And": lambda a, b: Interval(min(a.low, b.low), min(a.high, b.high)),
    "Or": lambda a, b: Interval(max(a.low, b.low), max(a.high, b.high)),
    "Equal": lambda a, b: _decided(a.value is not None and a == b, a.high < b.low or b.high < a.low),
    "Greater": lambda a, b: _decided(a.low > b.high, a.high <= b.low),
    "GreaterOrEqual": lambda a, b: _decided(a.low >= b.high, a.high < b.low),
    "Less": lambda a, b: _decided(a.high < b.low, a.low >= b.high),
    "LessOrEqual": lambda a, b: _decided(a.high <= b.low, a.low > b.high),
    "Where": _where,
    "Range": lambda start, limit, step: _hull(start, limit),
    "Concat": _hull,
    "Min": lambda *a: Interval(min(i.low for i in a), min(i.high for i in a)),
    "Max": lambda *a: Interval(max(i.low for i in a), max(i.high for i in a)),
    "ReduceMax": lambda a, *axes: a,
    "ReduceMin": lambda a, *axes: a,
}
