"""The parity evaluator: run every graph on the validation texts, match its thresholds, and compare it with PyTorch."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from manylabel.errors import missing_extra

if find_spec("transformers") is None:
    raise missing_extra("export", "transformers")

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from manylabel.bundle.bundle import FP32, WEIGHTS, MixedPrecision, Probe, Variant
from manylabel.bundle.certificate import Parity
from manylabel.bundle.variants import probe_failure
from manylabel.certify.parity import VariantScores, check_batch_invariance, compute_parity, find_flips_and_ties
from manylabel.errors import ParityError
from manylabel.inference.length_batching import score_texts
from manylabel.inference.ort_session import Session
from manylabel.inference.tokenizer import Encoding
from manylabel.system.hardware_info import available_cores
from manylabel.system.unicode import LONE_SURROGATE
from manylabel_export.graph.build import Graph
from manylabel_export.graph.equivalence_check import FP32_TOLERANCE
from manylabel_export.graph.ir.serialization import MAX_BYTES, write_model
from manylabel_export.source import ExportSource
from manylabel_train.thresholds.selection import ScoredTexts, guarantee_threshold
from manylabel_train.thresholds.tuning import match_thresholds

Scores = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EvaluatedGraph:
    """A graph with its thresholds and its parity with PyTorch.

    Attributes:
        graph: The graph.
        thresholds: The thresholds at which it decides as PyTorch does, shape `(n_labels,)`.
        parity: The comparison with PyTorch.
        unmet: By label, which guarantee its scores do not support.
        probe_failure: Which probe it gets wrong, as a sentence without its subject; "" if none.
        mixed_precision: Which layers stay in fp32 to keep within the budget; None if all are converted.
    """

    graph: Graph
    thresholds: Scores
    parity: Parity
    unmet: Mapping[str, str] = field(default_factory=dict)
    probe_failure: str = ""
    mixed_precision: MixedPrecision | None = None

    @property
    def file(self) -> str:
        """Its file name in the bundle."""
        return FP32 if self.graph.precision == "fp32" else f"model_{self.graph.precision}.onnx"

    @property
    def variant(self) -> Variant:
        """Its entry in the manifest."""
        everywhere = ("CPUExecutionProvider", "CUDAExecutionProvider")
        return Variant(
            precision=self.graph.precision,
            file=self.file,
            providers=everywhere if self.graph.precision == "fp32" else (self.graph.provider,),
            thresholds=tuple(self.thresholds.tolist()),
            fusions=dict(self.graph.fusions),
            note=self.graph.note,
            rescue=self.mixed_precision,
        )


class ParityEvaluator:
    """Compare graphs with PyTorch on the texts of an export source.

    Args:
        source: The export source.
        encodings: Its texts, tokenized.
        expected: PyTorch's probabilities and thresholds for them.
        probes: The bundle's probes with PyTorch's probabilities.
        limit: Largest size of the weights inside a graph, in bytes.
    """

    def __init__(
        self,
        source: ExportSource,
        encodings: Sequence[Encoding],
        expected: VariantScores,
        probes: Sequence[Probe],
        limit: int = MAX_BYTES,
    ) -> None:
        self.source = source
        self.encodings = encodings
        self.expected = expected
        self.probes = probes
        self.limit = limit
        self._probe_encodings = source.runtime_tokenizer.encode([probe.text for probe in probes])

    def evaluate(self, graph: Graph) -> EvaluatedGraph:
        """Run a graph on all texts, match its thresholds, and compare it with PyTorch.

        Raises:
            ParityError: It is the fp32 graph, and it differs from PyTorch.
            NonFiniteScore: It returns NaN or infinity.
        """
        source, session = self.source, open_runtime_session(graph, limit=self.limit)
        scores, thresholds = score_encodings(session, self.encodings), self.expected.thresholds
        unmet: Mapping[str, str] = {}
        if graph.precision == "fp32":
            require_fp32_parity(source.texts, source.labels, self.expected.probabilities, scores, thresholds)
        elif source.targets is not None:
            thresholds = match_thresholds(self.expected.probabilities, thresholds, scores)
            thresholds, unmet = _renew_guarantees(scores, thresholds, source.targets, source)
        parity = compute_parity(
            self.expected,
            VariantScores(scores, thresholds),
            source.labels,
            batch_invariance=check_batch_invariance(
                self.encodings, scores, lambda some: score_encodings(session, some)
            ),
            targets=_targets_for_f1(source),
        )
        failure = probe_failure(
            self.probes, source.labels, score_encodings(session, self._probe_encodings), graph.precision
        )
        return EvaluatedGraph(graph, thresholds, parity, unmet, failure)


def open_runtime_session(graph: Graph, *, limit: int = MAX_BYTES) -> Session:
    """Open a graph on the CPU, as the runtime does."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        weights_path = path.with_name(path.name + WEIGHTS)
        is_split = write_model(graph.proto, path, weights_name=weights_path.name, limit=limit)
        weights = {weights_path.name: np.memmap(weights_path, np.uint8, "r")} if is_split else {}
        return Session(str(path), device="cpu", optimized=graph.precision != "fp32", weights=weights)


def score_encodings(session: Session, encodings: Sequence[Encoding]) -> Scores:
    """Return probabilities computed as in the runtime, on all cores, shape `(n_texts, n_labels)`."""
    windows = [encoding.windows for encoding in encodings]
    with ThreadPoolExecutor(available_cores()) as pool:
        return score_texts(windows, session.run, n_labels=session.num_labels, map=pool.map)


def split_holdout(
    probabilities: Scores, targets: Scores, holdout: NDArray[np.bool_]
) -> tuple[ScoredTexts, ScoredTexts | None]:
    """Split scored texts into those for selection and those held out for guarantees, if there are any."""
    selection, held_out = (ScoredTexts(probabilities[rows], targets[rows]) for rows in (~holdout, holdout))
    return selection, held_out if holdout.any() else None


def require_fp32_parity(
    texts: Sequence[str],
    labels: Sequence[str],
    expected: Scores,
    scores: Scores,
    thresholds: NDArray[np.float32],
) -> None:
    """Compare the fp32 graph with PyTorch: every probability within 1e-4, and no flipped decision beyond a tie.

    Args:
        texts: The texts.
        labels: The labels in column order.
        expected: PyTorch's probabilities, shape `(n_texts, n_labels)`.
        scores: The graph's probabilities, same shape.
        thresholds: Shape `(n_labels,)`.

    Raises:
        ParityError: They differ; the message quotes the text and the label of the largest difference.
    """
    difference = np.abs(expected - scores)
    flips, _ = find_flips_and_ties(VariantScores(expected, thresholds), VariantScores(scores, thresholds))
    wrong = ~(difference <= FP32_TOLERANCE) | flips  # NaN counts as wrong
    if not wrong.any():
        return
    worst = int(np.argmax(np.where(wrong, np.nan_to_num(difference, nan=np.inf), -1)))
    row, column = divmod(worst, len(labels))
    raise ParityError(
        f"the fp32 graph differs from PyTorch: for {labels[column]!r} it gives {scores[row, column]:.6f}, PyTorch "
        f"{expected[row, column]:.6f} ({int(wrong.sum())} of {wrong.size} probabilities differ by more than "
        f"{FP32_TOLERANCE:g} or decide otherwise), on the text {texts[row][:200]!r}. Nothing was written. "
        "Try the other engine: --engine torch or --engine optimum."
    )


def require_same_tokens(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, encodings: Sequence[Encoding]
) -> None:
    """Compare the runtime's token ids with those of transformers, for texts that fit in one window.

    Args:
        texts: The texts.
        tokenizer: The tokenizer of transformers.
        encodings: The texts as the runtime tokenizes them.

    Raises:
        ParityError: They differ; the message quotes the text.
    """
    for text, encoding in zip(texts, encodings, strict=True):
        if len(encoding.windows) > 1 or encoding.truncated or LONE_SURROGATE.search(text):
            continue  # transformers refuses lone surrogates, which the runtime reads as U+FFFD
        ids = tokenizer(text, truncation=False, padding=False)["input_ids"]
        if ids != encoding.windows[0].tolist():
            raise ParityError(
                f"transformers and the runtime give different tokens for {text[:200]!r}. Nothing was written: "
                "the checkpoint's tokenizer is not supported."
            )


def _targets_for_f1(source: ExportSource) -> Scores | None:
    """Return the targets for F1, with those of held-out texts as unknown."""
    return None if source.targets is None else np.where(source.holdout[:, None], np.float32(np.nan), source.targets)


def _renew_guarantees(
    scores: Scores, thresholds: Scores, targets: Scores, source: ExportSource
) -> tuple[Scores, Mapping[str, str]]:
    """Select the thresholds of labels with a guarantee again, on the variant's own scores.

    That a variant nearly always decides as PyTorch does not carry the guarantee over
    (docs/decisions/0009-prove-guarantees-on-held-out-texts.md).

    Returns:
        The thresholds, and by label which guarantee the scores do not support.
    """
    selection, held_out = split_holdout(scores, targets, source.holdout)
    result = thresholds.copy()
    unmet: dict[str, str] = {}
    objectives = source.objectives.for_labels(source.labels)
    for column, (label, objective) in enumerate(zip(source.labels, objectives, strict=True)):
        if objective.confidence:
            guarantee = guarantee_threshold(column, objective, selection, held_out)
            result[column] = guarantee.threshold
            if guarantee.bound < objective.value:
                unmet[label] = f"{objective}: the variant's scores support {guarantee.bound:.3f}"
    return result, unmet
