"""Warm start from a multi-class classifier: its head is carried over."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.helpers import toy
from transformers import set_seed

from manylabel.errors import CheckpointError
from manylabel.inference.tokenizer import LongText
from manylabel_train.data.dataset import Dataset
from manylabel_train.evaluation.metrics import multilabel_metrics
from manylabel_train.models import checkpoint
from manylabel_train.models.classification_head import output_layer
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.model_init import carry_over_model, create_model, fit_biases
from manylabel_train.training.train import train

TRAINED_ON = 120
GOAL = 0.8
"""Macro average precision on validation texts; the steps until it is reached are counted."""


@dataclass(frozen=True)
class TrainingProgress:
    """Macro average precision before the first step, and the optimiser steps until it reaches the goal."""

    start: float
    steps: int


def train_and_count(folder: Path, source: Path, data: Dataset, *, carried: bool) -> TrainingProgress:
    """Train from a multi-class checkpoint with or without its head, slowly enough to see the progress."""
    config = TrainConfig(epochs=12, learning_rate=5e-4, batch_size=16, patience=12, precision="fp32")
    train_rows, held_out = data.part("train"), data.part("validation")
    priors = (train_rows.targets.sum(axis=0) + 1.0) / (len(train_rows) + 2.0)
    reader = checkpoint.to_runtime_tokenizer(checkpoint.load_tokenizer(str(source)), 32, tokens())
    set_seed(config.seed)
    if carried:
        model, _, _ = carry_over_model(str(source), data.labels, priors)
        fit_biases(model, reader, train_rows.texts, priors)
    else:
        model = create_model(str(source), data.labels, priors)
    start = multilabel_metrics(checkpoint.predict_proba(model, reader, held_out.texts), held_out.targets)
    how = {"start_from": str(source)} if carried else {"model": str(source)}
    log = train(data, folder, config=config, **how).details["log"]
    last = max(entry["step"] for entry in log)
    reached = [entry["step"] for entry in log if entry.get("eval_macro_average_precision", 0) >= GOAL]
    return TrainingProgress(start["macro_average_precision"], min(reached, default=last))


def tokens() -> LongText:
    return LongText("truncate", overlap=0)


def test_warm_start_beats_fresh_head(multiclass: Path, tmp_path: Path) -> None:
    """On three data sets, with the same encoder and configuration; a run that misses the goal counts in full."""
    carried, fresh = [], []
    for seed in (7, 8, 9):
        data = toy.dataset(120 + TRAINED_ON, seed=seed)
        carried.append(train_and_count(tmp_path / f"carried{seed}", multiclass, data, carried=True))
        fresh.append(train_and_count(tmp_path / f"fresh{seed}", multiclass, data, carried=False))
        print(f"carried over: {carried[-1]}   fresh head: {fresh[-1]}")
    assert all(ours.start > theirs.start for ours, theirs in zip(carried, fresh, strict=True))
    assert np.mean([one.start for one in carried]) > np.mean([one.start for one in fresh]) + 0.08
    assert sum(one.steps for one in carried) < 0.7 * sum(one.steps for one in fresh)


def test_warm_start_matches_labels_by_name(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source", problem_type="single_label_classification")
    before = output_layer(checkpoint.load_model(str(source))[0])
    labels = ("returns", "price", "billing")
    model, fresh, dropped = carry_over_model(str(source), labels, np.array([0.1, 0.2, 0.3]))
    after = output_layer(model)
    assert (fresh, dropped) == (["returns"], ["delivery", "user experience"])
    for column, label in ((1, "price"), (2, "billing")):
        torch.testing.assert_close(after.weight[column], before.weight[toy.LABELS.index(label)])
        torch.testing.assert_close(after.bias[column], before.bias[toy.LABELS.index(label)])
    assert after.bias[0].item() == pytest.approx(np.log(0.1 / 0.9), rel=1e-5)
    assert model.config.problem_type == "multi_label_classification"
    assert checkpoint.read_labels(model.config) == labels
    assert model.num_labels == model.config.num_labels == 3


def test_warm_start_save_load_round_trip(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source", problem_type="single_label_classification")
    model, _, _ = carry_over_model(str(source), ("price", "new"), np.array([0.2, 0.3]))
    model.save_pretrained(tmp_path / "saved")
    again, missing = checkpoint.load_model(str(tmp_path / "saved"))
    assert not missing
    ids = torch.tensor([[2, 9, 10, 3]])
    torch.testing.assert_close(again(input_ids=ids).logits, model(input_ids=ids).logits)


def test_warm_start_fits_bias_to_priors(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source", problem_type="single_label_classification")
    model, _, _ = carry_over_model(str(source), toy.LABELS, np.full(4, 0.25))
    reader = checkpoint.to_runtime_tokenizer(checkpoint.load_tokenizer(str(source)), 32, tokens())
    texts = ["parcel late"] * 600 + ["invoice"] * 600  # sorted, as files often are
    wanted = np.array([0.05, 0.2, 0.5, 0.8])
    fit_biases(model, reader, texts, wanted)
    np.testing.assert_allclose(checkpoint.predict_proba(model, reader, texts).mean(axis=0), wanted, atol=1e-4)


def test_run_records_warm_start_without_paths(multiclass: Path, tmp_path: Path) -> None:
    data = toy.dataset(160, labels=(*toy.LABELS[:3], "returns"))
    with pytest.warns(UserWarning, match="'returns'"):  # no text has it
        run = train(
            data, tmp_path / "run", start_from=str(multiclass), config=TrainConfig(**{**toy.RECIPE, "epochs": 1})
        )
    assert run.details["origin"] == {
        "carried_from": multiclass.name,
        "fresh_labels": ["returns"],
        "dropped_labels": ["user experience"],
    }


def test_similar_label_names_are_suggested(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source")
    with pytest.warns(UserWarning, match="'Delivery' starts new and the checkpoint's label 'delivery' is dropped"):
        carry_over_model(str(source), ("Delivery", "price"), np.array([0.2, 0.2]))


def test_warm_start_without_common_labels(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source", labels=["LABEL_0", "LABEL_1"])
    with pytest.raises(CheckpointError, match=r"shares no label .*LABEL_0, LABEL_1; the data price.*id2label"):
        carry_over_model(str(source), ("price",), np.array([0.2]))


def test_warm_start_needs_a_head(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source", head=False)
    with pytest.raises(CheckpointError, match=r"no trained classification head of 4 labels .*--model"):
        carry_over_model(str(source), toy.LABELS, np.full(4, 0.2))


def test_warm_start_rejects_mismatched_head(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source")
    config = source / "config.json"
    config.write_text(re.sub(r',\s*"3": "user experience"', "", config.read_text()))
    with pytest.raises(CheckpointError, match="no trained classification head of 3 labels"):
        carry_over_model(str(source), toy.LABELS[:3], np.full(3, 0.2))
