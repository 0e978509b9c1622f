"""The recipe: every number of a training run, and the defaults that learn."""

from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any, Literal, get_args

from manylabel.errors import InputError
from manylabel_train.evaluation.metrics import METRICS
from manylabel_train.models.checkpoint import longest_input, positions
from manylabel_train.models.pooling import Pooling, encoder_config
from manylabel_train.training.losses import LOSSES, LossName
from manylabel_train.training.precision import Precision, best_precision, require_device

LEARNING_RATE_AT_384 = 2e-4
"""For encoders of hidden size 384, falling with its square: 5e-5 at 768, the top of what BERT's authors advise.
MiniLM-L6 on goemotions: one rate of 1e-4 and a fresh head reach macro-F1 0.295 after two epochs, this recipe 0.50
after one."""

HEAD_FACTOR = 10
"""The head, pooler included, learns this much faster than the encoder: it starts from little or nothing."""

STEPS_WANTED = 600
"""Small sets are passed over until the optimiser has made about this many steps, in 3 to 15 epochs."""

SHORTEST_INPUT = 8
"""Tokens that `max_length` leaves at least: with two special ones, six of the text."""

GREATEST_SEED = 2**32 - 1
"""What numpy's generators take."""

LongTexts = Literal["window", "truncate"]


@dataclass(frozen=True)
class Recipe:
    """How to train. `None` is filled in by `complete` from the checkpoint and the number of rows.

    Attributes:
        epochs: Passes over the training data.
        batch_size: Texts an optimiser step.
        learning_rate: Peak rate of the encoder; the head's is ten times that. Linear warm-up, linear decay.
        weight_decay: AdamW's, not applied to biases and norms.
        warmup: Share of the steps in which the rate rises.
        max_length: Tokens of a text that are read at once, special ones included.
        patience: Epochs without improvement of `best_by` after which training stops.
        best_by: The validation metric by which the best checkpoint is kept, one of those of `multilabel_metrics`.
            Macro-F1 chose better than average precision did: on goemotions the latter kept an epoch of test macro-F1
            0.516 where the next one had 0.54.
        precision: `"bf16"` or `"fp16"` (autocast; weights stay fp32), or `"fp32"`. bf16 where the machine computes in
            it: an epoch of MiniLM-L6 takes half the time on a CPU with AVX-512 BF16; fp16, with scaled gradients, on
            CUDA devices that do not.
        seed: Seeds splits, shuffling, dropout and fresh weights.
        loss: What is minimised, one of `LOSSES`. `"auto"` is binary cross-entropy, and another one where the training
            data has positives alone and no label that is known to be absent.
        labels_per_text: Labels that a text has on average, for the losses that count them. None: from the validation
            texts of which all labels are known.
        long_text: What becomes of a text beyond `max_length`, in training, in evaluations and in the export: `"window"`
            reads all of it in windows and takes each label's maximum, `"truncate"` reads the beginning.
        pooling: What the head reads: `"own"` what the checkpoint's class reads, `"first"` the first token and `"mean"`
            the mean of all, these two through a linear layer alone.
        lora: Rank of the adapters that are trained in the encoder's place; None trains the encoder. They learn at the
            head's rate, ten times that of the encoder, as in the LoRA paper for RoBERTa (5e-4 at 768).

    Raises:
        InputError: A number is out of range, or `best_by` or `loss` is none.
    """

    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.06
    max_length: int | None = None
    patience: int = 3
    best_by: str = "macro_f1"
    precision: Precision | None = None
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
            ("max_length", SHORTEST_INPUT),
            ("lora", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} is {value}; it has to be {least} or more.")
        if not 0 <= self.seed <= GREATEST_SEED:
            raise InputError(f"seed is {self.seed}; it has to be from 0 to {GREATEST_SEED}.")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise InputError(f"learning_rate is {self.learning_rate}; it has to be above 0.")
        if self.labels_per_text is not None and not self.labels_per_text > 0:
            raise InputError(f"labels_per_text is {self.labels_per_text}; it has to be above 0.")
        for name, values in (("long_text", get_args(LongTexts)), ("pooling", get_args(Pooling))):
            if getattr(self, name) not in values:
                raise InputError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(values)}.")
        if self.loss not in ("auto", *LOSSES):
            raise InputError(f"there is no loss {self.loss!r}. Choose auto, {', '.join(LOSSES)}.")
        if self.best_by not in METRICS:
            raise InputError(f"there is no metric {self.best_by!r} to keep the best by. Choose {', '.join(METRICS)}.")

    def complete(self, config: Any, rows: int) -> "Recipe":
        """Fill in what was left open.

        Args:
            config: The checkpoint's configuration.
            rows: Rows of training data.

        Raises:
            InputError: `max_length` is beyond what the model reads.
            DeviceUnavailable: The precision needs a device that is not there.
        """
        require_device(self.precision or best_precision())
        if self.max_length is not None and self.max_length > positions(config):
            raise InputError(
                f"max_length is {self.max_length}, and this model reads {positions(config)} tokens at most. "
                f"Say --max-length {positions(config)} or less, or leave it out."
            )
        steps = ceil(rows / self.batch_size)
        config = encoder_config(config)
        hidden = int(getattr(config, "hidden_size", None) or getattr(config, "dim", None) or 768)
        return replace(
            self,
            epochs=self.epochs or min(15, max(3, ceil(STEPS_WANTED / steps))),
            learning_rate=self.learning_rate or LEARNING_RATE_AT_384 * (384 / max(hidden, 384)) ** 2,
            max_length=self.max_length or longest_input(config),
            precision=self.precision or best_precision(),
        )

    def as_dict(self) -> dict[str, Any]:
        """The recipe as JSON holds it."""
        return asdict(self)
