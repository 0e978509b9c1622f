"""Rows, the command line's predictions for them, and engines whose processes crash on certain texts."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROOT = Path(__file__).parent.parent.parent
TEXTS = ["late", None, "", "the parcel was late", "zu spät, 💥", "not good " * 40, "courier invoice"]
ROWS = [{"id": n, "text": TEXTS[n % 7] and f"{TEXTS[n % 7]} {n}"} for n in range(5000)]


def scored_by_command(bundle: Path, folder: Path, *options: object) -> Any:
    """Return the rows with the predictions of `manylabel score` as an Arrow table."""
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet")
    subprocess.run(
        [
            *(sys.executable, "-m", "manylabel", "score", bundle, folder / "rows.parquet"),
            *("-o", folder / "scored.parquet", "--device", "cpu", "--max-errors", "5000", *map(str, options)),
        ],
        check=True,
        capture_output=True,
    )
    return pq.read_table(folder / "scored.parquet")


@pytest.fixture(scope="session")
def expected(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scored_by_command(bundle, tmp_path_factory.mktemp("command"))


def assert_same_answers(found: Any, expected: Any) -> None:
    """Compare bit for bit, in any order of rows; the wording of errors may differ, as only files have lines."""
    found = found.sort_by("id")
    assert found.column_names == expected.column_names
    for name in expected.column_names:
        one, other = found[name], expected[name]
        if name == "error":
            one, other = one.is_null(), other.is_null()
        assert one.to_pylist() == other.to_pylist(), name
    assert expected["error"].null_count == sum(row["text"] is not None for row in ROWS)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make new processes crash on certain texts; the file exists once `ONCE` has crashed one."""
    flag = tmp_path_factory.mktemp("hostile") / "once"
    with pytest.MonkeyPatch.context() as patch:
        inherited = filter(None, [os.environ.get("PYTHONPATH")])
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests" / "helpers" / "crash_on_text"), *inherited]))
        patch.setenv("MANYLABEL_TEST_ONCE", str(flag))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield flag
