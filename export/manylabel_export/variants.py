"""The variants of a bundle: each made, held to PyTorch and to its budget, and written, rescued or refused."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from manylabel.bundle.bundle import Variant
from manylabel.bundle.certificate import Budget, Certificate, Parity
from manylabel.errors import BudgetExceeded
from manylabel.inference.length_batching import Ids, batches
from manylabel.system.hardware_info import this_machine
from manylabel_export.evaluator import Judge, Judged
from manylabel_export.graph import build
from manylabel_export.mixed_precision import within_budget
from manylabel_train.thresholds.selection import warn_about_unmet

FITTED_TOKENS = 8192
"""int8 is fitted to validation texts of so many tokens in all."""

logger = logging.getLogger("manylabel.export")


@dataclass(frozen=True)
class Made:
    """What came of the variants that were asked for.

    Attributes:
        variants: Those that are written, the most exact first.
        graphs: Theirs, by file name.
        best: The smallest for the CPU within its budget: int8 where it was asked for, else fp32.
        certificate: How all that were made compare with PyTorch, and why others were refused.
    """

    variants: tuple[Variant, ...]
    graphs: Mapping[str, build.Graph]
    best: Judged
    certificate: Certificate


def make_variants(
    judge: Judge, engine: str, precisions: Sequence[str], budget: Budget | None, store: build.Store
) -> Made:
    """Make the variants one by one, and the fp32 graph in any case.

    Args:
        judge: The model and its texts.
        engine: What traces.
        precisions: The variants to write.
        budget: What the others may differ by on validation texts; None: there it goes by probes alone.
        store: Where the graphs keep large weights.

    Raises:
        BudgetExceeded: All are beyond it.
        ParityError: The fp32 graph does not answer as PyTorch.
    """
    variants: list[Variant] = []
    graphs: dict[str, build.Graph] = {}
    found: dict[str, Parity] = {}
    refused: dict[str, str] = {}
    best: Judged | None = None
    asked = tuple(dict.fromkeys(("fp32", *precisions)))
    texts = _to_fit(judge)
    model, limit = judge.subject.model, judge.limit
    for made in build.build_each(model, engine=engine, precisions=asked, batches=texts, store=store, limit=limit):
        try:
            one = judge.judge(made) if made.precision == "fp32" else within_budget(made, judge, budget)
        except BudgetExceeded as exc:
            refused[made.precision] = str(exc)
            logger.warning("%s is refused: %s", made.precision, exc)
            continue
        found[made.precision] = one.parity
        best = one if made.precision in ("fp32", "int8") else best
        if made.precision in precisions:
            warn_about_unmet(one.unmet)
            variants.append(one.variant)
            graphs[one.file] = one.made
    if not variants or best is None:
        raise BudgetExceeded(f"nothing is left to write. {'. '.join(refused.values())}")
    return Made(tuple(variants), graphs, best, _certificate(judge, found, budget, refused))


def _to_fit(judge: Judge) -> list[Ids]:
    """Token ids of the validation texts that int8 is fitted to; none where there are only probes.

    Texts set aside to prove guarantees by are left out: nothing may be chosen by them.
    """
    if judge.subject.targets is None:
        return []
    rows = np.random.default_rng(0).permutation(np.flatnonzero(~judge.subject.aside))
    windows = [window for row in rows for window in judge.encodings[row].windows]
    enough = int((np.cumsum([len(window) for window in windows]) <= FITTED_TOKENS).sum())
    return [ids for _, ids in batches(windows[: max(enough, 1)])]


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
