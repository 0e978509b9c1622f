"""Label review: missing and wrong labels are found with out-of-sample scores."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.helpers import toy

from manylabel.data.labeled_data import Columns
from manylabel.errors import CheckpointError, DataError, InputError, LabelMismatch, OutputExists
from manylabel_train.cli.review import review_labels as command
from manylabel_train.data.dataset import Dataset, read_dataset
from manylabel_train.data.label_review import LabelSuggestion, as_document, read_review, write_review
from manylabel_train.review import review
from manylabel_train.review.confident_learning import LabelIssues, find_label_issues
from manylabel_train.review.frozen_encoder_probe import predict_out_of_fold
from manylabel_train.review.out_of_sample_scores import assign_folds, average_in_logits
from manylabel_train.review.review import review_labels
from manylabel_train.review.suggestions import build_suggestions, check_table_path, write_table
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train


def remove_labels(data: Dataset, count: int) -> tuple[Dataset, set[tuple[int, str]]]:
    """Remove `count` labels from training rows; return the data and the removed (row from 1, label) pairs."""
    trained = np.array(data.split) == "train"
    given = np.argwhere((data.targets == 1) & trained[:, None])
    taken = given[np.random.default_rng(0).choice(len(given), count, replace=False)]
    targets = data.targets.copy()
    targets[tuple(taken.T)] = 0
    return replace(data, targets=targets), {(row + 1, data.labels[column]) for row, column in taken.tolist()}


# Confident learning


def test_confident_learning_finds_and_ranks_errors() -> None:
    scores = np.array([[0.9, 0.2], [0.8, 0.01], [0.95, 0.01], [0.75, 0.3], [0.1, 0.01], [0.05, 0.02]])
    targets = np.array([[1, 1], [1, 0], [0, 0], [0, 0], [0, 0], [1, 0]], dtype=np.float32)
    found = find_label_issues(scores, targets)
    # mean scores: 0.58 and 0.2 for rows with the labels; 0.4 and 0.93 against them for rows without
    assert list(zip(found.rows.tolist(), found.columns.tolist(), strict=True)) == [(2, 0), (5, 0), (3, 0), (3, 1)]
    assert (np.diff(found.confidence) < 0).all()
    assert ((found.confidence > 0) & (found.confidence < 1)).all()


def test_frequent_errors_rank_higher() -> None:
    """With accurate scores, one in five labels missing, and no label wrong, missing labels rank first."""
    draw = np.random.default_rng(0)
    truth = draw.random((2000, 2)) < 0.3
    scores = np.clip(np.where(truth, 0.85, 0.15) + draw.normal(scale=0.12, size=truth.shape), 0.01, 0.99)
    lost = truth & (draw.random(truth.shape) < 0.2)
    found = find_label_issues(scores, (truth & ~lost).astype(np.float32))
    first = lost[found.rows, found.columns][: lost.sum()]
    assert first.mean() > 0.9
    mirrored = find_label_issues(1 - scores, 1 - (truth & ~lost).astype(np.float32))
    np.testing.assert_array_equal(mirrored.rows[:50], found.rows[:50])


def test_unknown_and_constant_labels_are_not_suspect() -> None:
    scores = np.array([[0.99, 0.9, 0.1], [0.9, 0.9, 0.2], [0.1, 0.1, 0.9]])
    targets = np.array([[np.nan, 0, 1], [1, 0, 1], [0, 0, 1]], dtype=np.float32)
    assert find_label_issues(scores, targets).rows.tolist() == []


# Suggestions


def test_each_row_has_its_most_likely_suggestion() -> None:
    data = Dataset.from_matrix(["a", "b", "c"], [[1, 0, 0, 0], [0, 0, np.nan, 0], [1, 1, 1, 1]], toy.LABELS)
    rows, columns = np.array([1, 0, 1, 1]), np.array([3, 0, 1, 0])
    found = LabelIssues(rows, columns, np.array([0.9, 0.8, 0.6, 0.2]))
    first, second = build_suggestions(data, np.array([1, 2, 0]), found)
    assert (first.row, first.text, first.given, first.suggested) == (
        3,
        "c",
        toy.LABELS,
        toy.LABELS[:1] + toy.LABELS[2:3],
    )
    assert (first.add, first.remove) == ({}, {toy.LABELS[3]: 0.9, toy.LABELS[1]: 0.6})
    assert (second.row, second.given, second.suggested) == (2, (), toy.LABELS[:1])
    assert (second.add, second.confidence) == ({toy.LABELS[0]: 0.8}, 0.8)


# Out-of-sample scores


def test_scores_are_out_of_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manylabel_train.review.frozen_encoder_probe.WEIGHT_DECAYS", (0.03,))
    draw = np.random.default_rng(0)
    features = draw.normal(size=(60, 5)).astype(np.float32)
    targets = (features[:, :2] > 0).astype(np.float32)
    folds = np.arange(60) % 3
    before = predict_out_of_fold(features, targets, folds)
    assert ((before > 0.5) == (targets > 0.5)).mean() > 0.9
    targets[folds == 1] = 1 - targets[folds == 1]
    after = predict_out_of_fold(features, targets, folds)
    np.testing.assert_array_equal(after[folds == 1], before[folds == 1])
    assert not np.allclose(after[folds != 1], before[folds != 1])


def test_probe_ignores_unknown_labels() -> None:
    features = np.random.default_rng(1).normal(size=(90, 4)).astype(np.float32)
    targets = (features[:, :1] > 0).astype(np.float32)
    folds = np.arange(90) % 3
    unknown, wrong = targets.copy(), targets.copy()
    some = np.arange(90) % 10 < 4
    unknown[some], wrong[some] = np.nan, 1 - targets[some]
    right = [
        ((predict_out_of_fold(features, each, folds) > 0.5) == (targets > 0.5))[some].mean()
        for each in (unknown, wrong)
    ]
    assert right[0] > 0.9 > right[1]


def test_near_duplicates_share_a_fold() -> None:
    rows = toy.dataset(50, per_split=0)
    twice = Dataset(rows.texts * 2, np.concatenate([rows.targets] * 2), rows.labels, rows.split * 2)
    folds = assign_folds(twice, 5, 0)
    assert np.array_equal(folds[:50], folds[50:])
    assert np.bincount(folds).min() >= 16


# Reviews


def count_restored(found: list[LabelSuggestion], removed: set[tuple[int, str]]) -> int:
    """Count the suggestions that restore a removed label."""
    return sum(any((one.row, label) in removed for label in one.add) for one in found)


def test_rows_with_removed_labels_rank_first(run: Path, encoder: Path) -> None:
    data, removed = remove_labels(toy.dataset(720), 30)
    found = [one for one in review_labels(run, data, encoder=str(encoder)) if one.split == "train"]
    assert count_restored(found[:20], removed) >= 14  # 30 of 600 rows have lost a label
    assert len({one.row for one in found}) == len(found)
    for one in found:
        assert one.text == data.texts[one.row - 1]
        assert set(one.suggested) == (set(one.given) | set(one.add)) - set(one.remove)
        assert set(one.remove) <= set(one.given)
        assert not set(one.add) & set(one.given)
    assert [one.confidence for one in found] == sorted((one.confidence for one in found), reverse=True)


def record_scored_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the texts that a review scores with the run."""
    scored_texts: list[str] = []
    own = review.score_with_run
    monkeypatch.setattr(review, "score_with_run", lambda *given: (scored_texts.extend(given[2]), own(*given))[1])
    return scored_texts


def test_run_scores_held_out_rows_only(run: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored_texts, data = record_scored_texts(monkeypatch), toy.dataset(720)
    review_labels(run, data, encoder=str(encoder))
    assert scored_texts == [text for text, split in zip(data.texts, data.split, strict=True) if split != "train"]
    scored_texts.clear()
    review_labels(run, replace(data, split=("",) * 720).take(range(200)), encoder=str(encoder))
    assert scored_texts == []  # without splits, the run may have been trained on any row


def test_review_uses_the_split_of_the_run(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = replace(toy.dataset(200), split=("",) * 200)
    train(data, tmp_path / "run", model=str(encoder), config=TrainConfig(**{**toy.RECIPE, "epochs": 1, "seed": 5}))
    scored_texts = record_scored_texts(monkeypatch)
    review_labels(tmp_path / "run", data, encoder=str(encoder))
    validation = read_dataset(tmp_path / "run" / "validation.jsonl", labels=toy.LABELS).texts
    assert len(scored_texts) == 40
    assert sum(text in validation for text in scored_texts) == 20
    changed = replace(data, targets=np.vstack([1 - data.targets[:1], data.targets[1:]]))
    scored_texts.clear()
    review_labels(tmp_path / "run", changed, encoder=str(encoder))
    assert scored_texts == []


def test_fold_models_find_removed_labels(
    run: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads((run / "run.json").read_text())
    content["details"]["recipe"] |= {"epochs": 16, "patience": 16}  # for as many steps on half of the rows
    (tmp_path / "run.json").write_text(json.dumps(content))
    monkeypatch.setattr(review, "score_with_run", lambda *_: np.full((120, 4), 0.5))
    monkeypatch.setattr(review, "average_in_logits", lambda quick, trained: trained)
    data, removed = remove_labels(toy.dataset(720), 30)
    found = review_labels(tmp_path, data, retrain=True, folds=2, encoder=str(encoder))
    assert count_restored([one for one in found if one.split == "train"][:20], removed) >= 14


def test_scores_are_averaged_in_logits() -> None:
    both = average_in_logits(np.array([[0.5, 1.0]]), np.array([[0.9, 0.0]]))
    np.testing.assert_allclose(both, [[0.75, 0.5]])


def test_unknown_labels_get_suggestions(run: Path, encoder: Path) -> None:
    whole = toy.dataset(720)
    hidden = np.random.default_rng(3).random(whole.targets.shape) < 0.2
    data = replace(whole, targets=np.where(hidden, np.nan, whole.targets).astype(np.float32))
    found = review_labels(run, data, unknown=True, encoder=str(encoder))
    pairs = [(one.row - 1, data.labels.index(label)) for one in found for label in one.add]
    assert all(hidden[pair] for pair in pairs)
    assert not any(one.remove for one in found)
    assert np.mean([whole.targets[pair] for pair in pairs[:100]]) > 0.9
    for one in review_labels(run, data, encoder=str(encoder)):
        assert not any(hidden[one.row - 1, data.labels.index(label)] for label in (*one.add, *one.remove))


def test_positive_only_labels_get_additions_only(run: Path, encoder: Path) -> None:
    whole = toy.dataset(720)
    positives = np.where((np.random.default_rng(3).random(whole.targets.shape) < 0.7) & (whole.targets == 1), 1, np.nan)
    data = replace(whole, targets=positives.astype(np.float32))
    assert review_labels(run, data, encoder=str(encoder)) == []
    found = [one for one in review_labels(run, data, unknown=True, encoder=str(encoder)) if one.split == "train"]
    right = [whole.targets[one.row - 1, data.labels.index(label)] for one in found for label in one.add]
    assert len(right) > 50
    assert np.mean(right[:50]) > 0.9


# Errors


def test_review_needs_the_base_model(run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"started from 'encoder', which cannot be found.*--encoder"):
        review_labels(run, toy.dataset(720))


def test_review_rejects_other_labels_and_few_rows(run: Path, encoder: Path) -> None:
    with pytest.raises(LabelMismatch, match="4 labels and the data 1"):
        review_labels(run, Dataset(("x",), np.ones((1, 1), dtype=np.float32), ("other",)))
    with pytest.raises(DataError, match="3 rows are too few"):
        review_labels(run, toy.dataset(3, per_split=0), encoder=str(encoder))
    same = Dataset(("app",) * 20, np.ones((20, 4), dtype=np.float32), toy.LABELS)
    with pytest.raises(DataError, match="all 20 rows are near-duplicates"):
        review_labels(run, same, encoder=str(encoder))


# The table


def make_suggestion(text: str, *labels: str) -> LabelSuggestion:
    return LabelSuggestion(7, "train", text, labels[:1], labels, dict.fromkeys(labels[1:], 0.75), {})


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("text", ["=1+1", "+49 30 1234", "-5 stars", "@cmd", "\t=1", "\r=1", "\n=1"])
def test_review_table_escapes_formulas(tmp_path: Path, text: str) -> None:
    write_table([make_suggestion(text, text, "b")], tmp_path / "a.csv")
    (row,) = rows_of(tmp_path / "a.csv")
    assert row["text"] == row["given"] == "'" + text
    assert (row["suggested"], row["confidence"], row["add"], row["remove"]) == ("'" + text + "|b", "0.7500", "b", "")
    assert (row["split"], row["row"]) == ("train", "7")
    write_table([make_suggestion(text, text, "b")], tmp_path / "a.csv", raw=True)
    assert rows_of(tmp_path / "a.csv")[0]["text"] == text


def test_review_table_round_trip_of_any_text(tmp_path: Path) -> None:
    text = 'größe, "quoted"\nsecond line 👩‍💻'
    write_table([make_suggestion(text, "price, value", "b")], tmp_path / "a.csv", separator=";")
    assert (tmp_path / "a.csv").read_bytes().startswith(b"\xef\xbb\xbftext,given,suggested,confidence")
    assert rows_of(tmp_path / "a.csv")[0]["text"] == text
    assert rows_of(tmp_path / "a.csv")[0]["suggested"] == "price, value;b"
    write_table([make_suggestion("\ud800", "a", "b")], tmp_path / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_reviewed_table_can_be_trained_on(tmp_path: Path) -> None:
    write_table([make_suggestion("one", "a", "b"), make_suggestion("two", "b", "c")], tmp_path / "a.csv")
    data = read_dataset(tmp_path / "a.csv", Columns(labels="suggested"))
    assert data.labels == ("a", "b", "c")
    np.testing.assert_array_equal(data.targets, [[1, 1, 0], [0, 1, 1]])


def test_review_table_round_trip(tmp_path: Path) -> None:
    suggestions = [make_suggestion("größe", "a", "b"), LabelSuggestion(1, "", "x", ("a",), (), {}, {"a": 0.25})]
    write_review(as_document(suggestions, 2), tmp_path)
    assert read_review(tmp_path) == suggestions
    write_review(as_document([make_suggestion("\ud800", "a", "b")], 1), tmp_path)
    assert read_review(tmp_path)[0].text == "\ufffd"
    (tmp_path / "review.json").write_text('{"suggestions": [{"row": 1}]}')
    with pytest.raises(CheckpointError, match="damaged"):
        read_review(tmp_path)
    assert read_review(tmp_path / "elsewhere") == []


def test_invalid_review_output_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(OutputExists, match="--force"):
        check_table_path(tmp_path / "a.csv", force=False)
    check_table_path(tmp_path / "a.csv", force=True)
    with pytest.raises(InputError, match="is a folder"):
        check_table_path(tmp_path, force=True)
    with pytest.raises(InputError, match="does not exist"):
        check_table_path(tmp_path / "no" / "a.csv", force=False)
    with pytest.raises(InputError, match="cannot be written"):
        write_table([], tmp_path / "no" / "a.csv")


# The command


def ask(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    """Return a copy of the run that a command may write to."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_review_command_writes_and_summarises(own_run: Path, encoder: Path, tmp_path: Path) -> None:
    data, removed = remove_labels(toy.dataset(720), 30)
    file = toy.write_csv(tmp_path / "data.csv", data)
    done = ask(own_run, file, "--encoder", encoder, "--limit", 25, "--json")
    assert done.exit_code == 0, done.output
    assert f"{own_run / 'review.csv'}: 25 of" in done.stderr
    assert "suspicious rows among 720; " in done.stderr
    rows = rows_of(own_run / "review.csv")
    assert len(rows) == 25
    assert any((int(row["row"]), row["add"]) in removed for row in rows)
    document = json.loads(done.stdout)["suggestions"]
    assert [one["row"] for one in document] == [int(row["row"]) for row in rows]
    assert [one.row for one in read_review(own_run)] == [int(row["row"]) for row in rows]
    again = ask(own_run, file, "--encoder", encoder, "--limit", 5)  # the table in the run is replaced
    assert again.exit_code == 0, again.output
    assert len(rows_of(own_run / "review.csv")) == 5
    kept = ask(own_run, file, "--encoder", encoder, "-o", file)
    assert isinstance(kept.exception, OutputExists)


def test_reviewed_rows_may_lack_rare_labels(own_run: Path, encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("text,labels\n" + "parcel late,delivery\ninvoice bad,billing\n" * 10)
    assert read_dataset(tmp_path / "few.csv").labels == ("billing", "delivery")
    done = ask(own_run, tmp_path / "few.csv", "-o", tmp_path / "out.csv", "--encoder", encoder)
    assert done.exit_code == 0, done.output
    other = ask(own_run, tmp_path / "few.csv", "-o", tmp_path / "b.csv", "--labels", "billing,delivery")
    assert isinstance(other.exception, LabelMismatch)


def test_review_counts_unknown_labels(own_run: Path, encoder: Path, tmp_path: Path) -> None:
    rows = ["text,billing,delivery,price,user experience", *["parcel late,0,1,,0", "invoice bad,1,0,0,0"] * 10]
    (tmp_path / "some.csv").write_text("\n".join(rows))
    names = "billing,delivery,price,user experience"
    done = ask(own_run, tmp_path / "some.csv", "--encoder", encoder, "--label-columns", names)
    assert done.exit_code == 0, done.output
    assert "10 unknown entries were not reviewed; --unknown reviews them." in done.stdout


def test_help_explains_every_option() -> None:
    document = ask("--help")
    assert document.exit_code == 0
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))
