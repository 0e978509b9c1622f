"""The classifier: a bundle, its tokenizer and a session, composed. The only module that knows them all."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manylabel.batching import Ids, Scores, score
from manylabel.bundle import TOKENIZER, Bundle, Variant
from manylabel.cores import available_cores
from manylabel.decisions import Prediction, Thresholds, decide, ranked, resolve_thresholds
from manylabel.errors import BundleError, InputError
from manylabel.session import Device, Session, resolve_device
from manylabel.tokenization import Encoding, Tokenizer, as_texts
from manylabel.variants import Precision, choose_variant

WINDOW = 4096
"""Texts that are sorted by length together: enough that equal lengths meet, few enough to hold."""

PROBE_TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "int8": 1e-1}
"""How far a probe's probability may lie from PyTorch's: wide enough for another machine's rounding, and for what a
precision costs (measured per bundle in its parity figures), far below what a wrong tokenizer or shuffled labels do."""

logger = logging.getLogger("manylabel")


@dataclass(frozen=True)
class Options:
    """How a classifier was asked to be loaded, so that it can be loaded again."""

    device: Device
    precision: Precision
    threads: int | None


class Classifier:
    """A multi-label text classifier from a bundle. May be used from several threads at once.

    A text's answer does not depend on the texts beside it. Pickling carries the bundle's path and loads it again. The
    threads end with the last reference to the classifier.

    Example:
        >>> classifier = Classifier.load("build/demo/bundle")  # doctest: +SKIP
        >>> classifier.predict("The courier was rude and the parcel was late.")  # doctest: +SKIP
        [['delivery', 'customer service']]
    """

    def __init__(self, bundle: Bundle, variant: Variant, options: Options) -> None:
        manifest = bundle.manifest
        self._tokenizer = Tokenizer(
            bundle.read(TOKENIZER),
            prefix=manifest.special_tokens.prefix,
            suffix=manifest.special_tokens.suffix,
            max_length=manifest.max_length,
            long_text=manifest.long_text,
        )
        device = resolve_device(options.device)
        self._session = Session(bundle.read(variant.file), device=device, optimized=variant.precision != "fp32")
        if self._session.num_labels != len(bundle.labels):
            raise BundleError(
                f"{variant.file} gives {self._session.num_labels} columns, and the manifest names {len(bundle.labels)} "
                "labels. The bundle's parts do not belong together; fetch it anew."
            )
        threads = options.threads or available_cores()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="manylabel")
        self._options = options
        self.bundle = bundle
        self.variant = variant
        logger.info("%s: %s on %s, %d threads", bundle.path, variant.precision, device, threads)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        device: Device = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
    ) -> "Classifier":
        """Load a bundle.

        The files that are needed are hashed as they are read; `Bundle.verify` hashes all.

        Args:
            path: The bundle's folder.
            device: `"cpu"`, `"cuda"`, or `"auto"`: CUDA where it is offered and there is a GPU, else the CPU.
            precision: A variant of the bundle; `"auto"` takes the fastest that is meant for the device.
            threads: Cores to use on the CPU; `None` takes all that this process may use.

        Raises:
            BundleError: The bundle is damaged.
            DeviceUnavailable: The device was asked for and cannot run.
            InputError: There is no bundle, or no such variant in it.
            MissingDependency: onnxruntime is absent, or both of its builds are installed.
        """
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}; it has to be 1 or more, or None for all cores.")
        bundle = Bundle.open(path)
        variant = choose_variant(bundle, resolve_device(device), precision)
        return cls(bundle, variant, Options(device, precision, threads))

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _reload, (self.bundle.path.absolute(), self.bundle.digest, self._options)

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The labels in column order, shape `(n_labels,)`."""
        return np.array(self.bundle.labels)

    @property
    def thresholds_(self) -> NDArray[np.float32]:
        """This variant's thresholds in column order, shape `(n_labels,)`."""
        return np.array(self.variant.thresholds, dtype=np.float32)

    @property
    def device(self) -> str:
        """What runs: `"cpu"` or `"cuda"`."""
        return self._session.device

    @property
    def precision(self) -> str:
        """Which variant runs: `"fp32"`, `"int8"` or `"fp16"`."""
        return self.variant.precision

    def predict_proba(self, texts: str | Iterable[str]) -> NDArray[np.float32]:
        """Probability of every label for every text.

        Labels are independent: a row need not sum to 1.

        Args:
            texts: One text or several. One text gives one row.

        Returns:
            Probabilities in `classes_` column order, shape `(n_texts, n_labels)`.

        Raises:
            InvalidText: A text is not a string.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.
            ForkedProcess: The classifier was loaded before a fork.
        """
        rows = [probabilities for _, probabilities in self._answer(as_texts(texts))]
        return np.concatenate(rows) if rows else np.empty((0, len(self.bundle.labels)), dtype=np.float32)

    def predict(self, texts: str | Iterable[str], *, thresholds: Thresholds | None = None) -> list[list[str]]:
        """The labels that apply to every text, in column order; often several, perhaps none.

        Args:
            texts: One text or several. One text gives one list.
            thresholds: In place of the bundle's own: one for all, one a label, or some by name.

        Raises:
            InvalidText: A text is not a string.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.
            UnknownLabel: A threshold is given for a label that is not there.
            InputError: A threshold is not between 0 and 1.
            ForkedProcess: The classifier was loaded before a fork.
        """
        limits = resolve_thresholds(thresholds, self.bundle.labels, self.variant.thresholds)
        decided = decide(self.predict_proba(texts), limits)
        return [[self.bundle.labels[column] for column in np.flatnonzero(row)] for row in decided]

    def classify(
        self, texts: str | Iterable[str], *, top_k: int | None = None, thresholds: Thresholds | None = None
    ) -> list[Prediction]:
        """Labels, scores and what became of the text, for every text.

        Args:
            texts: One text or several. One text gives one prediction.
            top_k: Scores to keep a text, the greatest first; `None` keeps all.
            thresholds: In place of the bundle's own: one for all, one a label, or some by name.

        Raises:
            InvalidText: A text is not a string.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.
            UnknownLabel: A threshold is given for a label that is not there.
            InputError: A threshold is not between 0 and 1, or `top_k` is below 1.
            ForkedProcess: The classifier was loaded before a fork.
        """
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k is {top_k}; it has to be 1 or more, or None for all labels.")
        limits = resolve_thresholds(thresholds, self.bundle.labels, self.variant.thresholds)
        return [
            Prediction(*ranked(row, limits, self.bundle.labels, top_k), encoding.n_tokens, encoding.truncated)
            for encodings, probabilities in self._answer(as_texts(texts))
            for encoding, row in zip(encodings, probabilities, strict=True)
        ]

    def encode(self, texts: str | Iterable[str]) -> list[Encoding]:
        """Texts as the model reads them, tokenised on the calling thread; `score_windows` takes what comes out.

        Raises:
            InvalidText: A text is not a string.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.
        """
        return self._tokenizer.encode(texts)

    def score_windows(self, windows: Sequence[Ids]) -> Scores:
        """Probabilities of windows of token ids, on the calling thread: for those who have threads of their own.

        Args:
            windows: Of any texts, each of shape `(n,)`.

        Returns:
            Shape `(len(windows), n_labels)`. A text's probabilities are the greatest of its windows'.

        Raises:
            ForkedProcess: The classifier was loaded before a fork.
            BundleError: The graph fails.
        """
        return score([[window] for window in windows], self._session.run, n_labels=len(self.bundle.labels))

    def check_probes(self) -> None:
        """Answer the bundle's probes on this machine and hold the answers against PyTorch's.

        Raises:
            BundleError: An answer is too far off.
        """
        probes = self.bundle.manifest.probes
        probabilities = self.predict_proba([probe.text for probe in probes])
        for probe, row in zip(probes, probabilities, strict=True):
            for label, found in zip(self.bundle.labels, row.tolist(), strict=True):
                expected = probe.probabilities[label]
                if abs(found - expected) > PROBE_TOLERANCE[self.precision]:
                    raise BundleError(
                        f"{self.variant.file} gives {found:.4f} for {label!r} where PyTorch gave {expected:.4f} "
                        f"(text {probe.text[:40]!r}). The bundle's parts do not belong together, or this machine "
                        "computes wrongly."
                    )

    def _answer(self, texts: Sequence[str]) -> Iterator[tuple[list[Encoding], NDArray[np.float32]]]:
        """Encodings and probabilities, window by window, in order."""
        self._session.check_process()  # before the pool: its threads did not survive a fork, and would never answer
        for start in range(0, len(texts), WINDOW):
            encodings = self._tokenizer.encode(texts[start : start + WINDOW], first_row=start)
            windows = [encoding.windows for encoding in encodings]
            alone = sum(map(len, windows)) == 1  # nothing to share out: spare the way to another thread
            run_all = map if alone else self._on_all_threads
            yield encodings, score(windows, self._session.run, n_labels=len(self.bundle.labels), map=run_all)

    def _on_all_threads(self, function: Callable[[Ids], Scores], items: Iterable[Ids]) -> Iterable[Scores]:
        items = list(items)
        try:
            return self._pool.map(function, items)
        except RuntimeError as exc:  # the interpreter is shutting down, or the system grants no more threads
            logger.warning("answering on one thread: %s", exc)
            return map(function, items)


def _reload(path: Path, digest: str, options: Options) -> Classifier:
    classifier = Classifier.load(path, device=options.device, precision=options.precision, threads=options.threads)
    if classifier.bundle.digest != digest:
        raise BundleError(f"{path} holds another bundle than the classifier that was pickled. Load it by its path.")
    return classifier
