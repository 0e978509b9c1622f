"""What thresholds are chosen for: the best F-beta, or a floor on precision or recall. Says what, and not how."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal

from manylabel.bundle.strict_json import parse
from manylabel.errors import BundleError, CheckpointError, InputError
from manylabel.inference.thresholding import column_of

Figure = Literal["f_beta", "precision", "recall"]


@dataclass(frozen=True)
class Goal:
    """What one label's threshold is chosen for.

    Attributes:
        figure: `"f_beta"` to be as great as can be; of `"precision"` and `"recall"`, the one that has a floor, under
            which the other is to be as great as can be.
        value: Beta, how many times as much recall weighs as precision; or the floor.
        confidence: With which a floor holds on texts to come. 0: it holds on the validation texts, and no more is said.

    Raises:
        InputError: A number is out of range.
    """

    figure: Figure = "f_beta"
    value: float = 1.0
    confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.figure == "f_beta" and not (isfinite(self.value) and self.value > 0):
            raise InputError(f"beta is {self.value:g}; it has to be above 0: 1 for F1, 2 where recall weighs more.")
        if self.figure != "f_beta" and not 0 < self.value <= 1:
            raise InputError(f"a floor on {self.figure} is {self.value:g}; it has to be above 0 and at most 1.")
        if not 0 <= self.confidence < 1:
            raise InputError(f"the confidence is {self.confidence:g}; it has to be between 0 and 1, such as 0.95.")
        if self.confidence and self.value == 1:
            raise InputError(
                f"no number of texts guarantees a {self.figure} of 1. Ask for a little less, such as 0.95."
            )

    def __str__(self) -> str:
        if self.figure == "f_beta":
            return f"F{self.value:g}"
        sure = f" with confidence {self.confidence:g}" if self.confidence else ""
        return f"{self.figure} at least {self.value:g}{sure}"


@dataclass(frozen=True)
class Goals:
    """What all thresholds are chosen for, as a user asks for it.

    Attributes:
        default: For every label that is not named.
        named: By label.
    """

    default: Goal = Goal()
    named: Mapping[str, Goal] = field(default_factory=dict)

    def of(self, labels: Sequence[str]) -> tuple[Goal, ...]:
        """The goal of every label.

        Raises:
            UnknownLabel: One is named that is not among `labels`.
        """
        for name in self.named:
            column_of(name, labels)
        return tuple(self.named.get(label, self.default) for label in labels)

    @property
    def guarantee(self) -> bool:
        """Whether any label's floor is to hold with some confidence."""
        return any(goal.confidence for goal in (self.default, *self.named.values()))

    def as_dict(self) -> dict[str, Any]:
        """The goals as JSON holds them."""
        return asdict(self)


def read_goals(content: object, *, where: str) -> Goals:
    """Goals from what `as_dict` gave.

    Args:
        content: Parsed JSON.
        where: Names the place in messages.

    Raises:
        CheckpointError: They are damaged.
    """
    try:
        return parse(Goals, content, where=where)
    except (BundleError, InputError) as exc:
        raise CheckpointError(f"{exc} Say with --beta and the like what thresholds are for, or train anew.") from exc
