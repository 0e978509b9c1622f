"""Training: from labelled texts to a run, with its metrics, files, errors and warnings."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import toy
from transformers import AutoModelForSequenceClassification

from manylabel.errors import CheckpointError, DataError, InputError, OutputExists
from manylabel.inference.tokenizer import LongText
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.training_run import read_run
from manylabel_train.evaluation.metrics import METRICS, multilabel_metrics
from manylabel_train.models import checkpoint
from manylabel_train.models.classification_head import output_layer
from manylabel_train.thresholds.tuning import tune_thresholds
from manylabel_train.training.collate import Collator, LengthGroupedSampler, TokenizedDataset
from manylabel_train.training.config import MIN_STEPS, TrainConfig
from manylabel_train.training.model_init import create_model
from manylabel_train.training.train import train
from manylabel_train.training.trainer import MultiLabelTrainer, make_training_arguments

SHORT = TrainConfig(**{**toy.RECIPE, "epochs": 2})


def evaluations(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in log if "eval_loss" in entry]


# Learning


def test_encoder_without_pooler_learns(run: Path) -> None:
    found = read_run(run).metrics["test"]["tuned"]
    assert found["macro_average_precision"] > 0.85
    assert found["micro_f1"] > 0.75


def test_untrained_pooler_starts_as_identity(encoder: Path) -> None:
    pooler = create_model(str(encoder), toy.LABELS, np.full(4, 0.2)).bert.pooler.dense
    torch.testing.assert_close(pooler.weight, torch.eye(32))
    torch.testing.assert_close(pooler.bias, torch.zeros(32))


def test_a_trained_pooler_is_kept(tmp_path: Path) -> None:
    source = toy.write_encoder(tmp_path / "source", pooler=True)
    before, _ = checkpoint.load_model(str(source))
    after = create_model(str(source), toy.LABELS, np.full(4, 0.2))
    torch.testing.assert_close(after.bert.pooler.dense.weight, before.bert.pooler.dense.weight)
    assert not torch.equal(after.bert.pooler.dense.weight, torch.eye(32))


def test_output_bias_starts_at_label_priors(encoder: Path) -> None:
    priors = np.array([0.01, 0.1, 0.3, 0.6])
    model = create_model(str(encoder), toy.LABELS, priors)
    np.testing.assert_allclose(torch.sigmoid(output_layer(model).bias.detach()).numpy(), priors, rtol=1e-5)
    answers = torch.sigmoid(model(input_ids=torch.tensor([[2, 9, 10, 3]])).logits[0]).detach().numpy()
    np.testing.assert_allclose(answers, priors, rtol=0.5)  # also before the first step


def test_head_is_not_reused_without_from(tmp_path: Path) -> None:
    source = toy.write_checkpoint(tmp_path / "source", labels=("one", "two", "three", "four"))
    old = output_layer(checkpoint.load_model(str(source))[0])
    new = output_layer(create_model(str(source), toy.LABELS, np.full(4, 0.25)))
    assert not torch.isclose(old.weight, new.weight).any()
    torch.testing.assert_close(new.bias, torch.full((4,), float(np.log(0.25 / 0.75))))


def test_head_and_encoder_learning_rates(encoder: Path, tmp_path: Path) -> None:
    model = create_model(str(encoder), toy.LABELS, np.full(4, 0.2))
    config = SHORT.complete(model.config, 100)
    trainer = MultiLabelTrainer(
        model=model, args=make_training_arguments(config, 100, tmp_path, epochs=2), eval_dataset=[]
    )
    rates = {
        name: (group["lr"], group["weight_decay"])
        for group in trainer.create_optimizer().param_groups
        for name, parameter in model.named_parameters()
        if any(parameter is one for one in group["params"])
    }
    assert rates.keys() == {name for name, _ in model.named_parameters()}
    assert rates["bert.embeddings.word_embeddings.weight"] == (1e-3, 0.01)
    assert rates["bert.embeddings.LayerNorm.weight"] == (1e-3, 0)
    assert rates["bert.pooler.dense.weight"] == (1e-2, 0.01)
    assert rates["classifier.weight"] == (1e-2, 0.01)
    assert rates["classifier.bias"] == (1e-2, 0)


def test_sampler_covers_rows_and_groups_lengths() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 403)
    sampler = LengthGroupedSampler(lengths, 8)
    torch.manual_seed(0)
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(403))
    assert first != second
    padding = sum(np.ptp(lengths[first[at : at + 8]]) for at in range(0, 403, 8)) / 51
    assert padding < np.ptp(lengths) / 10
    torch.manual_seed(0)
    assert list(sampler) == first


def test_collator_pads_to_longest_with_float_targets(encoder: Path) -> None:
    reader = checkpoint.to_runtime_tokenizer(
        checkpoint.load_tokenizer(str(encoder)), 8, LongText("truncate", overlap=0)
    )
    rows = TokenizedDataset(
        reader, Dataset(("app", "parcel late", "bad " * 50), np.eye(3, dtype=np.float32), ("a", "b", "c"))
    )
    batch = Collator(pad_token_id=7)([rows[0], rows[1], rows[2]])
    assert batch["input_ids"].shape == (3, 8)
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 4, 8]
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 7).all()
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == np.eye(3).tolist()


# Evaluation


def test_evaluation_has_all_metrics_and_label_f1(run: Path) -> None:
    found = evaluations(read_run(run).details["log"])
    assert len(found) >= 4
    for entry in found:
        for name in (*METRICS, *(f"f1/{label}" for label in toy.LABELS)):
            assert 0 <= entry[f"eval_{name}"] <= 1


def test_run_metrics_at_0_5_and_tuned(run: Path) -> None:
    metrics = read_run(run).metrics
    assert list(metrics) == ["validation", "test"]
    for figures in metrics.values():
        assert figures["texts"] == 60
        assert tuple(figures["at_half"]) == tuple(figures["tuned"]) == METRICS
        assert figures["per_label"].keys() == set(toy.LABELS)
        assert {"precision", "recall", "f1", "support"} == figures["per_label"]["price"].keys()


def test_thresholds_use_validation_split_only(encoder: Path, tmp_path: Path) -> None:
    data = toy.dataset(300)
    of_test = np.array(data.split) == "test"
    turned = replace(data, targets=np.where(of_test[:, None], 1 - data.targets, data.targets))
    ours = train(data, tmp_path / "a", model=str(encoder), config=SHORT)
    theirs = train(turned, tmp_path / "b", model=str(encoder), config=SHORT)
    assert ours.thresholds == theirs.thresholds
    assert ours.metrics["validation"] == theirs.metrics["validation"]
    assert ours.metrics["test"] != theirs.metrics["test"]


def test_thresholds_match_the_saved_model(run: Path) -> None:
    model, missing = checkpoint.load_model(str(run))
    assert not missing
    found, rows = read_run(run), toy.dataset(720).part("validation")
    reader = checkpoint.to_runtime_tokenizer(
        checkpoint.load_tokenizer(str(run)), found.max_length, LongText("window", overlap=2)
    )
    again = tune_thresholds(checkpoint.predict_proba(model, reader, rows.texts), rows.targets)
    np.testing.assert_allclose(again, found.thresholds, atol=1e-5)


def test_bf16_run_is_evaluated_in_fp32(encoder: Path, tmp_path: Path) -> None:
    """The Trainer leaves its autocast around the model; metrics and thresholds would be of another precision."""
    data, folder = toy.dataset(), tmp_path / "run"
    found = train(data, folder, model=str(encoder), config=replace(SHORT, precision="bf16"))
    assert os.environ.get("ACCELERATE_MIXED_PRECISION", "no") == "no"  # otherwise later trainings would be in bf16, too
    model, _ = checkpoint.load_model(str(folder))
    rows = data.part("validation")
    reader = checkpoint.to_runtime_tokenizer(
        checkpoint.load_tokenizer(str(folder)), found.max_length, LongText("window", overlap=2)
    )
    scores = checkpoint.predict_proba(model, reader, rows.texts)
    exact = {name: pytest.approx(value, abs=1e-12) for name, value in multilabel_metrics(scores, rows.targets).items()}
    assert found.metrics["validation"]["at_half"] == exact
    assert checkpoint.load_config(str(folder)).problem_type == checkpoint.MULTI_LABEL


def test_the_best_epoch_is_kept(run: Path) -> None:
    found = read_run(run)
    best = max(entry["eval_macro_f1"] for entry in evaluations(found.details["log"]))
    assert found.metrics["validation"]["at_half"]["macro_f1"] == pytest.approx(best, abs=1e-6)


def test_training_stops_when_nothing_improves(encoder: Path, tmp_path: Path) -> None:
    config = TrainConfig(epochs=40, learning_rate=1e-7, batch_size=32, patience=2, precision="fp32", best_by="micro_f1")
    log = evaluations(train(toy.dataset(200), tmp_path / "run", model=str(encoder), config=config).details["log"])
    values = [entry["eval_micro_f1"] for entry in log]
    assert len(values) < 40
    assert len(values) - 1 - int(np.argmax(values)) == 2


def test_best_by_hamming_loss_is_lowest(encoder: Path, tmp_path: Path) -> None:
    config = replace(TrainConfig(**toy.RECIPE), epochs=4, best_by="hamming_loss")
    run = train(toy.dataset(400), tmp_path / "run", model=str(encoder), config=config)
    least = min(entry["eval_hamming_loss"] for entry in evaluations(run.details["log"]))
    assert run.metrics["validation"]["at_half"]["hamming_loss"] == pytest.approx(least)


def test_run_is_deterministic_per_seed(encoder: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(toy.dataset(200), tmp_path / name, model=str(encoder), config=replace(SHORT, seed=seed))
    first, again, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert first == again != other
    assert read_run(tmp_path / "a").metrics == read_run(tmp_path / "b").metrics


def test_unsplit_data_is_split_by_the_seed(encoder: Path, tmp_path: Path) -> None:
    data = replace(toy.dataset(200), split=("",) * 200)
    run = train(data, tmp_path / "run", model=str(encoder), config=SHORT)
    assert run.details["data"]["texts"] == {"train": 160, "validation": 20, "test": 20}


# The written run


def test_run_is_a_hugging_face_checkpoint(run: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(run)
    assert model.config.problem_type == "multi_label_classification"
    assert tuple(model.config.id2label.values()) == toy.LABELS
    lines = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    rows = toy.dataset(720).part("validation")
    assert [line["text"] for line in lines] == list(rows.texts)
    assert [len(line["labels"]) for line in lines] == rows.targets.sum(axis=1).tolist()


def test_run_has_provenance_and_strict_json(run: Path) -> None:
    details = read_run(run).details
    assert details["origin"] == {"model": "encoder"}
    assert details["recipe"]["learning_rate"] == 1e-3
    assert details["data"]["sha256"] == toy.dataset(720).digest()
    assert details["data"]["training_positives"].keys() == set(toy.LABELS)
    assert details["versions"].keys() == {"manylabel", "torch", "transformers", "tokenizers"}
    assert {path.name for path in toy.every_json(run)} >= {"run.json", "config.json", "validation.jsonl"}


def test_run_contains_no_paths(run: Path, encoder: Path) -> None:
    for name, content in toy.content(run).items():
        assert str(encoder.parent).encode() not in content, name
        assert str(run.parent).encode() not in content, name


def test_finished_run_leaves_no_temporary_files(run: Path) -> None:
    assert [path.name for path in run.parent.iterdir()] == ["run"]


def test_any_label_survives_training(encoder: Path, tmp_path: Path) -> None:
    labels = ("user experience", "price, value", 'so-called "quality" | more', "größe 👩‍💻")
    data = replace(toy.dataset(160), labels=labels)
    run = train(data, tmp_path / "run", model=str(encoder), config=SHORT)
    assert run.labels == read_run(tmp_path / "run").labels == labels
    assert checkpoint.read_labels(checkpoint.load_config(str(tmp_path / "run"))) == labels


def test_a_single_label_is_enough(encoder: Path, tmp_path: Path) -> None:
    data = toy.dataset(160)
    data = replace(data, targets=data.targets[:, :1], labels=data.labels[:1])
    assert train(data, tmp_path / "run", model=str(encoder), config=SHORT).labels == ("billing",)


# Errors and warnings


def test_an_existing_output_is_not_overwritten(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("mine")
    with pytest.raises(OutputExists, match="--force"):
        train(toy.dataset(160), tmp_path / "run", model=str(encoder), config=SHORT)
    assert toy.content(tmp_path) == {"run/precious": b"mine"}
    train(toy.dataset(160), tmp_path / "run", model=str(encoder), config=SHORT, force=True)
    assert not (tmp_path / "run" / "precious").exists()
    assert read_run(tmp_path / "run").labels == toy.LABELS


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_warns_of_split_without_positives(encoder: Path, tmp_path: Path, split: str) -> None:
    data = toy.dataset(200)
    lacking = np.array(data.split)[:, None] == split
    data = replace(data, targets=np.where(lacking & (np.arange(4) == 2), 0, data.targets))
    with pytest.warns(UserWarning, match=f"no text of the {split} split has 'price'"):
        run = train(data, tmp_path / "run", model=str(encoder), config=SHORT)
    assert np.isfinite(run.thresholds).all()
    toy.every_json(tmp_path / "run")


def test_untrainable_data_error(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no train rows"):
        train(toy.dataset(160).part("test"), tmp_path / "run", model=str(encoder))
    assert not list(tmp_path.iterdir())


def test_invalid_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        train(toy.dataset(160), tmp_path / "run", model=str(tmp_path / "empty"))
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_diverging_training_error(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"diverged.*--learning-rate"):
        train(toy.dataset(160), tmp_path / "run", model=str(encoder), config=replace(SHORT, learning_rate=1e30))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"max_length": 7}, "max_length is 7"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"best_by": "accuracy"}, "unknown metric 'accuracy'.*macro_f1"),
    ],
)
def test_invalid_config_error(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(**numbers)


def test_max_length_beyond_the_model_error(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_length is 64, and this model reads 32 tokens at most"):
        train(toy.dataset(160), tmp_path / "run", model=str(encoder), config=replace(SHORT, max_length=64))


def test_default_epochs_and_learning_rate(encoder: Path) -> None:
    config = checkpoint.load_config(str(encoder))
    some = 32 * MIN_STEPS // 5  # five epochs make this many steps
    assert [TrainConfig().complete(config, rows).epochs for rows in (100, some, 100_000)] == [15, 5, 3]
    config.hidden_size = 768
    assert TrainConfig().complete(config, 100).learning_rate == pytest.approx(5e-5)
    assert TrainConfig().complete(config, 100).max_length == 32


# Reading a run


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"max_length": 32', '"max_length": "32"'),
        lambda text: text.replace('"thresholds"', '"treshold"'),
        lambda text: json.dumps({**json.loads(text), "thresholds": [0.5]}),
    ],
)
def test_damaged_run_error(run: Path, tmp_path: Path, damage: Any) -> None:
    (tmp_path / "run.json").write_text(damage((run / "run.json").read_text()))
    with pytest.raises(CheckpointError, match=r"run\.json"):
        read_run(tmp_path)


def test_folder_without_run_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_run(tmp_path)
