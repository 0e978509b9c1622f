"""The model repository for Triton. Its configurations are parsed with Triton's own definition, its Python backend runs
with a stub of the module that Triton provides, its graph with onnxruntime; no Triton server runs."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from manylabel import Bundle, Classifier
from manylabel.cli.main import main

CLEAR = ("late", "the parcel was late", "zu spät, 💥", "", "courier invoice money")
LONG = "not good " * 40

Write = Callable[..., Path]


@pytest.fixture
def write(bundle: Path, tmp_path: Path) -> Write:
    """Write the tiny bundle's repository under the name `tiny`."""

    def run(*options: object) -> Path:
        output = tmp_path / "models"
        arguments = ["triton", bundle, "-o", output, "--name", "tiny", "--force", "--long-text", "error", *options]
        done = CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return output

    return run


def config(folder: Path) -> Any:
    """Parse a configuration as Triton does: an unknown field or a value of the wrong type is an error."""
    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), pb2.ModelConfig())


# The stub: `triton_python_backend_utils` as the Python backend's documentation describes it.


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        assert array.dtype in (np.int64, np.bool_, np.object_)
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._array


class Request:
    def __init__(self, texts: list[bytes]) -> None:
        self._inputs = [Tensor("text", np.array(texts, dtype=np.object_).reshape(-1, 1))]

    def inputs(self) -> list[Tensor]:
        return self._inputs


class TritonError(Exception):
    def message(self) -> str:
        return str(self)


class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor], error: TritonError | None = None) -> None:
        self._tensors, self._error = output_tensors, error

    def output_tensors(self) -> dict[str, Any]:
        return {tensor.name(): tensor.as_numpy() for tensor in self._tensors}

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> Any:
        return self._error


def get_input_tensor_by_name(request: Request, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """Load a repository's Python backend as Triton does."""
    stub = ModuleType("triton_python_backend_utils")
    for each in (Tensor, TritonError, InferenceResponse, get_input_tensor_by_name):
        setattr(stub, each.__name__, each)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stub)

    def load(models: Path) -> Any:
        from google.protobuf import json_format

        folder = models / "tiny_tokenizer"
        spec = importlib.util.spec_from_file_location("model", folder / "1" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.TritonPythonModel()
        settings = json_format.MessageToJson(config(folder), preserving_proto_field_name=True)
        model.initialize({"model_repository": str(folder), "model_version": "1", "model_config": settings})
        return model

    return load


def answers(models: Path, model: Any, *requests: list[bytes]) -> list[Any]:
    """Return the ensemble's output for each request: the backend's tensors through the graph."""
    import onnxruntime

    session = onnxruntime.InferenceSession(models / "tiny_graph" / "1" / "model.onnx")
    names = [each.name for each in config(models / "tiny_graph").input]
    responses = model.execute([Request(texts) for texts in requests])
    return [
        response.error().message()
        if response.has_error()
        else session.run(["probabilities"], {name: response.output_tensors()[name] for name in names})[0]
        for response in responses
    ]


def test_triton_models_and_graph_fit_together(write: Write, bundle: Path) -> None:
    import onnxruntime

    models = write()
    assert sorted(path.name for path in models.iterdir()) == ["tiny", "tiny_graph", "tiny_tokenizer"]
    ensemble, graph, tokenizer = (config(models / name) for name in ("tiny", "tiny_graph", "tiny_tokenizer"))
    assert [each.name for each in (ensemble, graph, tokenizer)] == ["tiny", "tiny_graph", "tiny_tokenizer"]
    session = onnxruntime.InferenceSession(models / "tiny_graph" / "1" / "model.onnx")
    assert {each.name for each in graph.input} == {each.name for each in session.get_inputs()}
    assert {each.name for each in graph.output} <= {each.name for each in session.get_outputs()}
    assert (models / "tiny_graph" / "1" / "model.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()
    assert (models / "tiny" / "1").is_dir()
    kinds = {each.name: (each.data_type, list(each.dims)) for each in (*tokenizer.output, *graph.output)}
    known = set()
    for step, stage in zip(ensemble.ensemble_scheduling.step, (tokenizer, graph), strict=True):
        assert step.model_name == stage.name
        assert set(step.input_map) == {each.name for each in stage.input}
        assert set(step.output_map) == {each.name for each in stage.output}
        assert set(step.input_map.values()) <= known | {each.name for each in ensemble.input}
        known |= set(step.output_map.values())
    assert {each.name for each in graph.input} <= known
    for each in ensemble.output:
        assert kinds[each.name] == (each.data_type, list(each.dims))
    labels = (models / "tiny" / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == list(Bundle.open(bundle).labels)


def test_triton_batch_and_queue_options(write: Write, bundle: Path) -> None:
    options = ("--max-batch-size", 8, "--max-queue-size", 9, "--queue-delay", 10, "--timeout", 11, "--device", "cuda")
    models = write(*options)
    for name in ("tiny_tokenizer", "tiny_graph"):
        found = config(models / name)
        policy = found.dynamic_batching.default_queue_policy
        assert found.max_batch_size == 8
        assert found.dynamic_batching.max_queue_delay_microseconds == 10
        assert (policy.max_queue_size, policy.default_timeout_microseconds) == (9, 11)
        assert policy.TimeoutAction.Name(policy.timeout_action) == "REJECT"
    kinds = [config(models / name).instance_group[0] for name in ("tiny_tokenizer", "tiny_graph")]
    assert [each.Kind.Name(each.kind) for each in kinds] == ["KIND_CPU", "KIND_GPU"]
    thresholds = json.loads(config(models / "tiny").parameters["thresholds"].string_value)
    opened = Bundle.open(bundle)
    assert thresholds == dict(zip(opened.labels, opened.variants["fp32"].thresholds, strict=True))


def test_single_text_is_bit_identical_to_fp32(write: Write, start: Any, bundle: Path) -> None:
    models = write("--pad-to", 1)
    found = answers(models, start(models), *([text.encode()] for text in CLEAR))
    expected = Classifier.load(bundle, device="cpu", precision="fp32").predict_proba(CLEAR)
    assert [row.tolist() for (row,) in found] == expected.tolist()


@pytest.mark.parametrize("pad_to", [1, 16])
def test_padded_texts_differ_by_rounding_only(write: Write, start: Any, bundle: Path, pad_to: int) -> None:
    models = write("--pad-to", pad_to)
    (found,) = answers(models, start(models), [text.encode() for text in CLEAR])
    expected = Classifier.load(bundle, device="cpu", precision="fp32").predict_proba(CLEAR)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_lengths_are_rounded_up_to_share_batches(write: Write, start: Any) -> None:
    models = write("--pad-to", 16)
    responses = start(models).execute([Request([b"late"]), Request([b"the parcel was late and dear"]), Request([])])
    shapes = [each.output_tensors()["input_ids"].shape for each in responses]
    assert shapes == [(1, 16), (1, 16), (0, 0)]
    tensors = responses[0].output_tensors()
    assert tensors["attention_mask"].tolist() == [[1] * 3 + [0] * 13]
    assert (tensors["n_tokens"].tolist(), tensors["truncated"].tolist()) == ([[3]], [[False]])


def test_bad_text_fails_only_its_own_request(write: Write, start: Any) -> None:
    models = write()
    good, no_utf8, long = answers(models, start(models), [b"late"], [b"late", b"\xff"], [LONG.encode()])
    assert good.shape == (1, 4)
    assert "text 1 is not UTF-8" in no_utf8
    assert "this model reads 32" in long
    cut = write("--long-text", "truncate")
    (response,) = start(cut).execute([Request([LONG.encode()])])
    assert response.output_tensors()["truncated"].tolist() == [[True]]
    assert response.output_tensors()["n_tokens"].tolist() == [[82]]


def test_unsupported_bundle_error(bundle: Path, tmp_path: Path) -> None:
    for options, sentence in (
        ((), "in windows, and a Triton ensemble"),
        (("--long-text", "error", "--name", "a/b"), "'a/b' cannot name a Triton model"),
    ):
        done = CliRunner().invoke(main, ["triton", str(bundle), "-o", str(tmp_path / "models"), *options])
        assert done.exit_code == 2
        assert sentence in done.output
    assert not (tmp_path / "models").exists()


def test_any_label_survives_the_pbtxt_format(bundle: Path) -> None:
    from google.protobuf import text_format

    from manylabel.engines.triton.model_repository import ServingConfig, ensemble_config

    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    labels = ['price "net"', "Lieferung\\spät", "größe\n💥", "'"]
    text = ensemble_config(ServingConfig("x"), ["input_ids"], labels, [0.25] * 4)
    found = text_format.Parse(text, pb2.ModelConfig())
    assert json.loads(found.parameters["thresholds"].string_value) == dict.fromkeys(labels, 0.25)
