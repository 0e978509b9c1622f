"""Losses: values computed by hand, correct gradients, and training with each of them."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.helpers import toy
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from manylabel.errors import InputError
from manylabel.inference.tokenizer import LongText
from manylabel_train.data.dataset import Dataset
from manylabel_train.models import checkpoint
from manylabel_train.training.callbacks import ProgressBar
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.label_priors import resolve_loss
from manylabel_train.training.losses import KNOWN_ONLY, LOSSES, NEED_LABELS_PER_TEXT, Role, make_loss
from manylabel_train.training.model_init import create_model
from manylabel_train.training.train import train
from manylabel_train.training.trainer import (
    LOSS_FACTOR,
    LOSS_FILE,
    MultiLabelTrainer,
    last_checkpoint,
    make_training_arguments,
)

NAN = float("nan")
# Probabilities 0.8, 0.2 and 0.5 of a text with the first label and without the second; the third is unknown.
LOGITS = torch.tensor([[np.log(4), -np.log(4), 0.0]])
TARGETS = torch.tensor([[1.0, 0.0, NAN]])
SHORT = replace(TrainConfig(**toy.RECIPE), epochs=2)


def loss_of(name: str, logits: Tensor, targets: Tensor, *, positives: float = 1.5) -> Tensor:
    return make_loss(name, targets.numpy(), positives)(logits, targets, torch.arange(len(targets)))


def by_hand(name: str) -> float:
    sure, unsure = -np.log(0.8), -np.log(0.5)  # both known entries are right with probability 0.8
    regular = ((0.8 + 0.2 + 0.5 - 1.5) / 3) ** 2
    smoothed = -0.9 * np.log(0.8) - 0.1 * np.log(0.2)
    values = {
        "bce": sure,
        "weighted-bce": sure,  # at most one positive and one negative per label: equal weights
        "focal": (0.25 + 0.75) * 0.2**2 * sure / 2,
        "asymmetric": (sure - 0.15**4 * np.log(0.85)) / 2,
        "assume-negative": (2 * sure + unsure) / 3,
        "smoothed-negative": (2 * smoothed + unsure) / 3,
        "weak-negative": (2 * sure + unsure / 2) / 3,
        "expected-positives": 2 * sure / 3 + regular,
    }
    return float(values[name])


# Values and gradients


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "role"])
def test_loss_matches_manual_computation(name: str) -> None:
    assert loss_of(name, LOGITS, TARGETS).item() == pytest.approx(by_hand(name), rel=1e-5)


def test_expected_positive_regularisation() -> None:
    found = loss_of("expected-positives", LOGITS, TARGETS, positives=3.0)
    assert found.item() == pytest.approx(-2 * np.log(0.8) / 3 + (1.5 / 3) ** 2)


def test_role_loss_matches_manual_computation() -> None:
    loss = Role(TARGETS.numpy(), 1.5)
    torch.testing.assert_close(loss.estimates[0, :2].sigmoid().detach(), torch.tensor([0.995, 0.005]))
    with torch.no_grad():
        loss.estimates[0, 2] = -np.log(4)  # the third label is estimated at 0.2
    entropy = -0.8 * np.log(0.995) - 0.2 * np.log(
        0.005
    )  # cross-entropy of the estimates with the model's probabilities, for both known entries
    model = (-2 * np.log(0.8) - np.log(0.5)) / 3 - 2 * np.log(0.8) / 3
    estimates = (2 * entropy - 0.5 * np.log(0.2) - 0.5 * np.log(0.8)) / 3 - 2 * np.log(0.995) / 3
    regular = ((0.995 + 0.005 + 0.2 - 1.5) / 3) ** 2
    assert loss(LOGITS, TARGETS, torch.arange(1)).item() == pytest.approx((model + estimates + regular) / 2, rel=1e-5)


def test_weighted_bce_uses_negative_positive_ratio() -> None:
    targets = torch.tensor([[1.0, 0.0], [0.0, NAN], [0.0, 0.0], [NAN, 0.0]])
    found = loss_of("weighted-bce", torch.zeros(4, 2), targets)
    assert found.item() == pytest.approx((2 * np.log(2) + 5 * np.log(2)) / 6)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "role"])
def test_loss_gradients_match_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    targets = torch.tensor([[1.0, 0.0, NAN], [0.0, 1.0, 1.0]])
    loss, logits = make_loss(name, targets.numpy(), 1.5), torch.randn(2, 3, requires_grad=True)
    loss(logits, targets, torch.arange(2)).backward()
    for at in itertools.product(range(2), range(3)):
        step = torch.zeros(2, 3)
        step[at] = 1e-2
        ends = [loss(logits.detach() + way * step, targets, torch.arange(2)).item() for way in (1, -1)]
        assert logits.grad is not None
        assert logits.grad[at].item() == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=2e-4)


@pytest.mark.parametrize("name", KNOWN_ONLY)
def test_unknown_label_has_no_loss_or_gradient(name: str) -> None:
    logits = LOGITS.clone().requires_grad_()
    found = loss_of(name, logits, TARGETS)
    found.backward()
    assert logits.grad is not None
    assert logits.grad[0, 2] == 0
    assert (logits.grad[0, :2] != 0).all()
    moved = LOGITS + torch.tensor([[0.0, 0.0, 9.0]])
    assert loss_of(name, moved, TARGETS).item() == pytest.approx(found.item())


def test_role_updates_batch_rows_only() -> None:
    torch.manual_seed(0)
    targets = torch.full((4, 3), NAN)
    targets[:, 0] = 1
    loss, logits = Role(targets.numpy(), 2.0), torch.randn(2, 3, requires_grad=True)
    loss(logits, targets[[3, 1]], torch.tensor([3, 1])).backward()
    assert logits.grad is not None
    assert loss.estimates.grad is not None
    assert (logits.grad != 0).all()
    assert loss.estimates.grad.abs().sum(dim=1).gt(0).tolist() == [False, True, False, True]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [0.0, 200.0])
def test_losses_are_finite_in_bf16_and_at_extremes(name: str, scale: float) -> None:
    targets = torch.tensor([[1.0, 0.0, NAN], [0.0, 1.0, NAN], [NAN, NAN, NAN]])
    logits = (scale * torch.tensor([[-1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss_of(name, logits, targets)
    assert found.dtype == torch.float32
    found.backward()
    assert logits.grad is not None
    assert torch.isfinite(found)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", KNOWN_ONLY)
def test_batch_without_known_labels_has_zero_loss(name: str) -> None:
    assert loss_of(name, torch.ones(2, 3), torch.full((2, 3), NAN)).item() == 0


# Training


def only_one_label(data: Dataset) -> Dataset:
    """Keep one label of each training row, and make the others unknown."""
    targets, draw = data.targets.copy(), np.random.default_rng(0)
    for row in np.flatnonzero(np.array(data.split) == "train"):
        present = np.flatnonzero(targets[row])
        targets[row] = NAN
        targets[row, draw.permutation(present)[:1]] = 1
    return replace(data, targets=targets)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_learns_the_task(name: str, encoder: Path, tmp_path: Path) -> None:
    data = toy.dataset(600) if name in KNOWN_ONLY else only_one_label(toy.dataset(600))
    config = TrainConfig(**toy.RECIPE, loss=name, patience=10)  # type: ignore[arg-type]  # one of them
    run = train(data, tmp_path / "run", model=str(encoder), config=config)
    assert run.metrics["test"]["tuned"]["macro_average_precision"] > 0.6  # 0.35 at random
    assert run.details["recipe"]["loss"] == name
    assert (run.details["recipe"]["labels_per_text"] is not None) == (name in NEED_LABELS_PER_TEXT)
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "run")
    assert not (tmp_path / "run" / LOSS_FILE).exists()


def test_masked_bce_equals_transformers_loss(encoder: Path, tmp_path: Path) -> None:
    data = toy.dataset(200)
    model = create_model(str(encoder), toy.LABELS, np.full(4, 0.2))
    batch = {"input_ids": torch.tensor([[2, 9, 10, 3]]), "labels": torch.from_numpy(data.targets[:1])}
    batch |= dict.fromkeys(("rows", "owners"), torch.zeros(1, dtype=torch.int64))
    config = SHORT.complete(model.config, 100)
    losses = []
    for criterion in (None, make_loss("bce", data.targets, None)):
        args = make_training_arguments(config, 100, tmp_path, epochs=2)
        trainer = MultiLabelTrainer(criterion=criterion, model=model, args=args, eval_dataset=[])
        losses.append(
            trainer.compute_loss(
                model, {**batch, **dict.fromkeys(("rows", "owners"), torch.zeros(1, dtype=torch.int64))}
            ).item()
        )
    assert losses[0] == pytest.approx(losses[1])


def test_role_estimates_have_their_own_learning_rate(encoder: Path, tmp_path: Path) -> None:
    model, loss = create_model(str(encoder), toy.LABELS, np.full(4, 0.2)), Role(toy.dataset(200).targets, 1.5)
    args = make_training_arguments(SHORT.complete(model.config, 100), 100, tmp_path, epochs=2)
    groups = MultiLabelTrainer(criterion=loss, model=model, args=args, eval_dataset=[]).create_optimizer().param_groups
    (own,) = [group for group in groups if any(each is loss.estimates for each in group["params"])]
    assert own["lr"] == pytest.approx(1e-3 * 10 * LOSS_FACTOR)
    assert own["weight_decay"] == 0


def test_role_estimates_survive_resume(encoder: Path, tmp_path: Path) -> None:
    data, config = only_one_label(toy.dataset(300)), replace(SHORT, epochs=4, patience=4, loss="role")
    whole = train(data, tmp_path / "whole", model=str(encoder), config=config)
    seen: list[None] = []

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        seen.append(None)
        if len(seen) > 2:
            raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgressBar, "on_evaluate", die)
        with pytest.raises(Died):
            train(data, tmp_path / "run", model=str(encoder), config=config)
    last = last_checkpoint(tmp_path / ".run.partial" / "checkpoints")
    assert last is not None
    start = Role(data.part("train").targets, 1.5).estimates
    assert not torch.equal(torch.load(last / LOSS_FILE)["estimates"], start)
    resumed = train(data, tmp_path / "run", model=str(encoder), config=config, resume=True)
    assert resumed.metrics == whole.metrics
    left, right = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "run"))
    assert left == right


def test_validation_loss_is_comparable(encoder: Path, tmp_path: Path) -> None:
    data, config = toy.dataset(160), replace(SHORT, loss="focal", epochs=1)
    run = train(data, tmp_path / "run", model=str(encoder), config=config)
    (found,) = [entry["eval_loss"] for entry in run.details["log"] if "eval_loss" in entry]
    model, _ = checkpoint.load_model(str(tmp_path / "run"))
    rows = data.part("validation")
    reader = checkpoint.to_runtime_tokenizer(
        checkpoint.load_tokenizer(str(tmp_path / "run")), 32, LongText("truncate", overlap=0)
    )
    scores = torch.from_numpy(checkpoint.predict_proba(model, reader, rows.texts))
    expected = torch.nn.functional.binary_cross_entropy(scores, torch.from_numpy(rows.targets))
    assert found == pytest.approx(expected.item(), rel=0.02)  # a mean of batch means


# Choice of the loss


def test_default_loss_depends_on_known_negatives() -> None:
    whole = toy.dataset(200)
    one = only_one_label(whole)
    some = replace(whole, targets=np.where(np.arange(200)[:, None] < 150, whole.targets, one.targets))
    assert resolve_loss(TrainConfig(), whole).loss == resolve_loss(TrainConfig(), some).loss == "bce"
    assert resolve_loss(TrainConfig(), one).loss not in KNOWN_ONLY
    assert (
        resolve_loss(replace(TrainConfig(), loss="role"), one).labels_per_text
        == whole.part("validation").targets.sum() / 60
    )
    assert resolve_loss(replace(TrainConfig(), loss="role", labels_per_text=3), one).labels_per_text == 3


@pytest.mark.parametrize("name", KNOWN_ONLY)
def test_degenerate_loss_is_rejected(name: str) -> None:
    with pytest.raises(InputError, match=r"no known negative.*assign every label to every text"):
        resolve_loss(replace(TrainConfig(), loss=name), only_one_label(toy.dataset(200)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NEED_LABELS_PER_TEXT)
def test_loss_needs_labels_per_text(name: str, encoder: Path, tmp_path: Path) -> None:
    data = only_one_label(toy.dataset(200))
    first = np.where(np.arange(4) == 0, np.float32(NAN), data.targets)
    config = replace(SHORT, loss=name)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--labels-per-text"):
        train(replace(data, targets=first), tmp_path / "run", model=str(encoder), config=config)
    assert not list(tmp_path.iterdir())


def test_an_unknown_loss_or_number_of_labels() -> None:
    with pytest.raises(InputError, match=r"unknown loss 'hinge'.*asymmetric"):
        TrainConfig(loss="hinge")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="labels_per_text is 0"):
        TrainConfig(labels_per_text=0)
