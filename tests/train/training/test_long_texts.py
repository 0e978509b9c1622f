"""Training on long texts: windows, the maximum of each label, and bounded memory."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.helpers import toy
from tests.helpers.architectures import make_classifier
from torch import Tensor, nn

from manylabel import Bundle, Classifier
from manylabel.errors import InputError
from manylabel.inference.length_batching import score_texts
from manylabel.inference.tokenizer import Policy
from manylabel_export.pipeline import export
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.training_run import read_run
from manylabel_train.models import checkpoint
from manylabel_train.models.checkpoint import make_long_text
from manylabel_train.training.collate import Collator, TokenizedDataset
from manylabel_train.training.config import LongTexts, TrainConfig
from manylabel_train.training.long_texts import max_over_windows, text_logits
from manylabel_train.training.train import train

POLICIES: tuple[LongTexts, ...] = ("window", "truncate")
SHORT = replace(TrainConfig(**toy.RECIPE), epochs=2, max_length=16)


def long_dataset(n: int = 300) -> Dataset:
    """Return the toy task with 20 uninformative words first, so that the labels depend on words beyond 16 tokens."""
    data, padding = toy.dataset(n), " ".join(["the"] * 20)
    return replace(data, texts=tuple(f"{padding} {text}" for text in data.texts))


def rows_of(encoder: Path, data: Dataset, policy: Policy = "window", most: int | None = None) -> TokenizedDataset:
    tokenizer = checkpoint.load_tokenizer(str(encoder))
    return TokenizedDataset(
        checkpoint.to_runtime_tokenizer(tokenizer, 16, make_long_text(16, policy)), data, max_windows=most
    )


# Windows to texts


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_window_logits_match_the_runtime_maximum(counts: list[int], random) -> None:  # type: ignore[no-untyped-def]
    logits = torch.tensor([[random.uniform(-9, 9) for _ in range(3)] for _ in range(sum(counts))])
    owners = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    windows = list(np.split(np.arange(sum(counts), dtype=np.int64)[:, None], np.cumsum(counts)[:-1]))

    def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return torch.sigmoid(logits[ids[:, 0]]).numpy()

    answered = score_texts([list(rows) for rows in windows], run, n_labels=3)
    np.testing.assert_allclose(
        torch.sigmoid(max_over_windows(logits, owners, len(counts))).numpy(), answered, rtol=1e-6
    )


def test_gradient_flows_to_the_maximum_window() -> None:
    logits = torch.tensor([[1.0, 5.0], [2.0, 3.0], [0.0, 0.0]], requires_grad=True)
    max_over_windows(logits, torch.tensor([0, 0, 1]), 2).sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0, 1], [1, 0], [1, 1]]


def test_nan_window_is_not_hidden() -> None:
    found = max_over_windows(torch.tensor([[torch.nan], [1.0]]), torch.tensor([0, 0]), 1)
    assert torch.isnan(found).all()  # so that diverging training is noticed


# Bounded memory


class Counted(nn.Module):
    """A model that records how many windows it gets at once."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seen: list[int] = []

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the model's logits."""
        self.seen.append(len(inputs["input_ids"]))
        return {"logits": self.model(**inputs).logits}


def step(at_once: int) -> tuple[Tensor, list[Tensor], list[int]]:
    """Return the logits of three texts with 7 windows, the gradients of their sum, and the windows of each call."""
    model = make_classifier("bert").train()  # with dropout
    model.zero_grad()
    inputs = {"input_ids": torch.arange(35).reshape(7, 5) % 60, "attention_mask": torch.ones(7, 5, dtype=torch.int64)}
    owners = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    counted = Counted(model)
    torch.manual_seed(0)
    logits = text_logits(counted, inputs, owners, texts=3, at_once=at_once)
    (logits**2).sum().backward()
    return logits.detach(), [value.grad for value in model.parameters() if value.grad is not None], counted.seen


def test_checkpointed_gradients_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, gradients, seen = step(at_once=3)
    assert max(seen) == 3
    assert seen[:3] == [3, 3, 1]
    assert sorted(seen) == [1, 1, 3, 3, 3, 3]
    monkeypatch.setattr("manylabel_train.training.long_texts.checkpoint", lambda run, *part, **_: run(*part))
    kept_logits, kept_gradients, kept_seen = step(at_once=3)
    assert kept_seen == [3, 3, 1]
    assert torch.equal(logits, kept_logits)
    for ours, theirs in zip(gradients, kept_gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_few_windows_are_not_recomputed() -> None:
    assert step(at_once=7)[2] == [7]
    with torch.no_grad():
        counted = Counted(make_classifier("bert"))
        text_logits(counted, {"input_ids": torch.ones(7, 5, dtype=torch.int64)}, torch.arange(7), texts=7, at_once=2)
    assert counted.seen == [2, 2, 2, 1]


def test_batch_contains_every_window_of_its_texts(encoder: Path) -> None:
    data = Dataset(("app", "parcel " * 40, "late"), np.eye(3, 4, dtype=np.float32), toy.LABELS)
    rows = rows_of(encoder, data)
    assert rows.lengths.tolist() == [3, 3 * 16, 3]  # 14 tokens of the text per window, one of them shared
    assert not rows.single_window
    batch = Collator(pad_token_id=0)([rows[0], rows[1], rows[2]])
    assert next(iter(batch)) == "labels"
    assert batch["owners"].tolist() == [0, 1, 1, 1, 2]
    assert batch["input_ids"].shape == (5, 16)
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 16, 16, 16, 3]


def test_training_uses_first_windows_only(encoder: Path) -> None:
    data = Dataset(("parcel " * 40,), np.eye(1, 4, dtype=np.float32), toy.LABELS)
    few, all_of_it = rows_of(encoder, data, most=2)[0], rows_of(encoder, data)[0]
    assert [window.tolist() for window in few["windows"]] == [window.tolist() for window in all_of_it["windows"][:2]]
    assert rows_of(encoder, data, policy="truncate").single_window


# Results


def test_windows_learn_beyond_max_length(encoder: Path, tmp_path: Path) -> None:
    config, found = replace(TrainConfig(**toy.RECIPE), max_length=16), {}
    for policy in ("window", "truncate"):
        run = train(
            long_dataset(480),
            tmp_path / policy,
            model=str(encoder),
            config=replace(config, long_text=policy),
        )
        assert read_run(tmp_path / policy).long_text == policy
        found[policy] = run.metrics["test"]["tuned"]["macro_average_precision"]
    assert found["window"] > found["truncate"] + 0.2


@pytest.mark.parametrize("policy", ["window", "truncate"])
def test_training_evaluation_matches_the_bundle(encoder: Path, tmp_path: Path, policy: LongTexts) -> None:
    data = long_dataset()
    run = train(data, tmp_path / "run", model=str(encoder), config=replace(SHORT, epochs=6, long_text=policy))
    best = max(entry["eval_macro_f1"] for entry in run.details["log"] if "eval_loss" in entry)
    assert run.metrics["validation"]["at_half"]["macro_f1"] == pytest.approx(best, abs=1e-6)
    bundle = export(tmp_path / "run", tmp_path / "bundle", precisions=["fp32"])
    assert bundle.manifest.long_text.policy == policy
    quality = bundle.manifest.certificate.parity["fp32"].quality
    assert quality.macro_f1.value == pytest.approx(run.metrics["validation"]["tuned"]["macro_f1"], abs=1e-6)
    (found,) = Classifier.load(bundle.path, device="cpu").classify(data.texts[0])
    assert found.truncated == (policy == "truncate")


def test_export_may_override_long_text_policy(encoder: Path, tmp_path: Path) -> None:
    train(long_dataset(), tmp_path / "run", model=str(encoder), config=replace(SHORT, long_text="truncate"))
    bundle = export(tmp_path / "run", tmp_path / "bundle", precisions=["fp32"], policy="window")
    assert Bundle.open(bundle.path).manifest.long_text.policy == "window"


def test_long_text_policy_does_not_change_short_texts(encoder: Path, tmp_path: Path) -> None:
    config = replace(TrainConfig(**toy.RECIPE), epochs=2)
    for policy in POLICIES:
        train(toy.dataset(200), tmp_path / policy, model=str(encoder), config=replace(config, long_text=policy))
    first, second = ((tmp_path / policy / "model.safetensors").read_bytes() for policy in POLICIES)
    assert first == second


def test_unknown_long_text_policy_error() -> None:
    with pytest.raises(InputError, match="long_text is 'error'; expected one of window, truncate"):
        TrainConfig(long_text="error")  # type: ignore[arg-type]


@pytest.mark.parametrize(("data", "dropout"), [(toy.dataset(200), 0.1), (long_dataset(200), 0.0)])
def test_long_texts_disable_attention_dropout(tmp_path: Path, data: Dataset, dropout: float) -> None:
    encoder = toy.write_encoder(tmp_path / "encoder")
    rates = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    content = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(content | rates))
    train(data, tmp_path / "run", model=str(encoder), config=replace(SHORT, max_length=24))
    config = checkpoint.load_config(str(tmp_path / "run"))
    assert config.attention_probs_dropout_prob == dropout
    assert config.hidden_dropout_prob == 0.1
