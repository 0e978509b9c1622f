"""The scaling experiment measures cores and each step of scoring a file."""

import csv
import json
import subprocess
import sys
from pathlib import Path

from tests.helpers.toy import TEXTS


def test_cores_and_steps_are_measured(bundle: Path, tmp_path: Path) -> None:
    with (tmp_path / "data.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text] for text in TEXTS * 4)])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.scoring_scaling.run", bundle, "--data", tmp_path / "data.csv"),
            *("--texts", "200", "--output", tmp_path / "results"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    written = json.loads((tmp_path / "results" / "result.json").read_text())
    assert {name: written[name] for name in found} == found
    rates = found["one_core"]["rows_per_second"]
    assert {"plan .csv.gz", "read .parquet", "tokenise", "graph", "write .jsonl"} <= rates.keys()
    assert all(rate > 0 for rate in (*rates.values(), *found["texts_per_second"].values()))
    assert found["one_core"]["texts"] == 200
