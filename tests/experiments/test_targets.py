"""The page of performance targets has the figures of the committed results, and says why a target was missed."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT

from experiments.targets.run import HERE, MODELS, OURS, render_readme, table_row
from manylabel_bench.results.tables import ABSENT


@pytest.fixture
def targets() -> dict[str, Any]:
    return tomllib.loads((HERE / "targets.toml").read_text(encoding="utf-8"))


def test_committed_page_is_that_of_the_committed_results(targets: dict[str, Any]) -> None:
    """`make readme` draws it."""
    page = (HERE / "README.md").read_text(encoding="utf-8")
    assert page == render_readme(ROOT / "benchmarks" / "results", targets)
    assert ABSENT not in page
    assert "not investigated" not in page


def test_notes_belong_to_existing_targets(targets: dict[str, Any]) -> None:
    assert {name for name, *_ in MODELS} >= set(targets["notes"])
    names = {target["name"] for target in targets["targets"]}
    assert names >= {name for notes in targets["notes"].values() for name in notes}


def test_page_has_a_table_per_model_and_explains_missed_targets(tmp_path: Path, targets: dict[str, Any]) -> None:
    rows = [
        {"name": OURS, "texts_per_second": {"median": 100.0}, "macro_f1": 0.5},
        {"name": "pytorch", "texts_per_second": {"median": 50.0}, "macro_f1": 0.501},
        {"name": "openvino int8", "texts_per_second": {"median": 100.0}, "macro_f1": 0.48},
        {"name": "optimum int8", "texts_per_second": {"median": 80.0}, "macro_f1": 0.497},
    ]
    document = {"contenders": rows, "machine": {"cpu": "A processor", "flags": ["avx2", "amx_int8"]}}
    for name in ("goemotions-minilm", "mix-minilm", "mobasa-e5"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(document))
    openvino = "bulk, vs. OpenVINO in int8: mix"
    page = render_readme(tmp_path, targets | {"notes": {"MiniLM-L6": {openvino: "Because."}}})
    assert "## MiniLM-L6" in page
    assert "game reviews. On A processor (avx2, amx_int8)." in page
    assert "multilingual-e5-small" not in page  # its mix is not measured
    assert f"| {openvino} | 1.10x | 1.40x | 1.00x | 9% short; openvino int8 loses 0.021 of macro-F1 |" in page
    assert "| bulk, vs. Optimum's int8, sorted: short texts | 1.15x | 1.60x | 1.25x | reached |" in page
    assert f"- {openvino}: Because.\n" in page
    assert "- bulk, vs. PyTorch in fp32, sorted: mix: not investigated.\n" in page
    assert "- bulk, vs. Optimum's int8, sorted: short texts" not in page


def test_verdict_compares_the_value_with_both_limits() -> None:
    more = {"name": "", "at_least": 2, "stretch": 4, "figure": "x"}
    less = {"name": "", "at_least": 2, "stretch": 1, "figure": "x", "lower_is_better": True}

    def verdicts(x: float) -> list[str]:
        short = {"contenders": [{"name": OURS, "x": x}]}
        return [table_row(target, {"short": short})[-1] for target in (more, less)]

    assert verdicts(0.5) == ["75% short", "stretch"]
    assert verdicts(1.5) == ["25% short", "reached"]
    assert verdicts(2.5) == ["reached", "20% short"]
    assert verdicts(4.0) == ["stretch", "50% short"]
    assert table_row(more, {"short": {"contenders": []}})[-2:] == [ABSENT, ""]
