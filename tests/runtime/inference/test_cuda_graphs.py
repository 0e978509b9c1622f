"""Single short texts on CUDA replay captured graphs with the same probabilities, or loading fails.

tests/helpers/cuda.py stands in for onnxruntime-gpu, and fails if it is used differently than intended. That a real GPU
captures like this is not tested here; every graph is checked when it is captured.
"""

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.cuda import CPU, CUDA, Cuda, use
from tests.runtime.conftest import Cli

from manylabel import Bundle, Classifier, DeviceUnavailable, InputError
from manylabel.inference.cuda_graphs import MAX_GRAPH_TOKENS
from manylabel.load_options import find_plan, resolve_load_config

TEXTS = ["late", "the parcel was late", "a b c d", "very good and cheap"]
LONG = "very good and cheap " * 30


@pytest.fixture
def captured(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Classifier, Cuda]:
    cuda = use(monkeypatch, Cuda())
    return Classifier.load(bundle, device="cuda", cuda_graphs=True, threads=2), cuda


def test_graphs_are_captured_at_load_for_every_length(captured: tuple[Classifier, Cuda]) -> None:
    classifier, cuda = captured
    assert cuda.session_options["providers"] == [(CUDA, {"enable_cuda_graph": "1"}), CPU]
    longest = min(MAX_GRAPH_TOKENS, classifier.bundle.manifest.max_length)
    assert sorted(cuda.replays, key=int) == [str(length) for length in range(1, longest + 1)]


def test_single_text_replays_its_graph(captured: tuple[Classifier, Cuda], bundle: Path) -> None:
    classifier, cuda = captured
    expected = Classifier.load(bundle, device="cuda", threads=2)
    for text in TEXTS:
        (length,) = {len(window) for window in classifier.encode(text)[0].windows}
        before = cuda.replays[str(length)]
        np.testing.assert_array_equal(classifier.predict_proba(text), expected.predict_proba(text))
        assert cuda.replays[str(length)] == before + 1
    classifier.check_probes()


def test_batches_use_no_cuda_graph(captured: tuple[Classifier, Cuda], bundle: Path) -> None:
    classifier, cuda = captured
    before = dict(cuda.replays)
    texts = ["the parcel was late"] * 3
    np.testing.assert_array_equal(
        classifier.predict_proba(texts), Classifier.load(bundle, device="cuda", threads=2).predict_proba(texts)
    )
    assert cuda.replays == before


def test_longer_texts_use_no_cuda_graph(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manylabel.classifier.MAX_GRAPH_TOKENS", 4)
    cuda = use(monkeypatch, Cuda())
    classifier = Classifier.load(bundle, device="cuda", cuda_graphs=True, threads=1)
    assert sorted(cuda.replays) == ["1", "2", "3", "4"]
    before = dict(cuda.replays)
    np.testing.assert_array_equal(
        classifier.predict_proba(LONG), Classifier.load(bundle, device="cuda", threads=1).predict_proba(LONG)
    )
    assert cuda.replays == before


def test_one_thread_captures_and_replays(captured: tuple[Classifier, Cuda], bundle: Path) -> None:
    """Onnxruntime keeps graphs per thread: another thread would capture its own, from values that are being read."""
    classifier, cuda = captured
    expected = {text: Classifier.load(bundle, device="cuda").predict_proba(text).tobytes() for text in TEXTS}
    requests = TEXTS * 50
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: classifier.predict_proba(text).tobytes(), requests))
    assert found == [expected[text] for text in requests]
    assert len(cuda.graph_threads) == 1
    assert threading.get_ident() not in cuda.graph_threads


def test_stale_capture_is_detected(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Cuda(stale=True))
    with pytest.raises(
        DeviceUnavailable,
        match=r"a CUDA graph fails: for a text of 1 tokens its probabilities differ by [\d.e-]+\. Load the bundle with "
        r"cuda_graphs=False\.$",
    ):
        Classifier.load(bundle, device="cuda", cuda_graphs=True)


def test_overlapping_captures_are_detected(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is correct by itself."""
    use(monkeypatch, Cuda(shared=True))
    with pytest.raises(DeviceUnavailable, match="for a text of 1 tokens its probabilities differ"):
        Classifier.load(bundle, device="cuda", precision="fp32", cuda_graphs=True)


def test_capture_failure_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Cuda(failure=("replay", "CUDA failure 900: operation not permitted when stream is capturing\nat")))
    with pytest.raises(DeviceUnavailable, match=r"CUDA failure 900: operation not permitted .* cuda_graphs=False\.$"):
        Classifier.load(bundle, device="cuda", cuda_graphs=True)
    message = "This session cannot use the graph capture feature as requested by the user"
    use(monkeypatch, Cuda(failure=("load", message)))
    with pytest.raises(DeviceUnavailable, match=rf"{message}\. Load the bundle with cuda_graphs=False\.$"):
        Classifier.load(bundle, device="cuda", cuda_graphs=True)


def test_cpu_captures_nothing(bundle: Path) -> None:
    with pytest.raises(InputError, match="cuda_graphs needs CUDA, and the device is cpu"):
        Classifier.load(bundle, device="cpu", cuda_graphs=True)
    assert Classifier.load(bundle, device="cpu", cuda_graphs=False).predict("late")


def test_cuda_graphs_are_off_by_default(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = use(monkeypatch, Cuda())
    Classifier.load(bundle, device="cuda").predict_proba("late")
    assert not cuda.replays


def test_unpickled_classifier_captures_again(captured: tuple[Classifier, Cuda]) -> None:
    classifier, cuda = captured
    before = sum(cuda.replays.values())
    again = pickle.loads(pickle.dumps(classifier))
    assert sum(cuda.replays.values()) == 2 * before
    np.testing.assert_array_equal(again.predict_proba("late"), classifier.predict_proba("late"))


# `manylabel tune` finds out whether they are faster


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    path.write_text("text\nthe parcel was late\n")
    return path


def test_tune_measures_with_and_without(
    own_bundle: Path, cli: Cli, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Cuda())
    done = cli("tune", own_bundle, "--data", texts, "--rounds", 3, "--singles", 2, "--device", "cuda", "--json")
    found = json.loads(done.stdout)
    assert {each["setting"]["cuda_graphs"] for each in found["settings"]} == {True, False}
    assert found["cuda_graphs_refused"] is None
    plan = find_plan(Bundle.open(own_bundle), "cuda").path
    content = json.loads(plan.read_text())
    content["setting"]["cuda_graphs"] = True
    plan.write_text(json.dumps(content))
    opened = Bundle.open(own_bundle)
    assert resolve_load_config(opened, "cuda").cuda_graphs
    assert not resolve_load_config(opened, "cuda", cuda_graphs=False).cuda_graphs
    assert "CUDA graphs" in cli("inspect", own_bundle).stdout


def test_tune_reports_why_cuda_graphs_are_skipped(
    own_bundle: Path, cli: Cli, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Cuda(stale=True))
    command = ("tune", own_bundle, "--data", texts, "--rounds", 3, "--singles", 2, "--device", "cuda", "--dry-run")
    found = json.loads(cli(*command, "--json").stdout)
    assert {each["setting"]["cuda_graphs"] for each in found["settings"]} == {False}
    assert "a CUDA graph fails" in found["cuda_graphs_refused"]
    assert "CUDA graphs were not measured: a CUDA graph fails: for a text of 1 tokens" in cli(*command).stdout
