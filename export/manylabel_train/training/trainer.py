"""The Hugging Face Trainer, set up for many labels a text."""

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
from manylabel.inference.tokenizer import Tokenizer
from manylabel_train.data.dataset import Dataset
from manylabel_train.evaluation.metrics import multilabel_metrics, per_label_metrics
from manylabel_train.training.callbacks import LOWER_IS_BETTER, EarlyStopping, Progress, evaluations, has_stalled
from manylabel_train.training.checkpoint_callbacks import KeepLastAndBest
from manylabel_train.training.checkpoints import last_checkpoint, state_of
from manylabel_train.training.collate import Collator, LikeLengths, Rows
from manylabel_train.training.config import HEAD_FACTOR, Recipe
from manylabel_train.training.distillation import Distillation
from manylabel_train.training.long_texts import MOST_WINDOWS, text_logits
from manylabel_train.training.losses import BinaryCrossEntropy, make_loss
from manylabel_train.training.model_init import head_parameters

PRECISION = "ACCELERATE_MIXED_PRECISION"
LOSS_FILE = "loss.pt"
"""What a loss has learned itself, beside the model in a checkpoint."""
ESTIMATES_FACTOR = 10
"""What a loss learns itself, it learns this much faster than the head, as in the code of Cole et al. 2021."""


def fit(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    folder: Path,
    *,
    pad_token_id: int,
    soft: NDArray[np.float32] | None = None,
    watchers: Sequence[TrainerCallback] = (),
) -> list[dict[str, float]]:
    """Fine-tune in place; the model ends as the best checkpoint by `recipe.best_by`.

    Goes on from the last whole checkpoint in `folder`, if there is one, to the same end as without a break.

    Args:
        model: A multi-label classifier.
        tokenizer: Reads a text, and says what becomes of a long one.
        train: What to learn.
        validation: What to be judged by.
        recipe: A completed recipe.
        folder: Keeps checkpoints.
        pad_token_id: What fills up a batch.
        soft: A former model's probabilities of the training texts, to be kept where nothing is known, shape
            `(n_rows, n_labels)`, NaN where it has none.
        watchers: Callbacks of the Trainer that look on, and may end the training by an exception.

    Returns:
        The Trainer's log: losses and metrics by step.

    Raises:
        InputError: Training diverged.
    """
    last, progress = last_checkpoint(folder), Progress()
    rows, judged = Rows(tokenizer, train, most_windows=MOST_WINDOWS), Rows(tokenizer, validation)
    complete, single = train.complete and validation.complete, rows.single and judged.single
    plain = recipe.loss == "bce" and complete and single and soft is None
    with _own_precision(), closing(progress), warnings.catch_warnings():
        # transformers 4 says so where two checkpoints follow within a second, and then sorts them by step
        warnings.filterwarnings("ignore", message="mtime may not be reliable", category=UserWarning)
        trainer = _Trainer(
            criterion=None if plain else _criterion(train, recipe, last, soft),
            model=model,
            args=_arguments(recipe, len(train), folder, epochs=_epochs_left_to_plan(last, recipe)),
            train_dataset=rows,
            eval_dataset=judged,
            data_collator=Collator(pad_token_id),
            compute_metrics=_Metrics(train.labels),
            callbacks=[EarlyStopping(recipe), KeepLastAndBest(), progress, *watchers],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # else it would go on computing in bf16
    model.eval()
    return list(trainer.state.log_history)


@contextmanager
def _own_precision() -> Iterator[None]:
    """Keep this run's precision from the process, and the process's from this run.

    TrainingArguments writes its precision into the environment and reads it back as the default: after a run in bf16
    every later one in the process would be in bf16 too, also those of other code.
    """
    before = os.environ.pop(PRECISION, None)
    try:
        yield
    finally:
        os.environ.pop(PRECISION, None)
        if before is not None:
            os.environ[PRECISION] = before


def _criterion(train: Dataset, recipe: Recipe, last: Path | None, soft: NDArray[np.float32] | None) -> nn.Module:
    """The loss, as far as it had learned itself."""
    if soft is not None:
        return Distillation(soft)
    criterion = make_loss(recipe.loss, train.targets, recipe.labels_per_text)
    if last and (last / LOSS_FILE).exists():
        criterion.load_state_dict(torch.load(last / LOSS_FILE, weights_only=True))
    return criterion


def _epochs_left_to_plan(last: Path | None, recipe: Recipe) -> int:
    """All of the recipe's; where training had stopped early before it was interrupted, those that were done."""
    log = ((state_of(last) if last else None) or {}).get("log_history", [])
    return len(evaluations(log, recipe.best_by)) if has_stalled(log, recipe) else recipe.epochs or 1


class _Trainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    """A Trainer with a rate for the encoder and a greater one for the head, batches of like lengths, and any loss.

    Args:
        criterion: A loss of `training.losses`; None for the model's own, BCE over all entries of texts of one window.
        options: The Trainer's own.
    """

    def __init__(self, *, criterion: nn.Module | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._criterion = criterion.to(self.args.device) if criterion else None
        self._judge = BinaryCrossEntropy()  # in evaluations: the same for all losses

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> Any:
        """The training loss while the model trains, masked BCE while it is evaluated."""
        rows, owners = inputs.pop("rows"), inputs.pop("owners")
        if self._criterion is None:
            return super().compute_loss(model, inputs, return_outputs=return_outputs)
        if model.training:  # the Trainer clears the model's gradients alone; a step that fp16 skipped must leave none
            self._criterion.zero_grad()
        targets = inputs.pop("labels")
        at_once = self.args.train_batch_size if model.training else self.args.eval_batch_size
        logits = text_logits(model, inputs, owners, texts=len(targets), at_once=at_once)
        loss = (self._criterion if model.training else self._judge)(logits, targets, rows)
        return (loss, {"logits": logits}) if return_outputs else loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The model, and beside it what the loss has learned itself."""
        super().save_model(output_dir, _internal_call)
        learned = self._criterion.state_dict() if self._criterion else {}
        if learned and output_dir:
            torch.save(learned, Path(output_dir) / LOSS_FILE)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:  # fused: 8 times the plain one's speed on a CPU
            self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(self._groups(), fused=True)
        return self.optimizer

    def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
        rows: Rows = self.train_dataset
        return LikeLengths(rows.lengths, self.args.per_device_train_batch_size)

    def _groups(self) -> list[dict[str, Any]]:
        """The parameters by rate, and by whether they decay: matrices do, biases and norms do not."""
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
        own = list(self._criterion.parameters()) if self._criterion else []
        return (
            [*groups, {"params": own, "lr": rate * HEAD_FACTOR * ESTIMATES_FACTOR, "weight_decay": 0.0}]
            if own
            else groups
        )


def _arguments(recipe: Recipe, rows: int, folder: Path, *, epochs: int) -> TrainingArguments:
    steps = (recipe.epochs or 1) * ceil(rows / recipe.batch_size)
    options: dict[str, Any] = {
        "output_dir": str(folder.absolute()),  # the best checkpoint is remembered by this path
        "num_train_epochs": epochs,
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": 64,
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "warmup_steps": ceil(recipe.warmup * steps),
        "lr_scheduler_type": "linear",
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": recipe.best_by,
        "greater_is_better": recipe.best_by not in LOWER_IS_BETTER,
        "logging_strategy": "steps",
        "logging_steps": 50,
        "bf16": recipe.precision == "bf16",
        "fp16": recipe.precision == "fp16",
        "use_cpu": not torch.cuda.is_available(),
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "remove_unused_columns": False,
        "disable_tqdm": True,  # Progress shows more, and on standard error
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
            raise InputError("training diverged: the model gives no numbers any more. Lower the learning rate.")
        probabilities = (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
        per_label = per_label_metrics(probabilities, targets, self._labels)
        return multilabel_metrics(probabilities, targets) | {
            f"f1/{label}": scores["f1"] for label, scores in per_label.items()
        }
