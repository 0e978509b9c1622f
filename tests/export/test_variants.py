"""A bundle contains the requested precisions, and fp32 is checked in any case."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.helpers import toy

from manylabel import Bundle, Classifier
from manylabel.cli.main import main
from manylabel.errors import InputError, ParityError
from manylabel_export.graph import build
from manylabel_export.pipeline import export
from manylabel_train.models import checkpoint

VALIDATION = toy.dataset(180).part("train")


@pytest.fixture(scope="module")
def small(elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with only int8."""
    return export(
        elsewhere, tmp_path_factory.mktemp("small") / "bundle", validation=VALIDATION, precisions=["int8"]
    ).path


def test_export_writes_requested_precisions_only(small: Path) -> None:
    assert list(Bundle.open(small).variants) == ["int8"]
    assert [path.name for path in small.glob("*.onnx")] == ["model_int8.onnx"]


def test_commands_work_on_bundle_without_fp32(small: Path) -> None:
    for command in ("verify", "inspect", "predict"):
        words = [command, str(small), *(["the parcel was late"] if command == "predict" else [])]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
        assert "int8" in done.stdout or command == "predict"
    assert Classifier.load(small, device="cpu").precision == "int8"
    with pytest.raises(InputError, match="has no variant 'fp32'; it has int8"):
        Classifier.load(small, device="cpu", precision="fp32")


def test_card_and_report_list_present_variants(small: Path) -> None:
    card = (small / "README.md").read_text()
    assert "`model.onnx` is not in this bundle" in card
    assert "thresholds int8" in card
    assert "thresholds fp32" not in card
    assert "int8" in (small / "report.html").read_text()


def test_fp32_is_verified_even_if_not_written(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, _ = checkpoint.load_model(str(elsewhere))
    other.classifier.bias.data[1] += 0.01
    graphs = build.build_graphs(other, precisions=["fp32", "int8"])
    monkeypatch.setattr(build, "iter_graphs", lambda *_, **__: graphs.values())
    with pytest.raises(ParityError, match="the fp32 graph differs from PyTorch"):
        export(elsewhere, tmp_path / "bundle", validation=VALIDATION, precisions=["int8"])
