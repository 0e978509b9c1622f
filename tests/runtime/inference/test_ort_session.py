"""A graph runs on the requested device, or an error says why not."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers.cuda import CPU, CUDA, Cuda, onnxruntime, use
from tests.runtime.conftest import Cli, Graph, Python

from manylabel import BundleError, Classifier, DeviceUnavailable, InputError, MissingDependency
from manylabel.bundle.variants import Precision
from manylabel.inference.ort_loader import check_device, load_onnxruntime, resolve_device
from manylabel.inference.ort_session import Session

IDS = np.array([[1, 2, 3], [-4, 0, 1]], dtype=np.int64)
without_cuda = pytest.mark.skipif(
    CUDA in onnxruntime.get_available_providers(), reason="this onnxruntime is built for CUDA"
)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


# Graphs


def test_session_returns_probabilities(graph: Graph) -> None:
    session = Session(graph("Sigmoid"), device="cpu")
    assert (session.num_labels, session.device) == (1, "cpu")
    found = session.run(IDS)
    assert found.dtype == np.float32
    assert found.shape == (2, 1)
    np.testing.assert_allclose(found, sigmoid(IDS.mean(axis=1, keepdims=True)), atol=1e-6)


def test_session_feeds_declared_inputs(graph: Graph) -> None:
    """The mean of the mask is 1; the mean of the token types is 0."""
    for first, expected in (("attention_mask", sigmoid(1)), ("token_type_ids", sigmoid(0))):
        others = {"input_ids", "attention_mask", "token_type_ids"} - {first}
        session = Session(graph("Sigmoid", inputs=[first, *sorted(others)]), device="cpu")
        np.testing.assert_allclose(session.run(IDS), np.full((2, 1), expected), atol=1e-6)


@pytest.mark.parametrize("inputs", [["ids"], ["attention_mask"], ["input_ids", "position_ids"]])
def test_graph_with_unknown_inputs_is_rejected(graph: Graph, inputs: list[str]) -> None:
    with pytest.raises(BundleError, match=rf"the graph has the inputs {', '.join(inputs)}; expected input_ids"):
        Session(graph("Sigmoid", inputs=inputs), device="cpu")


@pytest.mark.parametrize("options", [{"output": "logits"}, {"columns": "any", "mean": "none"}])
def test_graph_without_probabilities_is_rejected(graph: Graph, options: Any) -> None:
    with pytest.raises(BundleError, match=r"expected probabilities of shape \(batch, number of labels\)"):
        Session(graph("Sigmoid", **options), device="cpu")


def test_nan_or_infinity_is_an_error(graph: Graph) -> None:
    session = Session(graph("Sqrt"), device="cpu")
    np.testing.assert_allclose(session.run(IDS[:1]), [[2**0.5]])
    with pytest.raises(BundleError, match=r"of shape \(2, 3\) the model returned NaN or infinity"):
        session.run(IDS)


def test_unexpected_output_shape_is_an_error(graph: Graph) -> None:
    """This graph returns one row for the whole batch."""
    session = Session(graph("Sigmoid", mean="of all"), device="cpu")
    with pytest.raises(BundleError, match=r"returned shape \(1, 1\).* expected \(2, 1\)"):
        session.run(IDS)


def test_graph_failure_is_a_bundle_error(bundle: Path) -> None:
    session = Session((bundle / "model_int8.onnx").read_bytes(), device="cpu", optimized=True)
    with pytest.raises(BundleError, match=r"^the graph failed on a batch of shape \(2, 3\): [^\n]+$"):
        session.run(IDS + 10**6)


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x08"])
def test_invalid_model_bytes_are_rejected(content: bytes) -> None:
    with pytest.raises(BundleError, match=rf"^onnxruntime {onnxruntime.__version__} does not load the graph: [^\n]+$"):
        Session(content, device="cpu")


# Devices on a build for the CPU


@without_cuda
def test_cuda_on_cpu_build_error_has_install_command(bundle: Path, cli: Cli) -> None:
    with pytest.raises(
        DeviceUnavailable, match=r'^CUDA was requested, but .* supports only .*pip install "manylabel\[gpu\]"$'
    ):
        Classifier.load(bundle, device="cuda")
    for command in (["predict", bundle, "late"], ["verify", bundle]):
        done = cli(*command, "--device", "cuda")
        assert done.exit_code == 2
        assert done.stderr.startswith("DeviceUnavailable: CUDA was requested")


@without_cuda
def test_auto_device_is_cpu_without_cuda(bundle: Path) -> None:
    assert resolve_device("auto") == "cpu"
    assert Classifier.load(bundle).device == "cpu"


def test_unknown_device_error() -> None:
    with pytest.raises(DeviceUnavailable, match=r"there is no device 'tpu'\. Choose auto, cpu or cuda"):
        resolve_device("tpu")  # type: ignore[arg-type]


# CUDA, without a GPU


def test_cuda_uses_fp16_variant(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda = use(monkeypatch, Cuda())
    classifier = Classifier.load(bundle, device="cuda", threads=1)
    assert (classifier.device, classifier.precision) == ("cuda", "fp16")
    assert cuda.session_options == {"providers": [CUDA, CPU], "enable_fallback": 0}
    assert cuda.preloaded == 1
    classifier.check_probes()
    message = capsys.readouterr()
    assert message.out == ""  # standard output is for results
    assert "libcublas" in message.err


def test_cuda_failure_raises_instead_of_cpu_fallback(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Cuda(starts=False))
    with pytest.raises(DeviceUnavailable, match=r"supports it, but it did not start: no NVIDIA GPU.*nvidia-smi"):
        Classifier.load(bundle, device="cuda")


@pytest.mark.parametrize("when", ["load", "run"])
def test_cuda_failure_is_not_a_bundle_error(bundle: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    use(monkeypatch, Cuda(failure=(when, "CUDA failure 100: no CUDA-capable device is detected\n  at cuda_call.cc")))
    with pytest.raises(
        DeviceUnavailable, match=r"CUDA failure 100: no CUDA-capable device is detected\. Check nvidia-smi"
    ):
        Classifier.load(bundle, device="cuda").predict("late")


def test_graph_failure_on_cuda_is_a_bundle_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Cuda(failure=("load", "Load model failed: Protobuf parsing failed.")))
    with pytest.raises(BundleError, match="does not load the graph: Load model failed"):
        Classifier.load(bundle, device="cuda")


@pytest.mark.parametrize(("gpu", "device", "precision"), [(True, "cuda", "fp16"), (False, "cpu", "int8")])
def test_auto_device_needs_a_gpu_for_cuda(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, device: str, precision: str
) -> None:
    use(monkeypatch, Cuda(), gpu=gpu)
    classifier = Classifier.load(bundle, device="auto", threads=1)
    assert (classifier.device, classifier.precision) == (device, precision)


def test_cpu_can_be_requested_with_a_gpu(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = use(monkeypatch, Cuda())
    assert Classifier.load(bundle, device="cpu", threads=1).device == "cpu"
    assert cuda.session_options["providers"] == [CPU]
    assert cuda.preloaded == 0


def test_cuda_allows_fp32_but_not_int8(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Cuda())
    assert Classifier.load(bundle, device="cuda", precision="fp32", threads=1).precision == "fp32"
    with pytest.raises(InputError, match=r"model_int8.onnx is made for CPUExecutionProvider, not for cuda"):
        Classifier.load(bundle, device="cuda", precision="int8")


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ((), ["fp32 on cuda: 6 probes", "int8: not checked, it is not for cuda", "fp16 on cuda: 6 probes"]),
        (("--precision", "fp16"), ["fp16 on cuda: 6 probes"]),
        (("--device", "cpu"), ["fp32 on cpu: 6 probes", "int8 on cpu: 6 probes", "fp16: not checked"]),
    ],
)
def test_verify_lists_variants_of_other_devices(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, options: Sequence[str], lines: Sequence[str]
) -> None:
    use(monkeypatch, Cuda())
    done = cli("verify", bundle, *options)
    assert done.exit_code == 0, done.output
    message = done.stdout.splitlines()[1:]
    assert all(found.startswith(expected) for found, expected in zip(message, lines, strict=True)), message


@pytest.mark.gpu
@pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu")
def test_probes_on_a_real_gpu(bundle: Path) -> None:
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in precisions:
        classifier = Classifier.load(bundle, device="cuda", precision=precision)
        assert classifier.device == "cuda"
        classifier.check_probes()


# onnxruntime missing, installed twice, or broken: in a separate process, with folders that shadow the installed one

LOAD = "from manylabel.inference.ort_loader import load_onnxruntime; print(load_onnxruntime().__name__)"
MAIN = "import sys; from manylabel.cli.main import main; main(sys.argv[1:])"
BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")

sys.meta_path.insert(0, Absent())
"""


def pretend_installed(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / f"{name}-1.31.0.dist-info").mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.31.0\n"
        (folder / f"{name}-1.31.0.dist-info" / "METADATA").write_text(metadata)
    return folder


def test_missing_onnxruntime_error_has_install_command(bundle: Path, python: Python) -> None:
    done = python(BLOCK + MAIN, "predict", bundle, "late")
    assert done.returncode == 2
    assert done.stderr.startswith("MissingDependency: onnxruntime is not installed. pip install")
    assert len(done.stderr.splitlines()) == 1


def test_inspect_works_without_onnxruntime(bundle: Path, python: Python) -> None:
    done = python(BLOCK + MAIN, "inspect", bundle)
    assert done.returncode == 0, done.stderr
    assert "billing" in done.stdout


def test_two_onnxruntime_builds_are_rejected(tmp_path: Path, bundle: Path, python: Python) -> None:
    site = pretend_installed(tmp_path, "onnxruntime", "onnxruntime_gpu")
    done = python(MAIN, "predict", bundle, "late", path=[site])
    assert done.returncode == 2
    assert "onnxruntime and onnxruntime-gpu are both installed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"__init__.py": "raise ImportError('libstdc++.so.6: version not found')"},
            "libstdc++.so.6: version not found",
        ),
        ({"__init__.py": ""}, "its files are incomplete"),
        ({"__init__.py": "import flatbuffers_absent"}, "flatbuffers_absent is not installed"),
    ],
)
def test_broken_onnxruntime_is_not_reported_missing(
    tmp_path: Path, python: Python, files: dict[str, str], sentence: str
) -> None:
    for name, content in files.items():
        (tmp_path / "onnxruntime" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "onnxruntime" / name).write_text(content)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {LOAD}"
    done = python(script)
    assert "MissingDependency" in done.stderr
    assert sentence in done.stderr


def test_onnxruntime_is_found_on_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_onnxruntime() is sys.modules["onnxruntime"]
    check_device(onnxruntime, "cpu")
    monkeypatch.syspath_prepend(pretend_installed(tmp_path, "onnxruntime", "onnxruntime_gpu"))
    with pytest.raises(MissingDependency, match="are both installed"):
        load_onnxruntime()
