"""The certificate: how a bundle's graphs compare with what they were made from, on which texts and which machine.

Export writes it into the manifest, `manylabel certify` makes one anywhere. `manylabel.certify` measures it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from manylabel.system.hardware_info import Machine


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: On the texts as they are.
        low: The lower end.
        high: The upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Quality:
    """F1 on labelled texts, and what it is above the reference's on the same texts (below it: negative).

    Intervals are of a bootstrap over texts, those of a change of a paired one.
    """

    micro_f1: Estimate
    macro_f1: Estimate
    micro_f1_change: Estimate
    macro_f1_change: Estimate

    @property
    def drop(self) -> float:
        """How far micro- or macro-F1 fell, whichever fell more; negative where both rose."""
        return -min(self.micro_f1_change.value, self.macro_f1_change.value)


@dataclass(frozen=True)
class LabelParity:
    """One label's decisions.

    Attributes:
        given: Texts that the reference gives it to.
        gained: Texts that the variant alone gives it to, ties left out.
        lost: Texts that the reference alone gives it to, ties left out.
        ties: Decisions that differ where both probabilities lie within 1e-4 of their thresholds.
    """

    given: int
    gained: int
    lost: int
    ties: int


@dataclass(frozen=True)
class Alone:
    """Texts that were scored once more by themselves.

    Attributes:
        tried: How many.
        same: Those whose probabilities were the same bits as among all texts.
    """

    tried: int
    same: int


@dataclass(frozen=True)
class Parity:
    """How a variant's probabilities and decisions compare with the reference's, each side by its own thresholds.

    Attributes:
        max_difference: Of probabilities.
        mean_difference: Of probabilities.
        p999_difference: The 99.9th percentile of the differences.
        flipped: Decisions that differ, of all texts and labels, ties left out.
        ties: Decisions that differ within rounding.
        texts_flipped: Texts with at least one flipped decision.
        texts_labelled: Texts to which either side gives a label.
        labels: By label.
        alone: Whether a text's neighbours matter.
        quality: Where the texts have labels.
    """

    max_difference: float
    mean_difference: float
    p999_difference: float
    flipped: int
    ties: int
    texts_flipped: int
    texts_labelled: int
    labels: Mapping[str, LabelParity]
    alone: Alone
    quality: Quality | None = None

    @property
    def flips(self) -> float:
        """Of the texts that get a label from either side, the share that gets other labels from the other."""
        return self.texts_flipped / max(self.texts_labelled, 1)


@dataclass(frozen=True)
class Budget:
    """What a variant may differ by.

    Attributes:
        max_f1_drop: Of micro- and of macro-F1; None where it does not matter.
        max_flips: Of `Parity.flips`; None where it does not matter.
    """

    max_f1_drop: float | None = 0.005
    max_flips: float | None = 0.02

    def excess(self, parity: Parity) -> str:
        """What goes beyond it, with the figures on both sides; "" where nothing does."""
        return "; ".join(self._excesses(parity))

    def _excesses(self, parity: Parity) -> Iterator[str]:
        if self.max_flips is not None and parity.flips > self.max_flips:
            yield (
                f"{parity.texts_flipped:,} of {parity.texts_labelled:,} texts with a label get other labels, "
                f"{parity.flips:.2%}, and {self.max_flips:.2%} are allowed"
            )
        if self.max_f1_drop is not None and parity.quality and parity.quality.drop > self.max_f1_drop:
            changes = (parity.quality.micro_f1_change.value, parity.quality.macro_f1_change.value)
            yield (
                f"micro-F1 changes by {changes[0]:+.4f} and macro-F1 by {changes[1]:+.4f}, and a drop of "
                f"{self.max_f1_drop:g} is allowed"
            )


@dataclass(frozen=True)
class Certificate:
    """What was measured, and where.

    Attributes:
        reference: What the variants are compared with.
        texts: How many.
        data: What texts these are.
        device: What the variants ran on, `"cpu"` or `"cuda"`.
        machine: Where it was measured.
        parity: By precision.
        budget: What was allowed; None where nothing was asked.
        refused: By precision, why a variant was not written.
    """

    reference: str
    texts: int
    data: str
    device: str
    machine: Machine
    parity: Mapping[str, Parity]
    budget: Budget | None
    refused: Mapping[str, str]
