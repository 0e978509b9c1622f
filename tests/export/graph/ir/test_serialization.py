"""Models too large for one graph: external weights, listed and hashed. Tested with a low limit."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.helpers import toy
from tests.helpers.architectures import LONGEST, make_classifier
from tests.helpers.graphs import ENGINES, random_ids

from manylabel import Bundle, Classifier
from manylabel.errors import BundleError, ExportError
from manylabel.inference.ort_session import Session
from manylabel_export.graph import build
from manylabel_export.graph.ir.external_data import (
    WeightStore,
    embed_tensor,
    embed_weights,
    external_tensors,
    read_model,
)
from manylabel_export.graph.ir.serialization import weight_bytes, weights_as_inputs, write_model
from manylabel_export.pipeline import export

LIMIT = 5_000
LEAST = 1024  # bytes; as many as the layers of the tiny models have
TEXTS = [text for text, _ in toy.examples(20, seed=9)]


@pytest.fixture(scope="module")
def large(elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with external weights; read-only."""
    output = tmp_path_factory.mktemp("large") / "bundle"
    validation = toy.dataset(180).part("train")
    return export(elsewhere, output, validation=validation, precisions=["fp32", "int8"], limit=LIMIT).path


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "modernbert"])
@pytest.mark.parametrize("engine", ENGINES)
def test_graphs_do_not_depend_on_weight_storage(architecture: str, engine: str, tmp_path: Path) -> None:
    batches = [random_ids(2, LONGEST // 2)]
    whole = build.build_graphs(make_classifier(architecture), engine=engine, batches=batches)
    light = build.build_graphs(
        make_classifier(architecture), engine=engine, batches=batches, store=WeightStore(tmp_path, min_bytes=LEAST)
    )
    for precision, graph in light.items():
        assert graph.fusions == whole[precision].fusions
        assert content_of(graph.proto) == content_of(whole[precision].proto)
    assert external_tensors(light["fp32"].proto)


@pytest.mark.parametrize("precision", build.PRECISIONS)
def test_streamed_file_equals_full_serialization(precision: str, tmp_path: Path) -> None:
    proto = build.build_graphs(
        make_classifier("bert"), precisions=[precision], store=WeightStore(tmp_path, min_bytes=LEAST)
    )[precision].proto
    assert not write_model(proto, tmp_path / "model.onnx", weights_name="none")
    assert (tmp_path / "model.onnx").read_bytes() == embed_weights(proto).SerializeToString()
    assert not (tmp_path / "none").exists()


def content_of(proto: onnx.ModelProto) -> tuple[list[bytes], dict[str, bytes]]:
    """Return a graph's nodes in order, and its weights by name."""
    weights = {tensor.name: embed_tensor(tensor).SerializeToString() for tensor in proto.graph.initializer}
    return [node.SerializeToString() for node in proto.graph.node], weights


def test_external_weights_are_listed_hashed_and_read(large: Path, elsewhere: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(large)
    bundle.verify()
    assert bundle.weights_of(bundle.variants["fp32"]) == ("model.onnx_data",)
    assert bundle.manifest.files["model.onnx_data"].bytes > bundle.manifest.files["model.onnx"].bytes
    whole = export(elsewhere, tmp_path / "b", validation=toy.dataset(180).part("train"), precisions=["fp32", "int8"])
    for precision in ("fp32", "int8"):
        ours, theirs = (Classifier.load(path, device="cpu", precision=precision) for path in (large, whole.path))  # type: ignore[arg-type]
        np.testing.assert_array_equal(ours.predict_proba(TEXTS), theirs.predict_proba(TEXTS))


def test_onnx_runtime_finds_external_weights_by_path(large: Path) -> None:
    session = onnxruntime.InferenceSession(large / "model.onnx", providers=["CPUExecutionProvider"])
    ids = np.array([[2, 5, 3]])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    probabilities = session.run(["probabilities"], {each.name: feeds[each.name] for each in session.get_inputs()})[0]
    bundle = Bundle.open(large)
    weights = {"model.onnx_data": bundle.read("model.onnx_data")}
    np.testing.assert_array_equal(
        probabilities, Session(bundle.read("model.onnx"), device="cpu", weights=weights).run(ids)
    )


def test_changed_or_missing_external_weights_are_rejected(own_bundle: Path, large: Path) -> None:
    for path in own_bundle.iterdir():
        path.unlink()
    for path in large.iterdir():
        (own_bundle / path.name).write_bytes(path.read_bytes())
    changed = own_bundle / "model.onnx_data"
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    with pytest.raises(BundleError, match=r"model.onnx_data was changed after the bundle was made"):
        Classifier.load(own_bundle, device="cpu", precision="fp32")
    Classifier.load(own_bundle, device="cpu", precision="int8")  # int8 does not read this file
    changed.unlink()
    with pytest.raises(BundleError, match=r"lacks model.onnx_data"):
        Classifier.load(own_bundle, device="cpu")


@pytest.mark.parametrize("location", ["model.onnx_data", "../model.onnx_data", "absolute", "sub/model.onnx_data"])
def test_graph_with_unlisted_external_file_opens_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """Even if the file exists in the working directory, or is a pipe without a writer."""
    (tmp_path / "sub" / "sub").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "sub", tmp_path / "sub" / "sub"):
        os.mkfifo(folder / "model.onnx_data")
    monkeypatch.chdir(tmp_path / "sub")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    name = str(tmp_path / "model.onnx_data") if location == "absolute" else location
    tensor.external_data.add(key="location", value=name)
    tensor.external_data.add(key="length", value="16")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("input_ids", "probabilities")]
    nodes = [helper.make_node("Add", ["input_ids", "w"], ["probabilities"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], [tensor]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    for weights in ({}, {"other": b"0" * 16}):
        with pytest.raises(BundleError, match="not found from the table"):
            Session(model.SerializeToString(), device="cpu", weights=weights)


def test_fp16_beyond_2_gib_error_has_alternatives(elsewhere: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"fp32 weights, but fp16 can be made of 5,000 at most.*--precision int8"):
        export(elsewhere, tmp_path / "bundle", limit=LIMIT)
    with pytest.raises(ExportError, match=r"one file holds 5,000 at most. Choose --precision int8"):
        export(elsewhere, tmp_path / "bundle", precisions=["fp32"], single_file=True, limit=LIMIT)
    assert list(tmp_path.iterdir()) == []


def test_weights_are_restored_after_a_failure(tmp_path: Path) -> None:
    proto = build.build_graphs(
        make_classifier("bert"), precisions=["fp32"], store=WeightStore(tmp_path, min_bytes=LEAST)
    )["fp32"].proto
    before = onnx.ModelProto()
    before.CopyFrom(proto)
    with pytest.raises(ZeroDivisionError), weights_as_inputs(proto):
        print(1 / (weight_bytes(proto) // weight_bytes(before)))  # division by zero, as most weights are inputs now
    assert sorted(map(str, proto.graph.initializer)) == sorted(map(str, before.graph.initializer))
    assert proto.graph.input == before.graph.input


def test_constant_nodes_read_external_data(tmp_path: Path) -> None:
    """As PyTorch writes them for a model of more than 2 GiB: each in its own file."""
    constant = helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32([2]), "two"))
    product = helper.make_node("Mul", ["x", "two"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    proto = helper.make_model(helper.make_graph([constant, product], "doubled", [x], [y]))
    proto.ir_version = 10
    onnx.save(proto, tmp_path / "model.onnx", save_as_external_data=True, size_threshold=0, convert_attribute=True)
    assert onnx.load_model(tmp_path / "model.onnx", load_external_data=False).graph.node[0].attribute[0].t.external_data
    session = onnxruntime.InferenceSession(read_model(tmp_path / "model.onnx").SerializeToString())
    assert session.run(["y"], {"x": np.float32([21])})[0].tolist() == [42]
