"""The training configuration: every hyperparameter of a run, defaults that work, and the precision of the machine."""

from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any, Literal, get_args

import torch

from manylabel.errors import DeviceUnavailable, InputError
from manylabel_train.evaluation.metrics import METRICS
from manylabel_train.models.checkpoint import default_max_length, max_positions
from manylabel_train.models.pooling import Pooling, encoder_config
from manylabel_train.training.losses import LOSSES, LossName

LEARNING_RATE_AT_384 = 2e-4
"""For encoders of hidden size 384, falling with its square: 5e-5 at 768, the top of what BERT's authors advise.
MiniLM-L6 on goemotions: one rate of 1e-4 and a new head reach macro-F1 0.295 after two epochs, this one 0.50 after
one."""

HEAD_FACTOR = 10
"""The head, pooler included, learns this much faster than the encoder: it starts from little or nothing."""

MIN_STEPS = 600
"""Small data sets are repeated until the optimiser has made about this many steps, in 3 to 15 epochs."""

MIN_LENGTH = 8
"""The smallest `max_length`: two special tokens and six of the text."""

MAX_SEED = 2**32 - 1
"""The greatest seed of numpy's generators."""

LongTexts = Literal["window", "truncate"]
TrainingPrecision = Literal["bf16", "fp16", "fp32"]


@dataclass(frozen=True)
class TrainConfig:
    """Hyperparameters of a training. `complete` replaces `None` by a default for the checkpoint and number of rows.

    Attributes:
        epochs: Passes over the training data.
        batch_size: Texts per optimiser step.
        learning_rate: Peak rate of the encoder; the head's is ten times that. Linear warm-up, linear decay.
        weight_decay: AdamW's, not applied to biases and norms.
        warmup: Share of the steps in which the rate rises.
        max_length: Tokens of a text that are read at once, special tokens included.
        patience: Epochs without improvement of `best_by` after which training stops.
        best_by: The validation metric that selects the best checkpoint, one of `METRICS`. Macro-F1 selects better than
            average precision: on goemotions the latter kept an epoch of test macro-F1 0.516 where the next one had
            0.54.
        precision: `"bf16"` or `"fp16"` (autocast; weights stay fp32), or `"fp32"`. The default is bf16 where the
            machine supports it: an epoch of MiniLM-L6 takes half the time on a CPU with AVX-512 BF16; fp16, with
            scaled gradients, on CUDA devices without bf16.
        seed: Seed of splits, shuffling, dropout and new weights.
        loss: One of `LOSSES`. `"auto"` is binary cross-entropy, or a loss for positives only where no label is known
            to be absent from any training text.
        labels_per_text: Mean number of labels of a text, for the losses that need it. `None`: from the validation
            texts whose labels are all known.
        long_text: The policy for texts beyond `max_length`, in training, evaluation and export: `"window"` reads the
            whole text in windows and takes each label's maximum, `"truncate"` reads the beginning.
        pooling: What the head reads: `"own"` keeps that of the checkpoint's class, `"first"` is the first token and
            `"mean"` the mean of all, both followed by one linear layer.
        lora: Rank of adapters that are trained instead of the encoder; `None` trains the encoder. They learn at the
            head's rate, ten times the encoder's, as in the LoRA paper for RoBERTa (5e-4 at 768).

    Raises:
        InputError: A number is out of range, or `best_by`, `loss` or another choice is unknown.

    Example:
        >>> TrainConfig(epochs=3, loss="focal").as_dict()["batch_size"]
        32
        >>> TrainConfig(epochs=0)
        Traceback (most recent call last):
            ...
        manylabel.errors.InputError: epochs is 0; it must be 1 or more.
    """

    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.06
    max_length: int | None = None
    patience: int = 3
    best_by: str = "macro_f1"
    precision: TrainingPrecision | None = None
    seed: int = 42
    loss: LossName | Literal["auto"] = "auto"
    labels_per_text: float | None = None
    long_text: LongTexts = "window"
    pooling: Pooling = "own"
    lora: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("batch_size", 1),
            ("patience", 1),
            ("max_length", MIN_LENGTH),
            ("lora", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} is {value}; it must be {least} or more.")
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed is {self.seed}; it must be from 0 to {MAX_SEED}.")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise InputError(f"learning_rate is {self.learning_rate}; it must be above 0.")
        if self.labels_per_text is not None and not self.labels_per_text > 0:
            raise InputError(f"labels_per_text is {self.labels_per_text}; it must be above 0.")
        for name, values in (("long_text", get_args(LongTexts)), ("pooling", get_args(Pooling))):
            if getattr(self, name) not in values:
                raise InputError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(values)}.")
        if self.loss not in ("auto", *LOSSES):
            raise InputError(f"unknown loss {self.loss!r}. Choose auto, {', '.join(LOSSES)}.")
        if self.best_by not in METRICS:
            raise InputError(f"unknown metric {self.best_by!r} for best_by. Choose {', '.join(METRICS)}.")

    def complete(self, model_config: Any, rows: int) -> "TrainConfig":
        """Return the configuration with defaults in place of `None`.

        Args:
            model_config: The checkpoint's configuration.
            rows: Number of training rows.

        Raises:
            InputError: `max_length` is more than the model can read.
            DeviceUnavailable: The precision needs a device that is not available.
        """
        check_precision(self.precision or best_precision())
        if self.max_length is not None and self.max_length > max_positions(model_config):
            raise InputError(
                f"max_length is {self.max_length}, and this model reads {max_positions(model_config)} tokens at most. "
                f"Pass --max-length {max_positions(model_config)} or less, or leave it out."
            )
        steps = ceil(rows / self.batch_size)
        encoder = encoder_config(model_config)
        hidden = int(getattr(encoder, "hidden_size", None) or getattr(encoder, "dim", None) or 768)
        return replace(
            self,
            epochs=self.epochs or min(15, max(3, ceil(MIN_STEPS / steps))),
            learning_rate=self.learning_rate or LEARNING_RATE_AT_384 * (384 / max(hidden, 384)) ** 2,
            max_length=self.max_length or default_max_length(model_config),
            precision=self.precision or best_precision(),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON content, the `recipe` section of `run.json`."""
        return asdict(self)


def best_precision() -> TrainingPrecision:
    """Return bf16 where the machine supports it; else fp16 on CUDA, with scaled gradients; else fp32."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def check_precision(precision: TrainingPrecision) -> None:
    """Reject a precision that needs a device which is not available.

    Raises:
        DeviceUnavailable: fp16 without CUDA: on a CPU it is slow, and small gradients vanish.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise DeviceUnavailable(
            "training in fp16 needs CUDA, and this PyTorch finds no CUDA device. Leave --train-precision out: "
            f"{best_precision()} is the best precision on this machine."
        )
