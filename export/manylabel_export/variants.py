"""The variants of a bundle: build each graph, evaluate it, and keep it, keep some layers in fp32, or reject it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from manylabel.bundle.bundle import Variant
from manylabel.bundle.certificate import Budget, Certificate, Parity
from manylabel.errors import BudgetExceeded
from manylabel.inference.length_batching import TokenIds, group_by_length
from manylabel.system.hardware_info import this_machine
from manylabel_export.evaluator import EvaluatedGraph, ParityEvaluator
from manylabel_export.graph import build
from manylabel_export.graph.ir.external_data import WeightStore
from manylabel_export.mixed_precision import keep_within_budget
from manylabel_train.thresholds.selection import warn_about_unmet

CALIBRATION_TOKENS = 8192
"""Number of tokens of validation texts that int8 is calibrated on."""

logger = logging.getLogger("manylabel.export")


@dataclass(frozen=True)
class VariantSet:
    """The variants of a bundle, and the certificate of all that were evaluated.

    Attributes:
        variants: The variants to write, the most exact first.
        graphs: Their graphs by file name.
        best_on_cpu: The smallest graph for CPU within its budget: int8 if it was requested, else fp32.
        certificate: How all evaluated variants compare with PyTorch, and why some were rejected.
    """

    variants: tuple[Variant, ...]
    graphs: Mapping[str, build.Graph]
    best_on_cpu: EvaluatedGraph
    certificate: Certificate


def build_variants(
    evaluator: ParityEvaluator, engine: str, precisions: Sequence[str], budget: Budget | None, store: WeightStore
) -> VariantSet:
    """Build the requested variants one by one, and the fp32 graph in any case.

    Args:
        evaluator: The model and its texts.
        engine: The tracing engine.
        precisions: The variants to write.
        budget: How far the others may differ from PyTorch on validation texts; None: only the probes are checked.
        store: Where large weights go.

    Raises:
        BudgetExceeded: All requested variants exceed it.
        ParityError: The fp32 graph differs from PyTorch.
    """
    variants: list[Variant] = []
    graphs: dict[str, build.Graph] = {}
    parity: dict[str, Parity] = {}
    rejected: dict[str, str] = {}
    best_on_cpu: EvaluatedGraph | None = None
    for graph in build.iter_graphs(
        evaluator.source.model,
        engine=engine,
        precisions=tuple(dict.fromkeys(("fp32", *precisions))),
        batches=_calibration_batches(evaluator),
        store=store,
        limit=evaluator.limit,
    ):
        try:
            is_fp32 = graph.precision == "fp32"
            evaluated = evaluator.evaluate(graph) if is_fp32 else keep_within_budget(graph, evaluator, budget)
        except BudgetExceeded as exc:
            rejected[graph.precision] = str(exc)
            logger.warning("%s is not written: %s", graph.precision, exc)
            continue
        parity[graph.precision] = evaluated.parity
        best_on_cpu = evaluated if graph.precision in ("fp32", "int8") else best_on_cpu
        if graph.precision in precisions:
            warn_about_unmet(evaluated.unmet)
            variants.append(evaluated.variant)
            graphs[evaluated.file] = evaluated.graph
    if not variants or best_on_cpu is None:
        raise BudgetExceeded(f"no variant is left to write. {'. '.join(rejected.values())}")
    return VariantSet(tuple(variants), graphs, best_on_cpu, _certificate(evaluator, parity, budget, rejected))


def _calibration_batches(evaluator: ParityEvaluator) -> list[TokenIds]:
    """Return token ids of validation texts for the calibration of int8, without the texts held out for guarantees."""
    if evaluator.source.targets is None:
        return []
    rows = np.random.default_rng(0).permutation(np.flatnonzero(~evaluator.source.holdout))
    windows = [window for row in rows for window in evaluator.encodings[row].windows]
    count = int((np.cumsum([len(window) for window in windows]) <= CALIBRATION_TOKENS).sum())
    return [ids for _, ids in group_by_length(windows[: max(count, 1)])]


def _certificate(
    evaluator: ParityEvaluator, parity: Mapping[str, Parity], budget: Budget | None, rejected: Mapping[str, str]
) -> Certificate:
    return Certificate(
        reference="PyTorch in fp32",
        texts=len(evaluator.encodings),
        data="probes" if evaluator.source.targets is None else "validation",
        device="cpu",
        machine=this_machine(),
        parity=parity,
        budget=budget,
        refused=rejected,
    )
