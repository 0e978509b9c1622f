"""The Hugging Face Trainer, set up for multi-label classification."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import EvalPrediction, PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from manylabel.errors import InputError
from manylabel.inference.thresholding import sigmoid
from manylabel.inference.tokenizer import Tokenizer
from manylabel.system.hardware_info import available_cores
from manylabel_train.data.dataset import Dataset
from manylabel_train.evaluation.metrics import LOWER_IS_BETTER, multilabel_metrics, per_label_metrics
from manylabel_train.training.callbacks import (
    CheckpointRotation,
    EarlyStopping,
    ProgressBar,
    has_stalled,
    metric_history,
)
from manylabel_train.training.checkpoints import last_checkpoint, read_state
from manylabel_train.training.collate import Collator, LengthGroupedSampler, TokenizedDataset
from manylabel_train.training.config import HEAD_FACTOR, TrainConfig
from manylabel_train.training.long_texts import MAX_WINDOWS, text_logits
from manylabel_train.training.losses import BinaryCrossEntropy, Distillation, make_loss
from manylabel_train.training.model_init import head_parameters

PRECISION_VARIABLE = "ACCELERATE_MIXED_PRECISION"
THREADS_VARIABLE = "OMP_NUM_THREADS"
LOSS_FILE = "loss.pt"
"""In a checkpoint: the parameters that the loss itself has learned."""
LOSS_FACTOR = 10
"""A loss's own parameters learn this much faster than the head, as in the code of Cole et al. 2021."""


def fine_tune(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    train: Dataset,
    validation: Dataset,
    config: TrainConfig,
    folder: Path,
    *,
    pad_token_id: int,
    soft: NDArray[np.float32] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> list[dict[str, float]]:
    """Fine-tune a model in place; it ends as the best checkpoint by `config.best_by`.

    Resumes from the last complete checkpoint in `folder`, if there is one, with the same result as without a break.

    Args:
        model: A multi-label classifier.
        tokenizer: Tokenizes texts, and applies the policy for long ones.
        train: The training split.
        validation: The split that selects the checkpoint.
        config: A completed configuration.
        folder: Where checkpoints are kept.
        pad_token_id: The id that fills up a batch.
        soft: A teacher's probabilities of the training texts, used where labels are unknown, shape
            `(n_rows, n_labels)`, NaN where it has none.
        callbacks: More callbacks of the Trainer; they may end the training by an exception.

    Returns:
        The Trainer's log: losses and metrics by step.

    Raises:
        InputError: Training diverged.
    """
    last, progress = last_checkpoint(folder), ProgressBar()
    rows = TokenizedDataset(tokenizer, train, max_windows=MAX_WINDOWS)
    validation_rows = TokenizedDataset(tokenizer, validation)
    complete = train.complete and validation.complete
    single_window = rows.single_window and validation_rows.single_window
    plain = config.loss == "bce" and complete and single_window and soft is None
    with _isolate_precision(), closing(progress), warnings.catch_warnings():
        # transformers 4 warns if two checkpoints are less than a second apart, and then sorts them by step
        warnings.filterwarnings("ignore", message="mtime may not be reliable", category=UserWarning)
        trainer = MultiLabelTrainer(
            criterion=None if plain else _create_criterion(train, config, last, soft),
            model=model,
            args=make_training_arguments(config, len(train), folder, epochs=_epochs_to_plan(last, config)),
            train_dataset=rows,
            eval_dataset=validation_rows,
            data_collator=Collator(pad_token_id),
            compute_metrics=_Metrics(train.labels),
            callbacks=[EarlyStopping(config), CheckpointRotation(), progress, *callbacks],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # or it would keep computing in bf16
    model.eval()
    return list(trainer.state.log_history)


@contextmanager
def limit_threads() -> Iterator[None]:
    """Run PyTorch with at most as many threads as this process may use cores, unless OMP_NUM_THREADS is set.

    PyTorch counts all cores and ignores a container's quota: more threads than cores wait for each other at the end of
    every operation, and use up the quota while they wait.
    """
    before = torch.get_num_threads()
    if not os.environ.get(THREADS_VARIABLE):
        torch.set_num_threads(min(before, available_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _isolate_precision() -> Iterator[None]:
    """Keep the precision of this run from affecting later runs of the process, and theirs from affecting this one.

    TrainingArguments writes its precision to the environment and reads it back as the default: after a run in bf16
    every later run in the process, other code's included, would be in bf16.
    """
    before = os.environ.pop(PRECISION_VARIABLE, None)
    try:
        yield
    finally:
        os.environ.pop(PRECISION_VARIABLE, None)
        if before is not None:
            os.environ[PRECISION_VARIABLE] = before


def _create_criterion(
    train: Dataset, config: TrainConfig, last: Path | None, soft: NDArray[np.float32] | None
) -> nn.Module:
    """Create the loss, with its own parameters from the last checkpoint."""
    if soft is not None:
        return Distillation(soft)
    criterion = make_loss(config.loss, train.targets, config.labels_per_text)
    if last and (last / LOSS_FILE).exists():
        criterion.load_state_dict(torch.load(last / LOSS_FILE, weights_only=True))
    return criterion


def _epochs_to_plan(last: Path | None, config: TrainConfig) -> int:
    """Return the configured epochs; if training had stopped early before it was interrupted, the finished ones."""
    log = ((read_state(last) if last else None) or {}).get("log_history", [])
    return len(metric_history(log, config.best_by)) if has_stalled(log, config) else config.epochs or 1


class MultiLabelTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    """A Trainer with a higher learning rate for the head, batches of similar length, and a choice of losses.

    Args:
        criterion: A loss of `training.losses`; None for the model's own: BCE over all entries of single-window texts.
        options: The Trainer's own.
    """

    def __init__(self, *, criterion: nn.Module | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._criterion = criterion.to(self.args.device) if criterion else None
        self._evaluation_loss = BinaryCrossEntropy()  # the same whatever the training loss

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> Any:
        """Compute the training loss in training, and BCE over known entries in evaluation."""
        rows, owners = inputs.pop("rows"), inputs.pop("owners")
        if self._criterion is None:
            return super().compute_loss(model, inputs, return_outputs=return_outputs)
        if model.training:  # the Trainer clears only the model's gradients; a step that fp16 skips must leave none
            self._criterion.zero_grad()
        targets = inputs.pop("labels")
        at_once = self.args.train_batch_size if model.training else self.args.eval_batch_size
        logits = text_logits(model, inputs, owners, texts=len(targets), at_once=at_once)
        loss = (self._criterion if model.training else self._evaluation_loss)(logits, targets, rows)
        return (loss, {"logits": logits}) if return_outputs else loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and the loss's own parameters next to it."""
        super().save_model(output_dir, _internal_call)
        learned = self._criterion.state_dict() if self._criterion else {}
        if learned and output_dir:
            torch.save(learned, Path(output_dir) / LOSS_FILE)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create a fused AdamW, on a CPU 8 times as fast as the default one."""
        if self.optimizer is None:
            self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(self._parameter_groups(), fused=True)
        return self.optimizer

    def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
        rows: TokenizedDataset = self.train_dataset
        return LengthGroupedSampler(rows.lengths, self.args.per_device_train_batch_size)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Group the parameters by learning rate and weight decay: matrices decay, biases and norms do not."""
        head, rate = head_parameters(self.model), self.args.learning_rate
        named = [(name, value) for name, value in self.model.named_parameters() if value.requires_grad]
        groups = [
            {
                "params": [value for name, value in named if (name in head) == in_head and (value.ndim > 1) == decays],
                "lr": rate * (HEAD_FACTOR if in_head else 1),
                "weight_decay": self.args.weight_decay if decays else 0.0,
            }
            for in_head in (False, True)
            for decays in (False, True)
        ]
        if own := list(self._criterion.parameters()) if self._criterion else []:
            groups.append({"params": own, "lr": rate * HEAD_FACTOR * LOSS_FACTOR, "weight_decay": 0.0})
        return groups


def make_training_arguments(config: TrainConfig, rows: int, folder: Path, *, epochs: int) -> TrainingArguments:
    """Translate a completed configuration to the Trainer's arguments.

    Args:
        config: A completed configuration.
        rows: Number of training rows.
        folder: Where checkpoints are kept.
        epochs: Epochs to plan; fewer than configured where early stopping had ended an interrupted run.
    """
    steps = (config.epochs or 1) * ceil(rows / config.batch_size)
    options: dict[str, Any] = {
        "output_dir": str(folder.absolute()),  # the path by which the best checkpoint is recorded
        "num_train_epochs": epochs,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": 64,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "warmup_steps": ceil(config.warmup * steps),
        "lr_scheduler_type": "linear",
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": config.best_by,
        "greater_is_better": config.best_by not in LOWER_IS_BETTER,
        "logging_strategy": "steps",
        "logging_steps": 50,
        "bf16": config.precision == "bf16",
        "fp16": config.precision == "fp16",
        "use_cpu": not torch.cuda.is_available(),
        "seed": config.seed,
        "data_seed": config.seed,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "remove_unused_columns": False,
        "disable_tqdm": True,  # ProgressBar shows more, and on standard error
        "report_to": "none",
    }
    return TrainingArguments(**options)


class _Metrics:
    """All multi-label metrics at 0.5 in every evaluation, and each label's F1."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        logits, targets = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        if not np.isfinite(logits).all():
            raise InputError("training diverged: the model returned NaN or infinity. Lower --learning-rate.")
        probabilities = sigmoid(logits).astype(np.float32)
        per_label = per_label_metrics(probabilities, targets, self._labels)
        return multilabel_metrics(probabilities, targets) | {
            f"f1/{label}": scores["f1"] for label, scores in per_label.items()
        }
