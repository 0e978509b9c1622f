"""What the tests reach and notice: the pages say it, and too little is a failure."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.fault_injection import coverage_table


def test_coverage_page_and_minimum(tmp_path: Path) -> None:
    def summary(covered: int) -> dict[str, int]:
        return {"num_statements": 80, "num_branches": 20, "covered_lines": covered, "covered_branches": 20}

    files = {"batching.py": 78, "server/app.py": 76, "server/tracing.py": 0, "engines/ray.py": 0}
    for worst, exit_code in ((76, 0), (60, 1)):
        measured = tmp_path / "measured.json"
        found = {**files, "server/app.py": worst}
        content = {"files": {f"runtime/manylabel/{name}": {"summary": summary(its)} for name, its in found.items()}}
        measured.write_text(json.dumps(content))
        done = CliRunner().invoke(coverage_table.main, [str(measured), "--output", str(tmp_path / "results")])
        assert done.exit_code == exit_code, done.output
        rows = json.loads((tmp_path / "results/coverage.json").read_text())["rows"]
        together = {row["folder"]: row["together"] for row in rows}
        assert together == {
            "engines": "20.0 %",
            "itself": "98.0 %",
            "server": f"{(worst + 20 + 20) / 2:.1f} %",
            "all but engines and tracing": f"{(78 + worst + 40) / 2:.1f} %",
        }
    assert "The tests reach 89.0 %, and 95 % are asked for." in done.output


def test_mutation_page_lists_survivors(tmp_path: Path) -> None:
    mutation = pytest.importorskip("tests.fault_injection.mutation", exc_type=ImportError)
    survivor = {
        "function": "batching.batches",
        "verdict": "survived",
        "change": "- a | b\n+ a",
        "word": "equal: no use",
    }
    found = {"mutants": 200, "tried": 10, "killed": 8, "timed out": 1, "survivors": [survivor]}
    (tmp_path / "mutants").mkdir()
    (tmp_path / "mutants" / "batching.json").write_text(json.dumps(found))
    mutation._draw(tmp_path)
    (row,) = json.loads((tmp_path / "mutation.json").read_text())["rows"]
    assert (row["mutants"], row["tried"], row["survived"], row["noticed"]) == ("200", "10", "1", "90.0%")
    assert (
        "| `batching.batches` | `- a \\| b`<br>`+ a` | equal: no use |" in (tmp_path / "mutants/README.md").read_text()
    )
