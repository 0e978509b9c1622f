"""The comparison: is the bundle faster than what a user would run instead, and as accurate?

Contenders run in processes of their own and take turns, on texts that neither the model nor its thresholds have seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel import Bundle, Classifier
from manylabel.errors import InputError
from manylabel_bench.contenders.openvino import SAMPLE_FILE
from manylabel_bench.contenders.registry import BASELINES, ContenderConfig, ContenderSpec, bundle_contender
from manylabel_bench.runner.process import BenchContext, ContenderFailed, Samples, prepare_contender
from manylabel_bench.runner.workload import Workload, write_texts
from manylabel_bench.scenarios import FUNCTIONS, LOADED, STANDALONE
from manylabel_bench.scenarios.throughput import scores_path
from manylabel_train.evaluation.metrics import multilabel_metrics

INVARIANCE_TEXTS = 200
"""Texts that are scored one by one and in batches, to check that their scores are batch-invariant."""


@dataclass(frozen=True)
class BenchConfig:
    """What is measured, of which contenders, and for how long.

    Attributes:
        scenarios: Names of scenarios.
        names: Names of contenders; empty for all that can run here.
        threads: Threads for every contender.
        rounds: How often each contender has its turn.
        seconds: Upper bound of a turn, where it can be cut short.
    """

    scenarios: Sequence[str]
    names: Sequence[str]
    threads: int
    rounds: int
    seconds: float


def compare_contenders(
    bundle: Bundle,
    workload: Workload,
    checkpoint: Path | None,
    sample: Sequence[str],
    scratch: Path,
    config: BenchConfig,
) -> dict[str, Any]:
    """Measure every contender that can run here.

    Args:
        bundle: The bundle to measure.
        workload: Texts that neither the model nor its thresholds have seen.
        checkpoint: The PyTorch checkpoint that the bundle was exported from, or None to skip contenders that need it.
        sample: Other texts, with which baselines may calibrate.
        scratch: Where baselines keep their models, and all contenders write probabilities; a later run may reuse it.
        config: What is measured, of which contenders, and for how long.

    Returns:
        `samples` by scenario and contender, `skipped` with the reasons, and `accuracy` by contender.

    Raises:
        ContenderFailed: A contender that was named cannot be measured.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    write_texts(scratch / SAMPLE_FILE, sample)
    contender_config = ContenderConfig(
        bundle=str(bundle.path),
        checkpoint=str(checkpoint) if checkpoint else None,
        prepared=str(scratch),
        threads=config.threads,
        max_length=bundle.manifest.max_length,
    )
    skipped: dict[str, str] = {}
    context = BenchContext(
        contenders=_prepare_all(_select_contenders(bundle, config.names), contender_config, skipped),
        config=contender_config,
        workload=workload,
        texts=write_texts(scratch / "texts.json", workload.data.texts),
        scratch=scratch,
        rounds=config.rounds,
        seconds=config.seconds,
        skipped=skipped,
    )
    samples = _run_scenarios(context, config.scenarios)
    required = (*config.names, *(name for name in skipped if name.startswith("manylabel ")))
    if failed := [f"{name}: {reason}" for name, reason in skipped.items() if name in required]:
        raise ContenderFailed(f"cannot be measured: {'; '.join(failed)}")
    return {"samples": samples, "skipped": skipped, "accuracy": _measure_accuracy(bundle, context)}


def measure_batch_invariance(bundle: Bundle, texts: Sequence[str]) -> dict[str, bool]:
    """Return for each CPU variant whether a text's scores have the same bits alone as in a batch."""
    invariant = {}
    for name, variant in bundle.variants.items():
        if "CPUExecutionProvider" in variant.providers:
            classifier = Classifier.load(bundle.path, device="cpu", precision=name)  # type: ignore[arg-type]  # a precision
            batched = classifier.predict_proba(texts)
            single = np.concatenate([classifier.predict_proba(text) for text in texts])
            invariant[name] = bool((single == batched).all())
    return invariant


def _run_scenarios(context: BenchContext, scenarios: Sequence[str]) -> dict[str, Samples]:
    """Return samples by scenario and contender; scenarios in which contenders take turns share their processes."""
    samples: dict[str, Samples] = {}
    if loaded := [name for name in LOADED if name in scenarios]:
        with context.start_all() as processes:
            for name in loaded:
                samples |= _import_scenario(name)(context, processes)
    for name in (name for name in STANDALONE if name in scenarios):
        samples |= _import_scenario(name)(context)
    return samples


def _import_scenario(name: str) -> Callable[..., dict[str, Samples]]:
    module, function = FUNCTIONS[name].split(".")
    scenario: Callable[..., dict[str, Samples]] = getattr(
        import_module(f"manylabel_bench.scenarios.{module}"), function
    )
    return scenario


def _select_contenders(bundle: Bundle, names: Sequence[str]) -> list[ContenderSpec]:
    """Return the contenders that were named, or all.

    Raises:
        InputError: A name is unknown.
    """
    cpu_variants = [each for each in bundle.manifest.variants if "CPUExecutionProvider" in each.providers]
    available = [*(bundle_contender(variant.precision) for variant in cpu_variants), *BASELINES]
    offered = [spec.name for spec in available]
    if unknown := [name for name in names if name not in offered]:
        raise InputError(f"unknown contender {unknown[0]!r}. Available: {', '.join(offered)}.")
    return [spec for spec in available if spec.name in names] if names else available


def _prepare_all(
    specs: Sequence[ContenderSpec], config: ContenderConfig, skipped: dict[str, str]
) -> list[ContenderSpec]:
    """Return the contenders that can run here, with their files prepared; record in `skipped` why the others cannot."""
    able = []
    for spec in specs:
        if reason := spec.unavailable_reason(config):
            skipped[spec.name] = reason
            continue
        try:
            prepare_contender(spec, config)
        except ContenderFailed as exc:
            skipped[spec.name] = str(exc)
            continue
        able.append(spec)
    return able


def _measure_accuracy(bundle: Bundle, context: BenchContext) -> dict[str, dict[str, Any]]:
    """Return F1 and agreement with PyTorch, for contenders whose probabilities of these texts are on disk."""
    n_texts = len(context.workload.data)
    scored = {spec.name: _load_scores(scores_path(context, spec.name), n_texts) for spec in context.contenders}
    reference = _load_scores(scores_path(context, "pytorch"), n_texts)
    return {
        name: _accuracy_figures(bundle, name, context.workload, scores, reference)
        for name, scores in scored.items()
        if scores is not None
    }


def _accuracy_figures(
    bundle: Bundle, name: str, workload: Workload, scores: NDArray[np.float32], reference: NDArray[np.float32] | None
) -> dict[str, Any]:
    """Compute the figures of one contender.

    A variant of the bundle decides by its own thresholds, all others by those of the most exact variant, which stands
    for PyTorch.
    """
    exact = next(iter(bundle.variants))
    precision = name.removeprefix("manylabel ") if name.startswith("manylabel ") else exact
    thresholds, reference_thresholds = (
        np.array(bundle.variants[each].thresholds, dtype=np.float32) for each in (precision, exact)
    )
    figures: dict[str, Any] = {}
    if not np.isnan(workload.data.targets).all():
        figures |= multilabel_metrics(scores, workload.data.targets, thresholds)
        figures["at_half"] = multilabel_metrics(scores, workload.data.targets)
    if reference is not None:
        difference = np.abs(scores.astype(np.float64) - reference)
        same_decisions = (scores >= thresholds) == (reference >= reference_thresholds)
        figures |= {
            "max_difference": float(difference.max()),
            "mean_difference": float(difference.mean()),
            "decisions_as_pytorch": float(same_decisions.mean()),
        }
    return figures


def _load_scores(path: Path, n_texts: int) -> NDArray[np.float32] | None:
    """Return the probabilities in a file, or None if it does not exist or holds those of other texts."""
    if not path.exists():
        return None
    scores = np.asarray(np.load(path), dtype=np.float32)
    return scores if len(scores) == n_texts else None
