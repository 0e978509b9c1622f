"""The splits experiment counts deviations and near-duplicates, and its table shows its runs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.helpers import toy

from experiments.splits.run import WAYS, evaluate_split, main
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.near_duplicates import find_near_duplicates


def test_split_deviation_size_and_duplicate_counts() -> None:
    targets = np.zeros((20, 2))
    targets[:, 0] = 1
    targets[:10, 1] = 1
    texts = [f"review number {row} of a parcel that was {row}" for row in range(18)] + ["All good!", "all good"]
    data = Dataset.from_matrix(texts, targets, ("common", "half"))
    parts = np.array([1] * 3 + [0] * 15 + [2, 1])
    found = evaluate_split(data, parts, find_near_duplicates(texts))
    assert found["validation"] == 4
    assert found["test"] == 1
    assert found["rows"] == 2  # validation is due two rows of the first label and one of the second; has four, three
    assert found["share"] == 2
    assert found["copies"] == 1  # the last two rows


@pytest.mark.parametrize("there", [True, False])
def test_split_methods_are_compared_on_the_same_rows(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without the library, for which a stub stands in."""
    if there:
        for name in ("iterstrat", "iterstrat.ml_stratifiers"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / "iterstrat").mkdir()
        (tmp_path / "iterstrat" / "ml_stratifiers.py").write_text(
            "from sklearn.model_selection import KFold as MultilabelStratifiedKFold\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
    else:
        monkeypatch.setitem(sys.modules, "iterstrat", None)
    data = toy.dataset(300)
    twice = Dataset((*data.texts, *data.texts), np.tile(data.targets, (2, 1)), data.labels)
    (tmp_path / "set").mkdir()
    path = toy.write_csv(tmp_path / "set" / "data.csv", twice)
    done = CliRunner().invoke(main, ["--data", str(path), "--output", str(tmp_path / "result"), "--seed", "1"])
    assert done.exit_code == 0, done.output
    (measured,) = json.loads((tmp_path / "result" / "result.json").read_text())["sets"].values()
    runs = {run["way"]: run for run in measured["runs"]}
    assert [*runs] == [way for way in WAYS if there or way != "iterative-stratification"]
    assert runs["manylabel"]["copies"] == 0
    assert all(runs[way]["copies"] > 50 for way in runs if way != "manylabel")
    assert runs["manylabel"]["share"] < runs["at random"]["share"]
    page = (tmp_path / "result" / "README.md").read_text()
    assert ("| set, 600 rows, 4 labels | iterative-stratification |" in page) == there
    assert page.startswith(done.output.strip())
