"""The certificate: how a bundle's graphs compare with their reference, on which texts and which machine.

`manylabel export` writes one into the manifest; `manylabel certify` measures one anywhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from manylabel.system.hardware_info import Machine


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % confidence interval.

    Attributes:
        value: The figure.
        low: The lower end of the interval.
        high: The upper end of the interval.

    Example:
        >>> Estimate(0.81, low=0.78, high=0.84).value
        0.81
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Quality:
    """F1 on labelled texts, and its change from the reference on the same texts (negative if it is lower).

    Confidence intervals come from a bootstrap over texts; those of the changes from a paired one.

    Attributes:
        micro_f1: Micro-averaged F1.
        macro_f1: Macro-averaged F1.
        micro_f1_change: Micro-averaged F1 less the reference's.
        macro_f1_change: Macro-averaged F1 less the reference's.

    Example:
        >>> f1, lower, higher = Estimate(0.8, 0.7, 0.9), Estimate(-0.01, -0.02, 0), Estimate(0.01, 0, 0.02)
        >>> Quality(f1, f1, micro_f1_change=lower, macro_f1_change=higher).drop
        0.01
    """

    micro_f1: Estimate
    macro_f1: Estimate
    micro_f1_change: Estimate
    macro_f1_change: Estimate

    @property
    def drop(self) -> float:
        """The larger of the drops in micro- and macro-F1; negative if both rose."""
        return -min(self.micro_f1_change.value, self.macro_f1_change.value)


@dataclass(frozen=True)
class LabelParity:
    """How the decisions on one label compare.

    Attributes:
        given: The number of texts to which the reference assigns the label.
        gained: The number of texts to which only the variant assigns it, ties not counted.
        lost: The number of texts to which only the reference assigns it, ties not counted.
        ties: The number of decisions that differ while both probabilities lie within 1e-4 of their thresholds.

    Example:
        >>> LabelParity(given=120, gained=1, lost=0, ties=0).gained
        1
    """

    given: int
    gained: int
    lost: int
    ties: int


@dataclass(frozen=True)
class BatchInvariance:
    """A check that scores do not depend on the batch: some texts were scored again, each in a batch of its own.

    Attributes:
        tried: The number of texts.
        same: The number of texts whose probabilities were bit-identical to those from the large batches.

    Example:
        >>> check = BatchInvariance(tried=20, same=20)
        >>> check.same == check.tried
        True
    """

    tried: int
    same: int


@dataclass(frozen=True)
class Parity:
    """How a variant's probabilities and decisions compare with the reference's, each with its own thresholds.

    Attributes:
        max_difference: The largest difference of two probabilities.
        mean_difference: The mean difference.
        p999_difference: The 99.9th percentile of the differences.
        flipped: The number of decisions that differ, over all texts and labels, ties not counted.
        ties: The number of decisions that differ within rounding.
        texts_flipped: The number of texts with at least one flipped decision.
        texts_labelled: The number of texts with at least one label from either side.
        labels: By label.
        alone: Whether scores are independent of the batch.
        quality: F1, if the texts are labelled.

    Example:
        >>> from manylabel import Bundle
        >>> parity = Bundle.open("bundle").manifest.certificate.parity["fp32"]
        >>> parity.flips
        0.0
    """

    max_difference: float
    mean_difference: float
    p999_difference: float
    flipped: int
    ties: int
    texts_flipped: int
    texts_labelled: int
    labels: Mapping[str, LabelParity]
    alone: BatchInvariance
    quality: Quality | None = None

    @property
    def flips(self) -> float:
        """The share of the texts with at least one label from either side that get other labels from the other."""
        return self.texts_flipped / max(self.texts_labelled, 1)


@dataclass(frozen=True)
class Budget:
    """How much a variant may differ from its reference.

    Attributes:
        max_f1_drop: The largest drop in micro- and in macro-F1; None for no limit.
        max_flips: The largest `Parity.flips`; None for no limit.

    Example:
        >>> from manylabel import Bundle
        >>> parity = Bundle.open("bundle").manifest.certificate.parity["fp32"]
        >>> Budget(max_flips=0.01).excess(parity)
        ''
    """

    max_f1_drop: float | None = 0.005
    max_flips: float | None = 0.02

    def excess(self, parity: Parity) -> str:
        """Describe what exceeds the budget, with measured and allowed figures; "" if nothing does."""
        return "; ".join(self._excesses(parity))

    def _excesses(self, parity: Parity) -> Iterator[str]:
        if self.max_flips is not None and parity.flips > self.max_flips:
            yield (
                f"{parity.texts_flipped:,} of {parity.texts_labelled:,} texts with at least one label get other "
                f"labels, {parity.flips:.2%}, and {self.max_flips:.2%} are allowed"
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
        texts: The number of texts.
        data: A description of the texts.
        device: What the variants ran on, `"cpu"` or `"cuda"`.
        machine: Where it was measured.
        parity: By precision.
        budget: What was allowed; None if no limit was set.
        refused: By precision, why a variant was not written.

    Example:
        >>> from manylabel import Bundle
        >>> certificate = Bundle.open("bundle").manifest.certificate
        >>> sorted(certificate.parity), certificate.device
        (['fp16', 'fp32', 'int8'], 'cpu')
    """

    reference: str
    texts: int
    data: str
    device: str
    machine: Machine
    parity: Mapping[str, Parity]
    budget: Budget | None
    refused: Mapping[str, str]
