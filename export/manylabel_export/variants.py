"""The variants of a bundle: each made, held to PyTorch and to its budget, and written, rescued or refused."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manylabel.bundle import Variant
from manylabel.certificate import Budget, Certificate, Parity
from manylabel.errors import BudgetExceeded
from manylabel.machine import this_machine
from manylabel_export import graph
from manylabel_export.choosing import warn_of_unmet
from manylabel_export.judging import Judge
from manylabel_export.rescue import within_budget

logger = logging.getLogger("manylabel.export")


@dataclass(frozen=True)
class Made:
    """What came of the variants that were asked for.

    Attributes:
        variants: Those that are written, the most exact first.
        files: Their graphs, serialized, by file name.
        certificate: How all that were made compare with PyTorch, and why others were refused.
    """

    variants: tuple[Variant, ...]
    files: Mapping[str, bytes]
    certificate: Certificate


def make_variants(judge: Judge, engine: str, precisions: Sequence[str], budget: Budget | None) -> Made:
    """Make the variants one by one, and the fp32 graph in any case.

    Args:
        judge: The model and its texts.
        engine: What traces.
        precisions: The variants to write.
        budget: What the others may differ by; None: anything goes.

    Raises:
        BudgetExceeded: All are beyond it.
        ParityError: The fp32 graph does not answer as PyTorch.
    """
    variants: list[Variant] = []
    files: dict[str, bytes] = {}
    found: dict[str, Parity] = {}
    refused: dict[str, str] = {}
    asked = tuple(dict.fromkeys(("fp32", *precisions)))
    for made in graph.build_each(judge.subject.model, engine=engine, precisions=asked):
        try:
            one = judge.judge(made) if made.precision == "fp32" else within_budget(made, judge, budget)
        except BudgetExceeded as exc:
            refused[made.precision] = str(exc)
            logger.warning("%s is refused: %s", made.precision, exc)
            continue
        found[made.precision] = one.parity
        if made.precision in precisions:
            warn_of_unmet(one.unmet)
            variants.append(one.variant)
            files[one.file] = one.content
    if not variants:
        raise BudgetExceeded(f"nothing is left to write. {'. '.join(refused.values())}")
    return Made(tuple(variants), files, _certificate(judge, found, budget, refused))


def _certificate(
    judge: Judge, parity: Mapping[str, Parity], budget: Budget | None, refused: Mapping[str, str]
) -> Certificate:
    return Certificate(
        reference="PyTorch in fp32",
        texts=len(judge.encodings),
        data="probes" if judge.subject.targets is None else "validation",
        device="cpu",
        machine=this_machine(),
        parity=parity,
        budget=budget,
        refused=refused,
    )
