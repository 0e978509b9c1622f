"""Precision and number of threads follow the machine and the process; tested without a CUDA device."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.helpers import toy
from transformers import TrainingArguments

from manylabel.errors import DeviceUnavailable
from manylabel_train.models import checkpoint
from manylabel_train.training import trainer as training_loop
from manylabel_train.training.config import TrainConfig, best_precision, check_precision
from manylabel_train.training.losses import Role
from manylabel_train.training.model_init import create_model
from manylabel_train.training.trainer import MultiLabelTrainer, limit_threads, make_training_arguments

SHORT = replace(TrainConfig(**toy.RECIPE), epochs=2)


@pytest.mark.parametrize(
    ("cuda", "cuda_bf16", "cpu_bf16", "expected"),
    [
        (True, True, False, "bf16"),
        (True, False, True, "fp16"),
        (False, False, True, "bf16"),
        (False, False, False, "fp32"),
    ],
)
def test_auto_train_precision(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, cuda_bf16: bool, cpu_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda_bf16)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert best_precision() == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_fp16_without_cuda_error(encoder: Path) -> None:
    config = checkpoint.load_config(str(encoder))
    with pytest.raises(DeviceUnavailable, match=r"fp16 needs CUDA.*Leave --train-precision out"):
        replace(SHORT, precision="fp16").complete(config, 100)
    check_precision("bf16")


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_trainer_gets_one_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    arguments: dict[str, object] = {}
    monkeypatch.setattr(training_loop, "TrainingArguments", lambda **options: arguments.update(options))
    make_training_arguments(replace(SHORT, precision=precision), 100, tmp_path, epochs=2)  # type: ignore[arg-type]  # one of them
    assert (arguments["bf16"], arguments["fp16"]) == (precision == "bf16", precision == "fp16")
    assert {"bf16", "fp16"} <= set(TrainingArguments.__dataclass_fields__)


def test_skipped_step_clears_loss_gradients(encoder: Path, tmp_path: Path) -> None:
    """The fp16 scaler skips a step whose gradients overflow; if they remained, it would skip all later steps."""
    model, loss = create_model(str(encoder), toy.LABELS, np.full(4, 0.2)), Role(toy.dataset(200).targets, 1.5)
    args = make_training_arguments(SHORT.complete(model.config, 100), 100, tmp_path, epochs=2)
    trainer = MultiLabelTrainer(criterion=loss, model=model, args=args, eval_dataset=[])
    batch = {"input_ids": torch.tensor([[2, 9, 10, 3]]), "labels": torch.full((1, 4), torch.nan)}
    batch |= dict.fromkeys(("rows", "owners"), torch.zeros(1, dtype=torch.int64))
    model.train()
    trainer.compute_loss(model, dict(batch)).backward()
    assert loss.estimates.grad is not None
    loss.estimates.grad.fill_(torch.inf)
    trainer.compute_loss(model, dict(batch)).backward()
    assert torch.isfinite(loss.estimates.grad).all()


@pytest.mark.parametrize(("variable", "expected"), [(None, 2), ("", 2), ("3", 3)])
def test_training_thread_count(monkeypatch: pytest.MonkeyPatch, variable: str | None, expected: int) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(training_loop, "available_cores", lambda: 2)
    if variable is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    try:
        torch.set_num_threads(3)
        with limit_threads():
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
