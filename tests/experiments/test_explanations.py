"""Deletion curves: the explanation of a model that looks for words names these words."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.helpers.toy import RECIPE, dataset, write_csv, write_encoder

from experiments.explanations.run import MIN_WORDS, SHARES, delete_words, deletion_curves, main
from manylabel import Classifier


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a model that has learned which words have which label."""
    from manylabel_export.pipeline import export
    from manylabel_train.training.config import TrainConfig
    from manylabel_train.training.train import train

    folder = tmp_path_factory.mktemp("learned")
    train(dataset(), folder / "run", model=str(write_encoder(folder / "encoder")), config=TrainConfig(**RECIPE))
    export(folder / "run", folder / "bundle", precisions=["fp32"])
    return folder / "bundle"


def test_removing_top_words_lowers_scores_fastest(learned: Path) -> None:
    classifier = Classifier.load(learned, threads=1)
    explanation = classifier.explain("the parcel was very very good and not bad", "delivery")
    assert explanation.ranked[0].text == "parcel"
    found = deletion_curves(classifier, explanation, np.random.default_rng(0))
    assert found["falls"][0] == found["rises"][0] == found["random"][0] == pytest.approx(1)
    assert found["falls"][-1] == found["rises"][-1] == pytest.approx(found["random"][-1])
    assert found["falls"][1] < found["random"][1] < found["rises"][1]


def test_words_are_removed_by_offset(learned: Path) -> None:
    explanation = Classifier.load(learned, threads=1).explain("late parcel, late!", "delivery")
    assert delete_words(explanation.text, [explanation.words[3], explanation.words[0]]) == " parcel, !"


def test_the_result_is_written_with_its_command(learned: Path, tmp_path: Path) -> None:
    rows = dataset(500, seed=1, per_split=200)
    long = rows.take(
        [row for row in range(len(rows)) if len(rows.texts[row].split()) >= MIN_WORDS or rows.split[row] != "test"]
    )
    data = write_csv(tmp_path / "data.csv", long)
    options = ["--data", data, "--output", tmp_path / "result", "--title", "Toy", "--texts", 5]
    done = CliRunner().invoke(main, [str(each) for each in (learned, *options)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    assert result["texts"] == 5
    assert min(result["below_random"], result["above_random"]) > 0.5
    assert all(len(curve) == len(SHARES) for curve in result["curves"].values())
    page = (tmp_path / "result" / "README.md").read_text()
    assert page.startswith("# Toy\n\n`python -m experiments.explanations.run build/bundle --data")
    assert f"| {result['areas']['falls']:.3f} |" in page
