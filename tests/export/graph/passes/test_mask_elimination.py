"""Mask elimination removes what texts of equal length do not need, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.helpers.graphs import (
    ARCHITECTURES,
    SHAPES,
    canonical_graph,
    each_architecture,
    open_session,
    predict_with_graph,
    random_ids,
)

from manylabel_export.graph.analysis.value_ranges import ValueRange, infer_value_ranges
from manylabel_export.graph.ir.editor import GraphEditor
from manylabel_export.graph.passes.mask_elimination import eliminate_mask


@each_architecture
def test_mask_is_eliminated_without_padding(architecture: str) -> None:
    proto = eliminate_mask(canonical_graph(architecture))
    assert [value.name for value in proto.graph.input] == ["input_ids"]
    sessions = [open_session(proto), open_session(canonical_graph(architecture))]
    for shape in SHAPES:
        ids = random_ids(*shape)
        np.testing.assert_allclose(*[predict_with_graph(session, ids) for session in sessions], atol=1e-6)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "modernbert"])
def test_no_mask_node_remains(architecture: str) -> None:
    filled = [
        node
        for node in eliminate_mask(canonical_graph(architecture)).graph.node
        if "attention_mask_of_ids" in node.output
    ]
    assert not filled


def test_value_ranges_keep_sliding_window_masks() -> None:
    window = numpy_helper.from_array(np.array(4, np.int64), "window")
    zero, one, lowest = (
        numpy_helper.from_array(np.array(value, kind), name)
        for name, value, kind in (("zero", 0, np.int64), ("one", 1, np.int64), ("lowest", -3e38, np.float32))
    )
    nodes = [
        helper.make_node("Range", ["zero", "length", "one"], ["positions"]),
        helper.make_node("LessOrEqual", ["positions", "window"], ["inside"]),
        helper.make_node("GreaterOrEqual", ["positions", "zero"], ["anywhere"]),
        helper.make_node("Cast", ["mask"], ["mask_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["mask_float", "lowest"], ["added"]),
    ]
    proto = helper.make_model(helper.make_graph(nodes, "g", [], [], [window, zero, one, lowest]))
    known = infer_value_ranges(GraphEditor(proto), {"length": ValueRange(1, np.inf), "mask": ValueRange(0, 0)})
    assert known["inside"].value is None
    assert known["anywhere"].value == 1
    assert known["added"].value == 0
