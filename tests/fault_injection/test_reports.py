"""The reliability figures: every fault is detected, the controls detect less, and the page has both."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.fault_injection import adversarial_texts, bundle_corruption, soak

from manylabel import Bundle


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def test_every_kind_of_damage_is_detected(copy: Path, bundle: Path) -> None:
    for description, damages in bundle_corruption.list_damages(copy, random_bytes=3):
        for damage in [damages[0], damages[-1]]:
            assert bundle_corruption.is_detected(copy, damage), description
            assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
                path.name: path.read_bytes() for path in bundle.iterdir()
            }


def test_undamaged_bundle_is_accepted(copy: Path) -> None:
    assert not bundle_corruption.is_detected(copy, lambda bundle: None)


def test_corruption_page_has_figures_and_control(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list_all = bundle_corruption.list_damages
    monkeypatch.setattr(
        bundle_corruption, "list_damages", lambda *args: [(name, damages[::3000]) for name, damages in list_all(*args)]
    )
    monkeypatch.setattr(bundle_corruption, "SMALL_FILE", 3000)
    output = tmp_path / "results"
    arguments = [str(bundle), "--random-bytes", "20", "--output", str(output)]
    done = CliRunner().invoke(bundle_corruption.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    section = json.loads((output / "corruption.json").read_text())
    assert all(row["injected"] == row["detected"] != "0" for row in section["rows"])
    flips = next(row for row in section["rows"] if row["damage"].startswith("every byte"))
    assert flips["control: detected by names and sizes alone"].startswith("0 of ")
    page = (output / "README.md").read_text()
    assert "Control, ONNX Runtime alone on `model_int8.onnx` with one bit changed, 20 times" in page


@pytest.mark.parametrize("kind", adversarial_texts.UNITS)
def test_adversarial_texts_are_bounded(bundle: Path, kind: str) -> None:
    cost = adversarial_texts.measure_reader(str(bundle), kind, "100000", "ours")
    manifest = Bundle.open(bundle).manifest
    assert 2 <= cost["tokens"] <= 16 * manifest.max_length * manifest.long_text.max_windows


def test_adversarial_texts_page_compares_with_the_library(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("words", "lone surrogates")
    monkeypatch.setattr(adversarial_texts, "UNITS", {kind: adversarial_texts.UNITS[kind] for kind in kinds})
    done = CliRunner().invoke(adversarial_texts.main, [str(bundle), "--size", "50000", "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    section = json.loads((tmp_path / "texts.json").read_text())
    rows = section["rows"]
    assert section["notes"][0].startswith("At most 100 ms and 50 MB: ")
    assert [row["text"] for row in rows] == list(kinds)
    assert rows[0]["control, a tenth: ms"] != "fails"
    assert rows[1]["control, a tenth: ms"] == "fails"  # the library rejects invalid UTF-8


def soak_result(megabytes: float, **more: int) -> soak.SoakResult:
    """Forty samples of a server whose memory rises by `megabytes` per 100,000 requests, with some noise."""
    samples = [
        soak.ProcessSample(n * 10_000, 90 + n * megabytes / 10 + (0.3 if n % 3 else 0), more.get("open", 0) * n + 7, 7)
        for n in range(1, 41)
    ]
    return soak.SoakResult(60.0, samples, {})


def test_memory_growth_differs_from_noise() -> None:
    assert soak_result(0.0).faults == []
    assert soak_result(0.5).faults == []
    assert soak_result(2.0).faults == ["memory rises by 2.00 MB per 100,000 requests"]
    assert soak_result(0.0, open=1).faults == ["18 to 47 descriptors"]


def test_soak_result(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too short to evaluate the slope, which is not checked here; every request has its expected status."""
    monkeypatch.setattr(soak, "ROUNDS", 2)
    monkeypatch.setattr(soak, "MAX_SLOPE", -1e9)
    arguments = [str(bundle), "--minutes", "0.02", "--control-minutes", "0.02", "--output", str(tmp_path)]
    done = CliRunner().invoke(soak.main, arguments)
    assert "memory rises" in str(done.exception)
    ours, control = json.loads((tmp_path / "soak.json").read_text())["rows"]
    assert (ours["server"], ours["unexpected statuses"]) == ("as it is", "0")
    assert control["server"].startswith("control")
    assert int(ours["requests"].replace(",", "")) >= 50
