"""Does the bundle answer faster than what a user would take instead, and as well?

Contenders run in processes of their own and take turns, on texts that neither the model nor its thresholds have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel import Bundle, Classifier
from manylabel.errors import InputError
from manylabel_bench.contenders import RIVALS, Kind, Setting, bundled
from manylabel_bench.contenders.openvino import SAMPLE
from manylabel_bench.runner.process import ContenderFailed, prepare
from manylabel_bench.runner.workload import Workload, write_texts
from manylabel_bench.scenarios import ALONE, MODULES, TURNS, Field, Samples
from manylabel_bench.scenarios.throughput import scores_file
from manylabel_train.evaluation.metrics import multilabel_metrics

COMPANY = 200
"""Texts that are scored both alone and in company."""


@dataclass(frozen=True)
class Plan:
    """What is measured, of whom, and for how long.

    Attributes:
        scenarios: Modules of `manylabel_bench.scenarios`.
        names: Contenders; empty for all that can run here.
        threads: For every contender.
        rounds: How often each has its turn.
        seconds: Of a turn at most, where it can be cut short.
    """

    scenarios: Sequence[str]
    names: Sequence[str]
    threads: int
    rounds: int
    seconds: float


def compare(
    bundle: Bundle, workload: Workload, checkpoint: Path | None, sample: Sequence[str], scratch: Path, plan: Plan
) -> dict[str, Any]:
    """Measure every contender that can run here.

    Args:
        bundle: What is measured.
        workload: Texts that neither the model nor its thresholds have seen.
        checkpoint: The PyTorch checkpoint that the bundle came from, or None to leave out who needs it.
        sample: Other texts, which rivals may calibrate by.
        scratch: Where rivals keep their own models and everyone's probabilities; used again where it is given again.
        plan: What, of whom and for how long.

    Returns:
        `samples` by scenario and contender, `skipped` with the reasons, and `accuracy` by contender.

    Raises:
        ContenderFailed: A contender that was asked for by name cannot be measured.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    write_texts(scratch / SAMPLE, sample)
    setting = Setting(
        bundle=str(bundle.path),
        checkpoint=str(checkpoint) if checkpoint else None,
        prepared=str(scratch),
        threads=plan.threads,
        max_length=bundle.manifest.max_length,
    )
    skipped: dict[str, str] = {}
    field = Field(
        kinds=_able(_kinds(bundle, plan.names), setting, skipped),
        setting=setting,
        workload=workload,
        texts=write_texts(scratch / "texts.json", workload.data.texts),
        scratch=scratch,
        rounds=plan.rounds,
        seconds=plan.seconds,
        skipped=skipped,
    )
    samples = _measure(field, plan.scenarios)
    failed = [f"{name}: {why}" for name, why in skipped.items() if name in plan.names or name.startswith("manylabel ")]
    if failed:
        raise ContenderFailed(f"cannot be measured: {'; '.join(failed)}")
    return {"samples": samples, "skipped": skipped, "accuracy": _accuracies(bundle, field)}


def _measure(field: Field, scenarios: Sequence[str]) -> dict[str, Samples]:
    """Samples by scenario and contender; those in which contenders take turns share their processes."""
    modules = {name: import_module(f"manylabel_bench.scenarios.{MODULES[name]}") for name in scenarios}
    samples: dict[str, Samples] = {}
    if in_turns := [name for name in TURNS if name in modules]:
        with field.turns() as up:
            for name in in_turns:
                samples |= modules[name].measure(field, up)
    for name in (each for each in ALONE if each in modules):
        samples |= modules[name].measure(field)
    return samples


def alone_and_in_company(bundle: Bundle, texts: Sequence[str]) -> dict[str, bool]:
    """For each variant: does a text get the same bits alone as among others?"""
    result = {}
    for name, variant in bundle.variants.items():
        if "CPUExecutionProvider" in variant.providers:
            classifier = Classifier.load(bundle.path, device="cpu", precision=name)  # type: ignore[arg-type]  # a precision
            together = classifier.predict_proba(texts)
            alone = np.concatenate([classifier.predict_proba(text) for text in texts])
            result[name] = bool((alone == together).all())
    return result


def _kinds(bundle: Bundle, names: Sequence[str]) -> list[Kind]:
    """Those that were named, or all.

    Raises:
        InputError: There is no contender of a name.
    """
    variants = bundle.manifest.variants
    every = [bundled(each.precision) for each in variants if "CPUExecutionProvider" in each.providers] + list(RIVALS)
    unknown = [name for name in names if name not in {kind.name for kind in every}]
    if unknown:
        offered = ", ".join(kind.name for kind in every)
        raise InputError(f"there is no contender {unknown[0]!r}; there are {offered}.")
    return [kind for kind in every if kind.name in names] if names else every


def _able(kinds: Sequence[Kind], setting: Setting, skipped: dict[str, str]) -> list[Kind]:
    """Those that can run here, with their own files made; why the others cannot is noted."""
    able = []
    for kind in kinds:
        if why := kind.missing(setting):
            skipped[kind.name] = why
            continue
        try:
            prepare(kind, setting)
        except ContenderFailed as exc:
            skipped[kind.name] = str(exc)
            continue
        able.append(kind)
    return able


def _accuracies(bundle: Bundle, field: Field) -> dict[str, dict[str, Any]]:
    """F1 and agreement with PyTorch, of those whose probabilities of these very texts are known."""
    found = {kind.name: _load(scores_file(field, kind.name), len(field.workload.data)) for kind in field.kinds}
    reference = _load(scores_file(field, "pytorch"), len(field.workload.data))
    return {
        name: _accuracy(bundle, name, field.workload, scores, reference)
        for name, scores in found.items()
        if scores is not None
    }


def _accuracy(
    bundle: Bundle, name: str, workload: Workload, scores: NDArray[np.float32], reference: NDArray[np.float32] | None
) -> dict[str, Any]:
    """A variant decides by its own thresholds, everyone else by those of the most exact one: PyTorch's, with fp32."""
    exact = next(iter(bundle.variants))
    precision = name.removeprefix("manylabel ") if name.startswith("manylabel ") else exact
    thresholds, of_pytorch = (
        np.array(bundle.variants[each].thresholds, dtype=np.float32) for each in (precision, exact)
    )
    figures: dict[str, Any] = {}
    if not np.isnan(workload.data.targets).all():
        figures |= multilabel_metrics(scores, workload.data.targets, thresholds)
        figures["at_half"] = multilabel_metrics(scores, workload.data.targets)
    if reference is not None:
        difference = np.abs(scores.astype(np.float64) - reference)
        figures |= {
            "max_difference": float(difference.max()),
            "mean_difference": float(difference.mean()),
            "decisions_as_pytorch": float(((scores >= thresholds) == (reference >= of_pytorch)).mean()),
        }
    return figures


def _load(path: Path, texts: int) -> NDArray[np.float32] | None:
    if not path.exists():
        return None
    found = np.asarray(np.load(path), dtype=np.float32)
    return found if len(found) == texts else None
