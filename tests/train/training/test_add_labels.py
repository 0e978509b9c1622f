"""Adding a label to a multi-label model: it learns the new one and keeps its decisions for the old ones."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from tests.helpers import toy

from manylabel.cli.main import main
from manylabel.errors import CheckpointError, DataError, InputError, LabelMismatch
from manylabel.inference.tokenizer import LongText
from manylabel_train.cli.train import train as train_command
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.training_run import read_run
from manylabel_train.models import checkpoint
from manylabel_train.training.add_labels import TeacherScores, score_with_teacher, widen_labels
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.losses import BinaryCrossEntropy, Distillation
from manylabel_train.training.train import train

OLD, NEW = ("billing", "delivery", "price"), "user experience"
CONFIG = TrainConfig(**toy.RECIPE)
LONGER = replace(CONFIG, epochs=20, patience=20)


def only(data: Dataset, labels: Sequence[str]) -> Dataset:
    columns = [data.labels.index(label) for label in labels]
    return replace(data, targets=data.targets[:, columns], labels=tuple(labels))


@pytest.fixture(scope="module")
def old(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with three of the four labels; do not modify it."""
    folder = tmp_path_factory.mktemp("old") / "run"
    train(only(toy.dataset(900), OLD), folder, model=str(encoder), config=TrainConfig(**toy.RECIPE))
    return folder


@pytest.fixture(scope="module")
def grown(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same run with the fourth label, learned from other texts; do not modify it."""
    folder = tmp_path_factory.mktemp("grown") / "run"
    train(new_label_data(), folder, start_from=str(old), add_labels=[NEW], config=LONGER)
    return folder


def new_label_data() -> Dataset:
    """Return texts for which only the new label is known."""
    return only(toy.dataset(900, seed=5), [NEW])


def f1(run: Path, data: Dataset) -> dict[str, float]:
    """Return each label's F1 on fully labelled texts at the run's own thresholds."""
    found = read_run(run)
    known = data.reorder(found.labels)
    decided = answers(run, data.texts) >= np.array(found.thresholds, dtype=np.float32)
    hits = (decided & (known.targets == 1)).sum(axis=0)
    return dict(zip(found.labels, 2 * hits / (decided.sum(axis=0) + known.targets.sum(axis=0)), strict=True))


def answers(run: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return a run's probabilities."""
    model, _ = checkpoint.load_model(str(run))
    reader = checkpoint.to_runtime_tokenizer(checkpoint.load_tokenizer(str(run)), 32, LongText("truncate", overlap=0))
    return checkpoint.predict_proba(model, reader, texts)


def test_add_label_learns_without_forgetting(old: Path, grown: Path) -> None:
    unseen = toy.dataset(300, seed=9, per_split=50)
    before, after = f1(old, only(unseen, OLD)), f1(grown, unseen)
    assert after[NEW] > 0.7
    for label in OLD:
        assert after[label] > before[label] - 0.05, (before, after)


def test_old_labels_drift_without_distillation(old: Path, grown: Path, tmp_path: Path) -> None:
    """The same training, without targets for the old labels."""

    def forget(*arguments: Any) -> TeacherScores:
        teacher = score_with_teacher(*arguments)
        nothing = np.full_like(teacher.train, np.nan)
        return replace(teacher, train=nothing, validation=np.full_like(teacher.validation, np.nan))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manylabel_train.training.train.score_with_teacher", forget)
        train(new_label_data(), tmp_path / "run", start_from=str(old), add_labels=[NEW], config=LONGER)
    texts = toy.dataset(300, seed=9).texts
    before = answers(old, texts)
    kept, drifted = (np.abs(answers(path, texts)[:, :3] - before).mean() for path in (grown, tmp_path / "run"))
    assert kept < 0.5 * drifted, (kept, drifted)


def test_run_reports_old_label_metrics(old: Path, grown: Path) -> None:
    run = read_run(grown)
    assert run.labels == (*OLD, NEW)
    assert run.details["origin"]["added_labels"] == [NEW]
    assert run.details["origin"]["thresholds_kept"] == list(OLD)
    assert run.details["origin"]["old_decisions_kept"] > 0.97
    assert run.details["data"]["unknown_entries"]["train"] == 3 * 780


def test_old_head_rows_are_carried_over(old: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, learning_rate=1e-12)
    train(new_label_data(), tmp_path / "run", start_from=str(old), add_labels=[NEW], config=config)
    ours, theirs = (checkpoint.load_model(str(path))[0].classifier for path in (tmp_path / "run", old))
    torch.testing.assert_close(ours.weight[:3], theirs.weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.bias[:3], theirs.bias, atol=1e-6, rtol=0)
    assert read_run(tmp_path / "run").thresholds[:3] == pytest.approx(read_run(old).thresholds)


def test_known_old_labels_are_used(old: Path, tmp_path: Path) -> None:
    """Here they contradict the old model."""
    data = only(toy.dataset(600, seed=5), ["billing", NEW])
    turned = replace(data, targets=np.stack([1 - data.targets[:, 0], data.targets[:, 1]], axis=1))
    train(turned, tmp_path / "run", start_from=str(old), add_labels=[NEW], config=CONFIG)
    unseen = toy.dataset(300, seed=9, per_split=50)
    billing = unseen.targets[:, 0] == 1
    for path, order in ((old, 1), (tmp_path / "run", -1)):
        found = answers(path, unseen.texts)[:, 0]
        assert order * (found[billing].mean() - found[~billing].mean()) > 0.1
    assert read_run(tmp_path / "run").details["origin"]["thresholds_kept"] == ["delivery", "price"]


def test_two_labels_are_added_at_once(encoder: Path, tmp_path: Path) -> None:
    train(only(toy.dataset(240), OLD[:2]), tmp_path / "old", model=str(encoder), config=replace(CONFIG, epochs=2))
    config, added = replace(CONFIG, epochs=2), ["price", NEW]
    run = train(
        only(toy.dataset(240, seed=5), [NEW, "price"]),
        tmp_path / "run",
        start_from=str(tmp_path / "old"),
        add_labels=added,
        config=config,
    )
    assert run.labels == ("billing", "delivery", "price", NEW)


def test_checkpoint_without_run_uses_0_5(elsewhere: Path) -> None:
    data = replace(new_label_data(), labels=("new",))
    wide = widen_labels(data, str(elsewhere), ["new"])
    reader = checkpoint.to_runtime_tokenizer(
        checkpoint.load_tokenizer(str(elsewhere)), 32, LongText("truncate", overlap=0)
    )
    model, _ = checkpoint.load_model(str(elsewhere))
    probabilities = checkpoint.predict_proba(model, reader, wide.part("validation").texts)
    padded = np.concatenate([probabilities, np.zeros((60, 1), dtype=np.float32)], axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "predict_proba", lambda *_: padded.copy())
        teacher = score_with_teacher(model, reader, wide, str(elsewhere), ["new"])
    assert teacher.thresholds.tolist() == [0.5] * 5
    filled = teacher.fill_unknown(wide.part("validation"))
    np.testing.assert_array_equal(filled.targets[:, :4], probabilities >= 0.5)
    np.testing.assert_array_equal(filled.targets[:, 4], data.part("validation").targets[:, 0])


def test_distillation_loss_fills_unknown_targets() -> None:
    logits, rows = torch.tensor([[0.3, -2.0, 1.0], [1.5, 0.2, -1.0]]), torch.tensor([1, 0])
    soft = np.array([[0.5, 0.5, np.nan], [0.9, 0.2, np.nan]], dtype=np.float32)
    nothing = torch.full((2, 3), torch.nan)
    probabilities = torch.sigmoid(logits[:, :2])
    wanted = torch.tensor([[0.9, 0.2], [0.5, 0.5]])
    by_hand = -(wanted * probabilities.log() + (1 - wanted) * (1 - probabilities).log()).mean()
    torch.testing.assert_close(Distillation(soft)(logits, nothing, rows), by_hand)
    known = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(Distillation(soft)(logits, known, rows), BinaryCrossEntropy()(logits, known, rows))
    assert Distillation(np.full((2, 3), np.nan, dtype=np.float32))(logits, nothing, rows) == 0


@pytest.mark.parametrize(
    ("labels", "added", "error", "parts"),
    [
        ([NEW], ["price"], InputError, ["already has the label 'price'", "Leave it out of --add-label"]),
        ([NEW], [NEW, NEW], InputError, ["repeats a label"]),
        (
            [NEW],
            ["returns"],
            LabelMismatch,
            ["no text in the data has 'returns'; the labels in the data are 'user experience'"],
        ),
        ([NEW, "billing"], [NEW, "app"], LabelMismatch, ["no text in the data has 'app'"]),
    ],
)
def test_invalid_label_to_add_error(
    old: Path, tmp_path: Path, labels: list[str], added: list[str], error: type[Exception], parts: list[str]
) -> None:
    with pytest.raises(error) as caught:
        train(only(toy.dataset(240), labels), tmp_path / "run", start_from=str(old), add_labels=added, config=CONFIG)
    for part in parts:
        assert part in str(caught.value)


def test_unexpected_label_error(old: Path, tmp_path: Path) -> None:
    data = replace(only(toy.dataset(240), [NEW, "billing"]), labels=(NEW, "returns"))
    with pytest.raises(LabelMismatch, match="'returns', neither among the 3 labels of run nor added"):
        train(data, tmp_path / "run", start_from=str(old), add_labels=[NEW], config=CONFIG)


def test_add_label_rejects_multiclass_checkpoint(multiclass: Path, tmp_path: Path) -> None:
    data = replace(only(toy.dataset(240), [NEW]), labels=("returns",))
    with pytest.raises(CheckpointError, match=r"assigns each text exactly one of its 4 labels .* --from alone"):
        train(data, tmp_path / "run", start_from=str(multiclass), add_labels=["returns"], config=CONFIG)


@pytest.mark.parametrize(("value", "verb"), [(1.0, "lack"), (0.0, "have")])
def test_add_label_needs_positives_and_negatives(old: Path, tmp_path: Path, value: float, verb: str) -> None:
    data = new_label_data()
    learned = np.array([split == "train" for split in data.split])
    one_sided = replace(data, targets=np.where(learned[:, None], np.float32(value), data.targets))
    with pytest.raises(DataError, match=f"no training text is known to {verb} the added label 'user experience'"):
        train(one_sided, tmp_path / "run", start_from=str(old), add_labels=[NEW], config=CONFIG)


def test_add_label_rejects_other_losses(old: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="with cross-entropy, not 'focal'"):
        train(
            new_label_data(),
            tmp_path / "run",
            start_from=str(old),
            add_labels=[NEW],
            config=replace(CONFIG, loss="focal"),
        )


def test_add_label_on_the_command_line(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(main), "get_command", lambda *_: train_command)
    data = toy.write_csv(tmp_path / "data.csv", new_label_data())
    words = ["train", data, "-o", tmp_path / "run", "--add-label", NEW, "--epochs", 2, "--train-precision", "fp32"]
    refused = CliRunner().invoke(main, [str(word) for word in words])
    assert refused.exit_code == 2
    assert "Pass it with --from" in refused.stderr
    done = CliRunner().invoke(main, [str(word) for word in (*words, "--from", old)])
    assert done.exit_code == 0, done.output
    assert "labels that were added: user experience" in done.stdout
    assert "unknown for some validation texts: billing, delivery, price" in done.stdout
    assert "unchanged decisions of old labels on validation" in done.stdout
    assert "warning" not in done.stderr
