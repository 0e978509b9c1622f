"""Lost and duplicated rows are counted, and no row is lost when processes are killed."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fault_injection.engines_kill import count_rows


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_scoring_loses_no_row(bundle: Path, tmp_path: Path) -> None:
    """Often enough that its worker and the whole run are killed before it finishes."""
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "tests.fault_injection.engines_kill",
                bundle,
                "--engine",
                "command",
                "--rows",
                "400000",
            ),
            *("--every", "5", "--output", tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "kills-command.json").read_text())
    assert json.loads(done.stdout) == result
    assert (result["rows"], result["lost"], result["twice"], result["errors"]) == (400_000, 0, 0, 0)
    assert result["killed"]["worker"] >= 1


def test_lost_and_doubled_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "_manylabel").mkdir()
    for name, ids in (("part-0", [0, 1, 2]), ("part-1", [2, 2, 5])):
        pq.write_table(pa.table({"id": ids, "error": [None, "bad", None]}), tmp_path / f"{name}.parquet")
    assert count_rows(tmp_path, 6) == {"rows": 6, "lost": 2, "twice": 1, "errors": 2}
