"""The reliability figures: every damage is found, the controls find less, and the page tells both."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from manylabel import Bundle
from manylabel_bench.reliability import corruption, texts


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def test_every_kind_of_damage_is_found_and_mended(copy: Path, bundle: Path) -> None:
    for what, damages in corruption.kinds(copy, random_bytes=3):
        for damage in [damages[0], damages[-1]]:
            assert corruption.is_refused(copy, damage), what
            assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
                path.name: path.read_bytes() for path in bundle.iterdir()
            }


def test_a_whole_bundle_is_not_refused(copy: Path) -> None:
    assert not corruption.is_refused(copy, lambda bundle: None)


def test_the_page_has_the_figures_and_the_control(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = corruption.kinds
    monkeypatch.setattr(corruption, "kinds", lambda *given: [(what, damages[::3000]) for what, damages in few(*given)])
    monkeypatch.setattr(corruption, "SMALL", 3000)
    output = tmp_path / "results"
    arguments = [str(bundle), "--random-bytes", "20", "--output", str(output)]
    done = CliRunner().invoke(corruption.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    section = json.loads((output / "corruption.json").read_text())
    assert all(row["done"] == row["found"] != "0" for row in section["rows"])
    flips = next(row for row in section["rows"] if row["damage"].startswith("every byte"))
    assert flips["control: found by names and sizes alone"].startswith("0 of ")
    page = (output / "README.md").read_text()
    assert "Control, ONNX Runtime alone on `model_int8.onnx` with one bit changed, 20 times" in page


@pytest.mark.parametrize("kind", texts.UNITS)
def test_a_text_of_every_kind_is_read_up_to_the_bound(bundle: Path, kind: str) -> None:
    found = texts.read_once(str(bundle), kind, "100000", "ours")
    manifest = Bundle.open(bundle).manifest
    assert 2 <= found["tokens"] <= 16 * manifest.max_length * manifest.long_text.max_windows


def test_the_page_compares_with_the_library(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ("words", "lone surrogates")
    monkeypatch.setattr(texts, "UNITS", {kind: texts.UNITS[kind] for kind in kinds})
    done = CliRunner().invoke(texts.main, [str(bundle), "--size", "50000", "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    section = json.loads((tmp_path / "texts.json").read_text())
    rows = section["rows"]
    assert section["notes"][0].startswith("At most 100 ms and 50 MB: ")
    assert [row["text"] for row in rows] == list(kinds)
    assert rows[0]["control, a tenth: ms"] != "fails"
    assert rows[1]["control, a tenth: ms"] == "fails"  # the library refuses what is no UTF-8
