"""The doctor's tiny model, which is stored as bytes, is the documented graph."""

from manylabel.doctor.providers import TINY_MODEL


def test_doctor_graph_matches_onnx_serialization() -> None:
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["input_ids"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["a"], ["b"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["probabilities"]),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "s"])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 2], [0.5, -1.0])
    graph = helper.make_graph(nodes, "tiny", [ids], [probabilities], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    assert onnx.load_from_string(TINY_MODEL) == model
