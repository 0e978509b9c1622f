"""From one label a text to several: what the multi-class head knew is where training starts."""

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
from manylabel_train.training.model_init import carried_model, fit_biases, fresh_model, output_layer
from manylabel_train.training.train import Recipe, train

TRAINED_ON = 120
GOAL = 0.8
"""The macro average precision on validation texts to which steps are counted."""


@dataclass(frozen=True)
class Course:
    """A training: macro average precision before its first step, and the optimiser steps until it reached the goal."""

    start: float
    steps: int


def course(folder: Path, source: Path, data: Dataset, *, carried: bool) -> Course:
    """Train from a multi-class checkpoint with its head or without, slowly enough to see the way."""
    recipe = Recipe(epochs=12, learning_rate=5e-4, batch_size=16, patience=12, precision="fp32")
    train_rows, held_out = data.part("train"), data.part("validation")
    priors = (train_rows.targets.sum(axis=0) + 1.0) / (len(train_rows) + 2.0)
    reader = checkpoint.runtime_tokenizer(checkpoint.load_tokenizer(str(source)), 32, tokens())
    set_seed(recipe.seed)
    if carried:
        model, _, _ = carried_model(str(source), data.labels, priors)
        fit_biases(model, reader, train_rows.texts, priors)
    else:
        model = fresh_model(str(source), data.labels, priors)
    start = multilabel_metrics(checkpoint.predict_proba(model, reader, held_out.texts), held_out.targets)
    how = {"start_from": str(source)} if carried else {"model": str(source)}
    log = train(data, folder, recipe=recipe, **how).details["log"]
    last = max(entry["step"] for entry in log)
    reached = [entry["step"] for entry in log if entry.get("eval_macro_average_precision", 0) >= GOAL]
    return Course(start["macro_average_precision"], min(reached, default=last))


def tokens() -> LongText:
    return LongText("truncate", overlap=0)


def test_a_carried_head_starts_better_and_needs_fewer_steps_than_a_fresh_one(multiclass: Path, tmp_path: Path) -> None:
    """On three sets of texts, the same encoder and recipe both ways; a run that never reaches the goal counts whole."""
    carried, fresh = [], []
    for seed in (7, 8, 9):
        data = toy.dataset(120 + TRAINED_ON, seed=seed)
        carried.append(course(tmp_path / f"carried{seed}", multiclass, data, carried=True))
        fresh.append(course(tmp_path / f"fresh{seed}", multiclass, data, carried=False))
        print(f"carried over: {carried[-1]}   fresh head: {fresh[-1]}")
    assert all(ours.start > theirs.start for ours, theirs in zip(carried, fresh, strict=True))
    assert np.mean([one.start for one in carried]) > np.mean([one.start for one in fresh]) + 0.08
    assert sum(one.steps for one in carried) < 0.7 * sum(one.steps for one in fresh)


def test_rows_go_by_label_name_and_new_and_dropped_labels_are_named(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source", problem_type="single_label_classification")
    before = output_layer(checkpoint.load_model(str(source))[0])
    labels = ("returns", "price", "billing")
    model, fresh, dropped = carried_model(str(source), labels, np.array([0.1, 0.2, 0.3]))
    after = output_layer(model)
    assert (fresh, dropped) == (["returns"], ["delivery", "user experience"])
    for column, label in ((1, "price"), (2, "billing")):
        torch.testing.assert_close(after.weight[column], before.weight[toy.LABELS.index(label)])
        torch.testing.assert_close(after.bias[column], before.bias[toy.LABELS.index(label)])
    assert after.bias[0].item() == pytest.approx(np.log(0.1 / 0.9), rel=1e-5)
    assert model.config.problem_type == "multi_label_classification"
    assert checkpoint.labels_of(model.config) == labels
    assert model.num_labels == model.config.num_labels == 3


def test_the_carried_model_survives_being_saved(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source", problem_type="single_label_classification")
    model, _, _ = carried_model(str(source), ("price", "new"), np.array([0.2, 0.3]))
    model.save_pretrained(tmp_path / "saved")
    again, missing = checkpoint.load_model(str(tmp_path / "saved"))
    assert not missing
    ids = torch.tensor([[2, 9, 10, 3]])
    torch.testing.assert_close(again(input_ids=ids).logits, model(input_ids=ids).logits)


def test_biases_are_fitted_to_the_priors_on_texts_from_the_whole_set(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source", problem_type="single_label_classification")
    model, _, _ = carried_model(str(source), toy.LABELS, np.full(4, 0.25))
    reader = checkpoint.runtime_tokenizer(checkpoint.load_tokenizer(str(source)), 32, tokens())
    texts = ["parcel late"] * 600 + ["invoice"] * 600  # sorted, as files often are
    wanted = np.array([0.05, 0.2, 0.5, 0.8])
    fit_biases(model, reader, texts, wanted)
    np.testing.assert_allclose(checkpoint.predict_proba(model, reader, texts).mean(axis=0), wanted, atol=1e-4)


def test_a_run_tells_what_was_carried_and_keeps_no_path(multiclass: Path, tmp_path: Path) -> None:
    data = toy.dataset(160, labels=(*toy.LABELS[:3], "returns"))
    with pytest.warns(UserWarning, match="'returns'"):  # no text has it
        run = train(data, tmp_path / "run", start_from=str(multiclass), recipe=Recipe(**{**toy.RECIPE, "epochs": 1}))
    assert run.details["origin"] == {
        "carried_from": multiclass.name,
        "fresh_labels": ["returns"],
        "dropped_labels": ["user experience"],
    }


def test_names_that_are_nearly_alike_are_pointed_at(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source")
    with pytest.warns(UserWarning, match="'Delivery' starts fresh and the checkpoint's 'delivery' is dropped"):
        carried_model(str(source), ("Delivery", "price"), np.array([0.2, 0.2]))


def test_no_label_in_common(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source", labels=["LABEL_0", "LABEL_1"])
    with pytest.raises(CheckpointError, match=r"shares no label .*LABEL_0, LABEL_1; the data price.*id2label"):
        carried_model(str(source), ("price",), np.array([0.2]))


def test_an_encoder_has_no_head_to_carry(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source", head=False)
    with pytest.raises(CheckpointError, match=r"no trained classification head of 4 labels .*--model"):
        carried_model(str(source), toy.LABELS, np.full(4, 0.2))


def test_a_head_of_another_number_of_labels_than_its_configuration_is_not_taken_for_trained(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source")
    config = source / "config.json"
    config.write_text(re.sub(r',\s*"3": "user experience"', "", config.read_text()))
    with pytest.raises(CheckpointError, match="no trained classification head of 3 labels"):
        carried_model(str(source), toy.LABELS[:3], np.full(3, 0.2))
