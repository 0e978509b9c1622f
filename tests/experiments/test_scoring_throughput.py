"""The throughput experiment measures the speed and memory of scoring a file."""

import json
import subprocess
import sys
from pathlib import Path


def test_speed_and_memory_of_scoring_are_measured(bundle: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.scoring_throughput.run", bundle, "--rows", "300", "--threads", "1"),
            *("--output", tmp_path / "results", "--name", "tiny"),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert json.loads((tmp_path / "results" / "tiny.json").read_text()) == found
    assert (found["rows"], found["errors"], found["threads"]) == (300, 0, 1)
    assert found["score_against_library"] > 0
    assert 50 < found["peak_rss_mb"] < 2000
    assert len(found["library_texts_per_second"]) == 2
