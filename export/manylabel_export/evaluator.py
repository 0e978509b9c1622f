"""Runs graphs on the subject's texts: the thresholds by which each decides as PyTorch, and how it compares with it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import FP32, WEIGHTS, MixedPrecision, Probe, Variant
from manylabel.bundle.certificate import Parity
from manylabel.bundle.variants import probe_failure
from manylabel.certify.parity import VariantScores, check_batch_invariance, compute_parity
from manylabel.inference.length_batching import score_texts
from manylabel.inference.ort_session import Session
from manylabel.inference.tokenizer import Encoding
from manylabel.system.cpu_quota import available_cores
from manylabel_export import parity
from manylabel_export.graph.build import MAX_BYTES, Graph, write
from manylabel_export.source import Subject
from manylabel_train.thresholds.selection import ScoredTexts, guarantee_threshold
from manylabel_train.thresholds.tuning import match_thresholds

Scores = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judged:
    """A graph, and what is known of its answers.

    Attributes:
        made: The graph.
        thresholds: Those by which it decides as PyTorch, shape `(n_labels,)`.
        parity: Its answers beside PyTorch's.
        unmet: By label, which guarantee its scores do not bear out.
        wrong: What it answers to a probe that is too far off, as a sentence without its subject; "" where nothing is.
        rescue: What was done to bring it within its budget.
    """

    made: Graph
    thresholds: Scores
    parity: Parity
    unmet: Mapping[str, str] = field(default_factory=dict)
    wrong: str = ""
    rescue: MixedPrecision | None = None

    @property
    def file(self) -> str:
        """Its file in the bundle."""
        return FP32 if self.made.precision == "fp32" else f"model_{self.made.precision}.onnx"

    @property
    def variant(self) -> Variant:
        """What the manifest says of it."""
        everywhere = ("CPUExecutionProvider", "CUDAExecutionProvider")
        return Variant(
            precision=self.made.precision,
            file=self.file,
            providers=everywhere if self.made.precision == "fp32" else (self.made.provider,),
            thresholds=tuple(self.thresholds.tolist()),
            fusions=dict(self.made.fusions),
            note=self.made.note,
            rescue=self.rescue,
        )


class Judge:
    """The subject's texts with PyTorch's answers, which every graph is held against.

    Args:
        subject: What is exported.
        encodings: Its texts.
        expected: What PyTorch says of them.
        probes: The bundle's probes, with what PyTorch says of them.
        limit: Bytes of weights that a graph may hold.
    """

    def __init__(
        self,
        subject: Subject,
        encodings: Sequence[Encoding],
        expected: VariantScores,
        probes: Sequence[Probe],
        limit: int = MAX_BYTES,
    ) -> None:
        self.subject = subject
        self.encodings = encodings
        self.expected = expected
        self.probes = probes
        self.limit = limit
        self._probing = subject.reader.encode([probe.text for probe in probes])

    def judge(self, made: Graph) -> Judged:
        """Run a graph on all texts.

        Raises:
            ParityError: It is the fp32 graph and does not answer as PyTorch.
            NonFiniteScore: It gives a probability that is no number.
        """
        subject, session = self.subject, open_graph(made, limit=self.limit)
        found, thresholds = scores_of(session, self.encodings), self.expected.thresholds
        unmet: Mapping[str, str] = {}
        if made.precision == "fp32":
            parity.require_equal(subject.texts, subject.labels, self.expected.probabilities, found, thresholds)
        elif subject.targets is not None:
            thresholds = match_thresholds(self.expected.probabilities, thresholds, found)
            thresholds, unmet = _guaranteed(found, thresholds, subject.targets, subject)
        alone = check_batch_invariance(self.encodings, found, lambda some: scores_of(session, some))
        compared = compute_parity(
            self.expected,
            VariantScores(found, thresholds),
            subject.labels,
            batch_invariance=alone,
            targets=_judged_by(subject),
        )
        wrong = probe_failure(self.probes, subject.labels, scores_of(session, self._probing), made.precision)
        return Judged(made, thresholds, compared, unmet, wrong)


def open_graph(made: Graph, *, limit: int = MAX_BYTES) -> Session:
    """A session on the CPU, as the runtime opens it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        beside = path.with_name(path.name + WEIGHTS)
        apart = write(made.proto, path, beside=beside.name, limit=limit)
        weights = {beside.name: np.memmap(beside, np.uint8, "r")} if apart else {}
        return Session(str(path), device="cpu", optimized=made.precision != "fp32", weights=weights)


def scores_of(session: Session, encodings: Sequence[Encoding]) -> Scores:
    """Probabilities along the way that the runtime goes, shape `(n_texts, n_labels)`, on all cores."""
    windows = [encoding.windows for encoding in encodings]
    with ThreadPoolExecutor(available_cores()) as pool:
        return score_texts(windows, session.run, n_labels=session.num_labels, map=pool.map)


def scored(probabilities: Scores, targets: Scores, aside: NDArray[np.bool_]) -> tuple[ScoredTexts, ScoredTexts | None]:
    """The texts that choices are made by, and those set aside, if any were."""
    rows, proof = (ScoredTexts(probabilities[which], targets[which]) for which in (~aside, aside))
    return rows, proof if aside.any() else None


def _judged_by(subject: Subject) -> Scores | None:
    """The labels that F1 is measured by; those of texts set aside are as unknown."""
    return None if subject.targets is None else np.where(subject.aside[:, None], np.float32(np.nan), subject.targets)


def _guaranteed(
    found: Scores, thresholds: Scores, targets: Scores, subject: Subject
) -> tuple[Scores, Mapping[str, str]]:
    """A variant's thresholds where those of labels with a guarantee are proved anew, by its own scores, and what fails.

    To decide as PyTorch nearly always does is not enough for a promise (docs/decisions/0009-prove-guarantees-on-held-out-texts.md).
    """
    rows, aside = scored(found, targets, subject.aside)
    result = thresholds.copy()
    unmet: dict[str, str] = {}
    for column, (label, goal) in enumerate(zip(subject.labels, subject.goals.for_labels(subject.labels), strict=True)):
        if goal.confidence:
            proved = guarantee_threshold(column, goal, rows, aside)
            result[column] = proved.threshold
            if proved.bound < goal.value:
                unmet[label] = f"{goal}: a variant's scores bear out {proved.bound:.3f}"
    return result, unmet
