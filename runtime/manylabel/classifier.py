"""The classifier: a bundle, its tokenizer and a session, composed. The only module that knows them all."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import TOKENIZER, Bundle, Variant
from manylabel.bundle.signing import open_signed
from manylabel.bundle.variants import Precision, probe_failure
from manylabel.errors import BundleError, InputError, InvalidText
from manylabel.explain.occlusion import Explanation, OcclusionInput, build_explanation, plan_occlusion
from manylabel.frames.protocols import Frame
from manylabel.inference.cuda_graphs import LONGEST
from manylabel.inference.latency_session import MOST_THREADS, Alone, Run
from manylabel.inference.length_batching import Ids, Map, Scores, score
from manylabel.inference.ort_session import Device, Session, resolve_device
from manylabel.inference.pipeline import Hands, stream
from manylabel.inference.predictions import Prediction, PredictionBatch
from manylabel.inference.thresholding import Thresholds, column_of, decide, ranked, resolve_thresholds
from manylabel.inference.tokenizer import Encoding, Outcome, Tokenizer, as_texts
from manylabel.load_options import Setting, settle

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger("manylabel")


@dataclass(frozen=True)
class Options:
    """How a classifier was asked to be loaded, so that it can be loaded again."""

    device: Device
    precision: Precision
    threads: int | None
    batch_tokens: int | None
    cuda_graphs: bool | None = None
    verify_key: Path | None = None
    digest: str | None = None


class Classifier:
    """A multi-label text classifier from a bundle. May be used from several threads at once.

    A text's answer does not depend on the texts beside it. Pickling carries the bundle's path and loads it again. The
    threads end with the last reference to the classifier.

    Example:
        >>> classifier = Classifier.load("build/demo/bundle")  # doctest: +SKIP
        >>> classifier.predict("The courier was rude and the parcel was late.")  # doctest: +SKIP
        [['delivery', 'customer service']]
    """

    def __init__(self, bundle: Bundle, setting: Setting, options: Options) -> None:
        variant, threads = bundle.variants[setting.precision], setting.threads
        device = resolve_device(options.device)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="manylabel")
        tokenizer = Hands(self._pool).submit(_tokenizer, bundle)  # beside the session: 15 ms of a start
        recorded = min(LONGEST, bundle.manifest.max_length) if setting.cuda_graphs else 0
        self._session = _open(bundle, variant, device, recorded=recorded)
        self._tokenizer = tokenizer.result()
        if self._session.num_labels != len(bundle.labels):
            raise BundleError(
                f"{variant.file} gives {self._session.num_labels} columns, and the manifest names {len(bundle.labels)} "
                "labels. The bundle's parts do not belong together; fetch it anew."
            )
        self._run_alone: Run = self._session.run
        if device == "cpu" and threads > 1:
            wide = min(threads, MOST_THREADS)
            self._run_alone = Alone(
                self._session.run, lambda: _open(bundle, variant, device, threads=wide).run, self._pool
            ).run
        self._options = options
        self._setting = setting
        self.bundle = bundle
        self.variant = variant
        logger.info("%s on %s: %s", bundle.origin, device, setting)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        device: Device = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        batch_tokens: int | None = None,
        cuda_graphs: bool | None = None,
        verify_key: Path | str | None = None,
        digest: str | None = None,
    ) -> "Classifier":
        """Load a bundle.

        The files that are needed are hashed as they are read; `Bundle.verify` hashes all. Where `manylabel tune` left a
        plan beside the bundle for this machine, `PATH.plan.json`, it stands for what is not given here.

        Args:
            path: The bundle's folder, or `hf://USER/MODEL@REVISION` (the extra `hub`).
            device: `"cpu"`, `"cuda"`, or `"auto"`: CUDA where it is offered and there is a GPU, else the CPU.
            precision: A variant of the bundle; `"auto"` takes the fastest that is meant for the device.
            threads: Cores to use on the CPU; `None` takes all that this process may use.
            batch_tokens: Tokens of texts that run together at most; `None` takes 512 on the CPU, 16,384 on
                CUDA.
            cuda_graphs: Whether CUDA answers single texts of up to 64 tokens from recordings, which are made and tried
                now; `None` leaves it to the plan, and is no without one. Not tried on a GPU yet: see docs/gpu.md.
            verify_key: A public key, in PEM; only a bundle with a signature by it beside it, `PATH.sig`, is loaded.
            digest: The bundle that is meant, as `manylabel inspect` gives it; another is refused.

        Raises:
            SignatureInvalid: It is not signed by the key.
            BundleError: The bundle is damaged, or another than was meant.
            HubError: The hub has it not, gives it not, or cannot be reached.
            DeviceUnavailable: The device was asked for and cannot run.
            InputError: There is no bundle, or no such variant in it.
            MissingDependency: onnxruntime is absent, or both of its builds are installed.
        """
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}; it has to be 1 or more, or None for all cores.")
        if batch_tokens is not None and batch_tokens < 1:
            raise InputError(f"batch_tokens is {batch_tokens}; it has to be 1 or more, or None for the usual.")
        bundle = open_signed(path, verify_key, digest=digest)
        on = resolve_device(device)
        setting = settle(
            bundle, on, precision=precision, threads=threads, batch_tokens=batch_tokens, cuda_graphs=cuda_graphs
        )
        key = None if verify_key is None else Path(verify_key).absolute()  # for who loads it again elsewhere
        return cls(bundle, setting, Options(device, precision, threads, batch_tokens, cuda_graphs, key, digest))

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _reload, (self.bundle.origin, replace(self._options, digest=self.bundle.digest))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in column order."""
        return self.bundle.labels

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

    @property
    def threads(self) -> int:
        """How many of its own threads compute."""
        return self._setting.threads

    @property
    def batch_tokens(self) -> int:
        """Tokens that run together at most; a longer window goes alone."""
        return self._setting.batch_tokens

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
        rows = [answers.probabilities for answers in self._checked(as_texts(texts))]
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
        return list(self.stream(as_texts(texts), top_k=top_k, thresholds=thresholds))

    def stream(
        self, texts: Iterable[str], *, top_k: int | None = None, thresholds: Thresholds | None = None
    ) -> Iterator[Prediction]:
        """As `classify`, for texts without end: predictions as they come, in order, in bounded memory.

        Texts are read on the calling thread, up to three windows of 4,096 before the prediction that is handed out;
        they are tokenised and run on the classifier's threads meanwhile. Closing the iterator ends the work.

        Args:
            texts: Texts from anywhere, such as a generator.
            top_k: Scores to keep a text, the greatest first; `None` keeps all.
            thresholds: In place of the bundle's own: one for all, one a label, or some by name.

        Raises:
            InvalidText: A text is not a string; the predictions before its window have been given.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.
            UnknownLabel: A threshold is given for a label that is not there.
            InputError: A threshold is not between 0 and 1, or `top_k` is below 1.
            ForkedProcess: The classifier was loaded before a fork.
        """
        if isinstance(texts, str):
            raise InvalidText("texts are one string; a stream takes several. Pass a list, or ask classify.")
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k is {top_k}; it has to be 1 or more, or None for all labels.")
        limits = resolve_thresholds(thresholds, self.bundle.labels, self.variant.thresholds)
        return (
            Prediction(*ranked(row, limits, self.bundle.labels, top_k), n_tokens, truncated)
            for answers in self._checked(texts)
            for row, n_tokens, truncated in zip(
                answers.probabilities, answers.n_tokens.tolist(), answers.truncated.tolist(), strict=True
            )
        )

    def predict_batches(self, texts: Iterable[object], *, first_row: int = 0) -> Iterator[PredictionBatch]:
        """The stream under all other ways to ask: arrays, a window of texts at a time, errors beside the answers.

        A text that cannot be answered has its error in `PredictionBatch.errors`; its neighbours are answered all the same.

        Args:
            texts: What should be texts, from anywhere.
            first_row: The number by which an error calls the first text.

        Raises:
            ForkedProcess: The classifier was loaded before a fork.
            BundleError: The graph fails.
        """
        self._session.check_process()  # before the pool: its threads did not survive a fork, and would never answer
        return stream(
            texts,
            first_row=first_row,
            tokenise=self._tokenise,
            run=self._session.run,
            run_alone=self._run_alone,
            n_labels=len(self.bundle.labels),
            max_tokens=self._setting.batch_tokens,
            threads=self._pool,
        )

    def predict_frame(
        self,
        frame: Frame,
        column: str = "text",
        *,
        thresholds: Thresholds | None = None,
        probabilities: Literal["columns", "list", "none"] = "columns",
        prefix: str = "",
    ) -> "pyarrow.Table":
        """Answers beside a frame's own columns: those that `manylabel score` adds to a file.

        Args:
            frame: Of pandas, polars, DuckDB, pyarrow, or any other library whose frames speak Arrow.
            column: Where the texts are.
            thresholds: In place of the bundle's own: one for all, one a label, or some by name.
            probabilities: One column a label, one list, or none.
            prefix: Before the names of the answer's columns.

        Returns:
            A `pyarrow.Table` with the frame's rows in order: `labels`, a probability a label as `p_LABEL`, `n_tokens`,
            `truncated`, and `error` for a text that is null or cannot be scored. `table.to_pandas()` has the index of
            the pandas frame, `polars.from_arrow(table)` shares its memory, DuckDB reads it by its name.

        Raises:
            DataError: The frame cannot be read, or has no such column of strings.
            MissingDependency: pyarrow is not installed.
            UnknownLabel: A threshold is given for a label that is not there.
            InputError: A threshold is not between 0 and 1.
        """
        from manylabel.frames.arrow import Form, answered_frame

        return answered_frame(self, frame, Form(column, probabilities, prefix, thresholds))

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
        return self._score(windows)

    def window_spans(self, text: str) -> list[tuple[int, int]]:
        """Which part of a text each of its windows reads: start and end in characters, the end exclusive.

        Raises:
            InvalidText: It is not a string, or too long under the policy `"error"`.
        """
        return self._tokenizer.spans(text)

    def explain(self, text: str, label: str | None = None) -> Explanation:
        """Which words a label's score of a text hangs on, and which passage of a long text carried it.

        The text is scored once more without the tokens of each of its words; of one that is read in several windows,
        without those of the window with the greatest score, in that window alone.

        Args:
            text: One text.
            label: Which label; None for the most probable.

        Raises:
            UnknownLabel: There is no such label.
            InvalidText: It is not a string, or too long under the policy `"error"`.
            ForkedProcess: The classifier was loaded before a fork.
        """
        request = self.prepare_explanation(text, label)
        plan = plan_occlusion(request, self._score(request.windows, self._pool.map))
        return build_explanation(plan, self._score(plan.windows, self._pool.map))

    def prepare_explanation(self, text: str, label: str | None = None) -> OcclusionInput:
        """Tokenize a text to be explained, for callers that score its windows themselves.

        Score `windows` with `score_windows`, pass the scores to `plan_occlusion`, score the windows of the plan, and
        pass these scores to `build_explanation`; `explain` does the same.

        Args:
            text: One text.
            label: The label to explain; `None` for the most probable one.

        Raises:
            UnknownLabel: The bundle does not have this label.
            InvalidText: The text is not a string, or it is too long under the policy `"error"`.
        """
        (encoding,) = self.encode([text])
        return OcclusionInput(
            text=text,
            windows=encoding.windows,
            spans=self.window_spans(text),
            tokens=self._tokenizer.token_spans(text),
            n_prefix_tokens=len(self.bundle.manifest.special_tokens.prefix),
            labels=self.bundle.labels,
            thresholds=self.thresholds_,
            column=None if label is None else column_of(label, self.bundle.labels),
        )

    def check_probes(self) -> None:
        """Answer the bundle's probes on this machine and hold the answers against PyTorch's.

        Raises:
            BundleError: An answer is too far off.
        """
        probes = self.bundle.manifest.probes
        found = self.predict_proba([probe.text for probe in probes])
        if said := probe_failure(probes, self.bundle.labels, found, self.precision):
            raise BundleError(
                f"{self.variant.file} {said}. The bundle's parts do not belong together, or this machine computes "
                "wrongly."
            )

    def _checked(self, texts: Iterable[object]) -> Iterator[PredictionBatch]:
        for answers in self.predict_batches(texts):
            answers.raise_first_error()
            yield answers

    def _score(self, windows: Sequence[Ids], map: Map = map) -> Scores:
        """Probabilities of windows, shape `(len(windows), n_labels)`."""
        return score(
            [[window] for window in windows],
            self._session.run,
            n_labels=len(self.bundle.labels),
            max_tokens=self._setting.batch_tokens,
            map=map,
        )

    def _tokenise(self, texts: Sequence[object], first_row: int) -> list[Outcome]:
        return self._tokenizer.try_encode(texts, first_row=first_row)


def _tokenizer(bundle: Bundle) -> Tokenizer:
    manifest = bundle.manifest
    return Tokenizer(
        bundle.read(TOKENIZER),
        prefix=manifest.special_tokens.prefix,
        suffix=manifest.special_tokens.suffix,
        max_length=manifest.max_length,
        long_text=manifest.long_text,
    )


def _open(
    bundle: Bundle, variant: Variant, device: Literal["cpu", "cuda"], *, threads: int = 1, recorded: int = 0
) -> Session:
    with bundle.loadable(variant.file) as model:
        return Session(
            model,
            device=device,
            optimized=variant.precision != "fp32",
            weights={name: bundle.read(name) for name in bundle.weights_of(variant)},
            threads=threads,
            recorded=recorded,
        )


def _reload(origin: str, options: Options) -> Classifier:
    return Classifier.load(origin, **vars(options))
