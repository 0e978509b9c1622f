"""What thresholds are chosen for: the best F-beta, or a floor on precision or recall. Says what, and not how."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal

from manylabel.decisions import column_of
from manylabel.errors import BundleError, CheckpointError, InputError
from manylabel.schema import parse

Figure = Literal["f_beta", "precision", "recall"]


@dataclass(frozen=True)
class Goal:
    """What one label's threshold is chosen for.

    Attributes:
        figure: `"f_beta"` to be as great as can be; of `"precision"` and `"recall"`, the one that has a floor, under
            which the other is to be as great as can be.
        value: Beta, how many times as much recall weighs as precision; or the floor.

    Raises:
        InputError: The value is out of range.
    """

    figure: Figure = "f_beta"
    value: float = 1.0

    def __post_init__(self) -> None:
        if self.figure == "f_beta" and not (isfinite(self.value) and self.value > 0):
            raise InputError(f"beta is {self.value:g}; it has to be above 0: 1 for F1, 2 where recall weighs more.")
        if self.figure != "f_beta" and not 0 < self.value <= 1:
            raise InputError(f"a floor on {self.figure} is {self.value:g}; it has to be above 0 and at most 1.")

    def __str__(self) -> str:
        return f"F{self.value:g}" if self.figure == "f_beta" else f"{self.figure} at least {self.value:g}"


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
