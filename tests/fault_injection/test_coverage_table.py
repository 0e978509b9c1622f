"""Coverage and mutation testing: their tables, the required minimum, and the files that they name."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.conftest import ROOT
from tests.fault_injection import coverage_table, mutation, report

RESULTS = ROOT / "tests" / "fault_injection" / "results"


def test_coverage_page_and_minimum(tmp_path: Path) -> None:
    def summary(covered: int) -> dict[str, int]:
        return {"num_statements": 80, "num_branches": 20, "covered_lines": covered, "covered_branches": 20}

    files = {"classifier.py": 78, "server/app.py": 76, "server/observability/tracing.py": 0, "engines/ray.py": 0}
    for worst, exit_code in ((76, 0), (60, 1)):
        measured = tmp_path / "measured.json"
        covered = {**files, "server/app.py": worst}
        content = {
            "files": {f"runtime/manylabel/{name}": {"summary": summary(lines)} for name, lines in covered.items()}
        }
        measured.write_text(json.dumps(content))
        done = CliRunner().invoke(coverage_table.main, [str(measured), "--output", str(tmp_path / "results")])
        assert done.exit_code == exit_code, done.output
        rows = json.loads((tmp_path / "results/coverage.json").read_text())["rows"]
        together = {row["folder"]: row["together"] for row in rows}
        assert together == {
            "engines": "20.0 %",
            "package root": "98.0 %",
            "server": f"{(worst + 20 + 20) / 2:.1f} %",
            "all but engines and tracing": f"{(78 + worst + 40) / 2:.1f} %",
        }
    assert "The tests cover 89.0 %; at least 95 % are required." in done.output


def test_mutation_page_lists_survivors(tmp_path: Path) -> None:
    survivor = {
        "function": "inference.length_batching.batches",
        "verdict": "survived",
        "change": "- a | b\n+ a",
        "reason": "equal: no use",
    }
    tested = {"mutants": 200, "tried": 10, "killed": 8, "timed out": 1, "survivors": [survivor]}
    (tmp_path / "mutants").mkdir()
    (tmp_path / "mutants" / "length_batching.json").write_text(json.dumps(tested))
    mutation.write_pages(tmp_path)
    (row,) = json.loads((tmp_path / "mutation.json").read_text())["rows"]
    assert (row["mutants"], row["tested"], row["survived"], row["detected"]) == ("200", "10", "1", "90.0%")
    assert (
        "| `inference.length_batching.batches` | `- a \\| b`<br>`+ a` | equal: no use |"
        in (tmp_path / "mutants/README.md").read_text()
    )


@pytest.mark.parametrize("name", mutation.TARGETS)
def test_mutation_target_names_existing_files(name: str) -> None:
    target = mutation.TARGETS[name]
    for pattern in target.modules:
        assert list((ROOT / "runtime" / "manylabel").glob(pattern)), f"no module matches {pattern}"
    for path in target.tests:
        assert (ROOT / "tests" / "runtime" / path).exists(), f"no test {path}"


def test_committed_mutants_belong_to_targets() -> None:
    committed = {path.stem for path in (RESULTS / "mutants").glob("*.json")}
    assert committed == set(mutation.TARGETS)


def test_excluded_coverage_folders_exist() -> None:
    for name in coverage_table.TESTED_ELSEWHERE:
        assert (ROOT / "runtime" / "manylabel" / name).exists()


def test_committed_page_is_drawn_from_the_committed_sections(tmp_path: Path) -> None:
    for path in RESULTS.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    report.draw_page(tmp_path)
    assert (tmp_path / "README.md").read_text() == (RESULTS / "README.md").read_text()
