"""Precision and threads follow the machine and the process; the logic is tested without a device."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.helpers import toy
from transformers import TrainingArguments

from manylabel.errors import DeviceUnavailable
from manylabel_train.models import checkpoint
from manylabel_train.training import precision as device
from manylabel_train.training import trainer as training_loop
from manylabel_train.training.losses import Role
from manylabel_train.training.model_init import fresh_model
from manylabel_train.training.precision import best_precision, own_threads, require_device
from manylabel_train.training.train import Recipe
from manylabel_train.training.trainer import _arguments, _Trainer

SHORT = replace(Recipe(**toy.RECIPE), epochs=2)


@pytest.mark.parametrize(
    ("cuda", "cuda_bf16", "cpu_bf16", "expected"),
    [
        (True, True, False, "bf16"),
        (True, False, True, "fp16"),
        (False, False, True, "bf16"),
        (False, False, False, "fp32"),
    ],
)
def test_the_best_precision_of_a_machine(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, cuda_bf16: bool, cpu_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda_bf16)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert best_precision() == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_fp16_without_a_device_is_a_sentence(encoder: Path) -> None:
    config = checkpoint.load_config(str(encoder))
    with pytest.raises(DeviceUnavailable, match=r"fp16 needs CUDA.*Leave --train-precision out"):
        replace(SHORT, precision="fp16").complete(config, 100)
    require_device("bf16")


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_the_trainer_is_told_one_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    told: dict[str, object] = {}
    monkeypatch.setattr(training_loop, "TrainingArguments", lambda **options: told.update(options))
    _arguments(replace(SHORT, precision=precision), 100, tmp_path, epochs=2)  # type: ignore[arg-type]  # one of them
    assert (told["bf16"], told["fp16"]) == (precision == "bf16", precision == "fp16")
    assert {"bf16", "fp16"} <= set(TrainingArguments.__dataclass_fields__)


def test_a_step_that_was_skipped_leaves_no_gradient_to_what_a_loss_learns(encoder: Path, tmp_path: Path) -> None:
    """The scaler of fp16 skips a step whose gradients overflowed; left over, they would let it skip all that follow."""
    model, loss = fresh_model(str(encoder), toy.LABELS, np.full(4, 0.2)), Role(toy.dataset(200).targets, 1.5)
    args = _arguments(SHORT.complete(model.config, 100), 100, tmp_path, epochs=2)
    trainer = _Trainer(criterion=loss, model=model, args=args, eval_dataset=[])
    batch = {"input_ids": torch.tensor([[2, 9, 10, 3]]), "labels": torch.full((1, 4), torch.nan)}
    batch |= dict.fromkeys(("rows", "owners"), torch.zeros(1, dtype=torch.int64))
    model.train()
    trainer.compute_loss(model, dict(batch)).backward()
    assert loss.estimates.grad is not None
    loss.estimates.grad.fill_(torch.inf)
    trainer.compute_loss(model, dict(batch)).backward()
    assert torch.isfinite(loss.estimates.grad).all()


@pytest.mark.parametrize(("said", "expected"), [(None, 2), ("", 2), ("3", 3)])
def test_training_takes_the_cores_that_it_may_or_what_the_user_says(
    monkeypatch: pytest.MonkeyPatch, said: str | None, expected: int
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(device, "available_cores", lambda: 2)
    if said is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    try:
        torch.set_num_threads(3)
        with own_threads():
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
