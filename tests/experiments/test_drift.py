"""The drift experiment counts reported labels, and writes its result with its command."""

import json
from pathlib import Path

from click.testing import CliRunner
from tests.helpers.toy import dataset, write_csv

from experiments.drift import run


def test_the_result_is_written_with_its_command(bundle: Path, tmp_path: Path) -> None:
    for name, seed in (("own", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        write_csv(tmp_path / name / "data.csv", dataset(200, seed=seed))
    files = ["--data", tmp_path / "own" / "data.csv", "--other", tmp_path / "other" / "data.csv"]
    options = [*files, "--output", tmp_path / "result", "--title", "Toy"]
    done = CliRunner().invoke(run.main, [str(each) for each in (bundle, *options)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    assert {name: found["texts"] for name, found in result["sets"].items()} == {"own, test": 60, "other": 200}
    assert [row["texts"] for row in result["sets"]["other"]["samples"]] == [30, 100]
    assert result["reference_texts"] == 60
    page = (tmp_path / "result" / "README.md").read_text()
    assert "python -m experiments.drift.run build/bundle --data ../shared/data/own/data.csv --other" in page
    assert f"| other | 100 | {result['sets']['other']['samples'][1]['fired']:.1%} |" in page
