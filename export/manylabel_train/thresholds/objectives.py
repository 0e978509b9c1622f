"""Threshold objectives: the best F-beta, or a minimum precision or recall. States the aim, not the method."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal

from manylabel.bundle.strict_json import parse
from manylabel.errors import BundleError, CheckpointError, InputError
from manylabel.inference.thresholding import column_of

Figure = Literal["f_beta", "precision", "recall"]


@dataclass(frozen=True)
class Objective:
    """The objective of one label's threshold.

    Attributes:
        figure: `"f_beta"` maximises F-beta. `"precision"` and `"recall"` keep that metric at a minimum, and maximise
            the other one.
        value: Beta, how many times as much recall weighs as precision; or the minimum.
        confidence: The confidence with which the minimum holds on new texts. 0: it holds on the validation texts only.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> str(Objective("recall", 0.9))
        'recall at least 0.9'
        >>> str(Objective("precision", 0.9, confidence=0.95))
        'precision at least 0.9 with confidence 0.95'
    """

    figure: Figure = "f_beta"
    value: float = 1.0
    confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.figure == "f_beta" and not (isfinite(self.value) and self.value > 0):
            raise InputError(f"beta is {self.value:g}; it must be above 0: 1 for F1, 2 to weigh recall more.")
        if self.figure != "f_beta" and not 0 < self.value <= 1:
            raise InputError(f"the minimum {self.figure} is {self.value:g}; it must be above 0 and at most 1.")
        if not 0 <= self.confidence < 1:
            raise InputError(f"the confidence is {self.confidence:g}; it must be between 0 and 1, such as 0.95.")
        if self.confidence and self.value == 1:
            raise InputError(f"no number of texts guarantees a {self.figure} of 1. Ask for less, such as 0.95.")

    def __str__(self) -> str:
        if self.figure == "f_beta":
            return f"F{self.value:g}"
        suffix = f" with confidence {self.confidence:g}" if self.confidence else ""
        return f"{self.figure} at least {self.value:g}{suffix}"


@dataclass(frozen=True)
class Objectives:
    """The objectives of all thresholds.

    Attributes:
        default: For every label without an objective of its own.
        named: Objectives by label.

    Example:
        >>> objectives = Objectives(named={"urgent": Objective("recall", 0.9)})
        >>> [str(objective) for objective in objectives.for_labels(["price", "urgent"])]
        ['F1', 'recall at least 0.9']
    """

    default: Objective = Objective()
    named: Mapping[str, Objective] = field(default_factory=dict)

    def for_labels(self, labels: Sequence[str]) -> tuple[Objective, ...]:
        """Return the objective of every label, in the order of `labels`.

        Raises:
            UnknownLabel: An objective is for a label that is not among `labels`.
        """
        for name in self.named:
            column_of(name, labels)
        return tuple(self.named.get(label, self.default) for label in labels)

    @property
    def need_guarantee(self) -> bool:
        """Whether a minimum must hold on new texts with some confidence."""
        return any(objective.confidence for objective in (self.default, *self.named.values()))

    def as_dict(self) -> dict[str, Any]:
        """Return the objectives as JSON content."""
        return asdict(self)


def parse_objectives(content: object, *, where: str) -> Objectives:
    """Parse what `Objectives.as_dict` returned.

    Args:
        content: Parsed JSON.
        where: The place that error messages name.

    Raises:
        CheckpointError: The content is damaged.

    Example:
        >>> parse_objectives(Objectives(Objective("f_beta", 2.0)).as_dict(), where="run.json").default.value
        2.0
    """
    try:
        return parse(Objectives, content, where=where)
    except (BundleError, InputError) as exc:
        raise CheckpointError(f"{exc} Set the objective of the thresholds with --beta or similar, or retrain.") from exc
