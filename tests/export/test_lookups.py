"""Large tables are stored in half precision, and what is looked up in them is what it was, to its rounding."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from manylabel_export.graph.lookups import SMALLEST, halve_lookups

IDS = np.array([[0, 499, 7]])
WIDTH = SMALLEST // 500


def lookup(table: NDArray[np.float32]) -> onnx.ModelProto:
    """A graph that gives a table's rows."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["rows"])],
        "lookup",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", "sequence", table.shape[1]])],
        [numpy_helper.from_array(table, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def rows(proto: onnx.ModelProto) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["rows"], {"input_ids": IDS})[0])


def table(width: int = WIDTH) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.05, (500, width)).astype(np.float32)


def test_rows_of_a_large_table_are_the_same_to_half_precision_in_half_the_bytes() -> None:
    proto = lookup(table())
    halved = halve_lookups(proto)
    assert halved.ByteSize() < 0.51 * proto.ByteSize()
    np.testing.assert_array_equal(rows(halved), table()[IDS].astype(np.float16).astype(np.float32))
    assert rows(halved).dtype == np.float32


@pytest.mark.parametrize("kept", [table(WIDTH - 1), table() * np.float32(1e7)], ids=["small", "beyond fp16"])
def test_other_tables_stay(kept: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(rows(halve_lookups(lookup(kept))), kept[IDS])


def test_a_table_that_something_else_reads_stays_whole() -> None:
    proto = lookup(table())
    proto.graph.node.append(helper.make_node("ReduceMax", ["table"], ["greatest"], keepdims=0))
    proto.graph.output.append(helper.make_tensor_value_info("greatest", TensorProto.FLOAT, []))
    np.testing.assert_array_equal(rows(halve_lookups(proto)), table()[IDS])


def test_the_graph_that_was_given_is_not_changed() -> None:
    proto = lookup(table())
    before = proto.SerializeToString()
    halve_lookups(proto)
    assert proto.SerializeToString() == before
