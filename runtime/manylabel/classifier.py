"""`Classifier`: a bundle, its tokenizer and a session, composed. The only module that knows them all."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import TOKENIZER, Bundle, Variant
from manylabel.bundle.variants import Precision, probe_failure
from manylabel.errors import BundleError, InputError, InvalidText
from manylabel.explain.occlusion import Explanation, OcclusionInput, build_explanation, plan_occlusion
from manylabel.hub import open_bundle
from manylabel.inference.cuda_graphs import MAX_GRAPH_TOKENS
from manylabel.inference.latency_session import MAX_THREADS, LatencySession
from manylabel.inference.length_batching import MapBatches, Probabilities, RunBatch, TokenIds, score_texts
from manylabel.inference.ort_loader import Device, resolve_device
from manylabel.inference.ort_session import Session
from manylabel.inference.pipeline import InlineFallbackExecutor, Pipeline
from manylabel.inference.predictions import Prediction, PredictionBatch
from manylabel.inference.thresholding import Thresholds, column_of, decide, rank_labels, resolve_thresholds
from manylabel.inference.tokenizer import Encoding, Tokenizer, as_texts
from manylabel.load_options import LoadArguments, LoadConfig, resolve_load_config

if TYPE_CHECKING:
    import pyarrow

    from manylabel.frames.arrow import Frame

logger = logging.getLogger("manylabel")


class Classifier:
    """A multi-label text classifier, loaded from a bundle with `Classifier.load`. Thread-safe.

    Predictions are batch-invariant: they do not depend on the other texts. A pickled classifier contains the bundle's
    path or Hub commit and loads it again. Its threads end with the last reference to it.

    Example:
        >>> from manylabel import Classifier
        >>> classifier = Classifier.load("bundle")
        >>> classifier.predict("The courier was rude and the parcel was late.")
        [['delivery', 'price']]
    """

    def __init__(self, bundle: Bundle, config: LoadConfig, arguments: LoadArguments) -> None:
        variant, threads = bundle.variants[config.precision], config.threads
        device = resolve_device(arguments.device)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="manylabel")
        tokenizer = InlineFallbackExecutor(self._pool).submit(_load_tokenizer, bundle)  # saves 15 ms of a start
        graph_tokens = min(MAX_GRAPH_TOKENS, bundle.manifest.max_length) if config.cuda_graphs else 0
        self._session = _open_session(bundle, variant, device, cuda_graph_tokens=graph_tokens)
        self._tokenizer = tokenizer.result()
        if self._session.num_labels != len(bundle.labels):
            raise BundleError(
                f"{variant.file} returns {self._session.num_labels} columns; the manifest has {len(bundle.labels)} "
                "labels. The bundle's parts do not belong together; download it again."
            )
        run_single: RunBatch = self._session.run
        if device == "cpu" and threads > 1:
            shared = min(threads, MAX_THREADS)
            run_single = LatencySession(
                self._session.run, lambda: _open_session(bundle, variant, device, threads=shared).run, self._pool
            ).run
        self._pipeline = Pipeline(
            self._tokenizer.try_encode,
            self._session.run,
            run_single,
            len(bundle.labels),
            self._pool,
            config.batch_tokens,
        )
        self._arguments = arguments
        self._config = config
        self.bundle = bundle
        self.variant = variant
        logger.info("%s on %s: %s", bundle.origin, device, config)

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

        The files that are loaded are verified against the manifest; `Bundle.verify` verifies all. If `manylabel tune`
        has written a plan for this machine beside the bundle, `PATH.plan.json`, it replaces the defaults.

        Args:
            path: The bundle's folder, or `hf://USER/MODEL@REVISION` (requires the extra `hub`).
            device: `"cpu"`, `"cuda"`, or `"auto"`: CUDA if it is supported and there is a GPU, else the CPU. There is
                no fallback from `"cuda"` to the CPU.
            precision: A variant of the bundle; `"auto"` is the fastest that is made for the device.
            threads: The number of threads on the CPU; `None` for all cores that this process may use.
            batch_tokens: Tokens in a batch at most; `None` for 512 on the CPU, 16,384 on CUDA.
            cuda_graphs: Whether to capture CUDA graphs for single texts of up to 64 tokens; they are captured and
                checked now. `None` for the plan's choice, or False without one. Not yet tried on a GPU: see
                docs/gpu.md.
            verify_key: Load only a bundle that is signed with this public key, a PEM file; the signature lies beside
                the bundle, `PATH.sig`.
            digest: Load only the bundle with this digest, as shown by `manylabel inspect`.

        Raises:
            SignatureInvalid: The bundle is not signed with the key.
            BundleError: The bundle is damaged, or has another digest.
            HubError: The bundle is not found on the Hub, access is denied, or the Hub cannot be reached.
            DeviceUnavailable: The device cannot be used.
            InputError: There is no bundle, or it has no such variant.
            MissingDependency: onnxruntime is not installed, or installed in both of its builds.

        Example:
            >>> from manylabel import Classifier
            >>> classifier = Classifier.load("bundle", device="cpu", precision="fp32", threads=1)
            >>> classifier.device, classifier.precision
            ('cpu', 'fp32')
        """
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}; expected 1 or more, or None for all cores.")
        if batch_tokens is not None and batch_tokens < 1:
            raise InputError(f"batch_tokens is {batch_tokens}; expected 1 or more, or None for the default.")
        bundle = open_bundle(path, verify_key=verify_key, digest=digest)
        config = resolve_load_config(
            bundle,
            resolve_device(device),
            precision=precision,
            threads=threads,
            batch_tokens=batch_tokens,
            cuda_graphs=cuda_graphs,
        )
        # absolute, because worker processes load it from another directory
        key = None if verify_key is None else Path(verify_key).absolute()
        return cls(bundle, config, LoadArguments(device, precision, threads, batch_tokens, cuda_graphs, key, digest))

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _reload, (self.bundle.origin, replace(self._arguments, digest=self.bundle.digest))

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
        """The variant's thresholds in column order, shape `(n_labels,)`."""
        return np.array(self.variant.thresholds, dtype=np.float32)

    @property
    def device(self) -> str:
        """The device that is used: `"cpu"` or `"cuda"`."""
        return self._session.device

    @property
    def precision(self) -> str:
        """The variant that is used: `"fp32"`, `"int8"` or `"fp16"`."""
        return self.variant.precision

    @property
    def threads(self) -> int:
        """The number of the classifier's own threads."""
        return self._config.threads

    @property
    def batch_tokens(self) -> int:
        """Tokens in a batch at most; a longer window is a batch of its own."""
        return self._config.batch_tokens

    def predict_proba(self, texts: str | Iterable[str]) -> NDArray[np.float32]:
        """Return the probability of every label for every text.

        Labels are independent: a row need not sum to 1.

        Args:
            texts: One text or several. One text gives one row.

        Returns:
            Probabilities in `classes_` column order, shape `(n_texts, n_labels)`.

        Raises:
            InvalidText: A text is not a string.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.
            ForkedProcess: The classifier was loaded before a fork.

        Example:
            >>> from manylabel import Classifier
            >>> Classifier.load("bundle").predict_proba(["late again", "very good"]).shape
            (2, 4)
        """
        rows = [batch.probabilities for batch in self._predict_or_raise(as_texts(texts))]
        return np.concatenate(rows) if rows else np.empty((0, len(self.bundle.labels)), dtype=np.float32)

    def predict(self, texts: str | Iterable[str], *, thresholds: Thresholds | None = None) -> list[list[str]]:
        """Return the labels that apply to every text, in column order; often several, perhaps none.

        Args:
            texts: One text or several. One text gives one list.
            thresholds: Used instead of the bundle's: one for all labels, one per label, or some by label.

        Raises:
            InvalidText: A text is not a string.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.
            UnknownLabel: A threshold is given for a label that does not exist.
            InputError: A threshold is not between 0 and 1.
            ForkedProcess: The classifier was loaded before a fork.

        Example:
            >>> from manylabel import Classifier
            >>> Classifier.load("bundle").predict("The parcel was late.", thresholds={"price": 1.0})
            [['delivery']]
        """
        resolved = resolve_thresholds(thresholds, self.bundle.labels, self.variant.thresholds)
        decisions = decide(self.predict_proba(texts), resolved)
        return [[self.bundle.labels[column] for column in np.flatnonzero(row)] for row in decisions]

    def classify(
        self, texts: str | Iterable[str], *, top_k: int | None = None, thresholds: Thresholds | None = None
    ) -> list[Prediction]:
        """Return labels, scores and token counts for every text.

        Args:
            texts: One text or several. One text gives one prediction.
            top_k: The number of scores to keep per text, the largest first; `None` keeps all.
            thresholds: Used instead of the bundle's: one for all labels, one per label, or some by label.

        Raises:
            InvalidText: A text is not a string.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.
            UnknownLabel: A threshold is given for a label that does not exist.
            InputError: A threshold is not between 0 and 1, or `top_k` is less than 1.
            ForkedProcess: The classifier was loaded before a fork.

        Example:
            >>> from manylabel import Classifier
            >>> (prediction,) = Classifier.load("bundle").classify("The parcel was late.", top_k=2)
            >>> prediction.labels, list(prediction.scores)
            (['delivery', 'price'], ['delivery', 'price'])
        """
        return list(self.stream(as_texts(texts), top_k=top_k, thresholds=thresholds))

    def stream(
        self, texts: Iterable[str], *, top_k: int | None = None, thresholds: Thresholds | None = None
    ) -> Iterator[Prediction]:
        """Yield predictions for an iterable of any length, in order, in bounded memory.

        Texts are read on the calling thread, up to three chunks of 4,096 ahead of the prediction that is yielded; they
        are tokenized and run on the classifier's threads. Closing the iterator cancels the remaining work.

        Args:
            texts: The texts, for example from a generator.
            top_k: The number of scores to keep per text, the largest first; `None` keeps all.
            thresholds: Used instead of the bundle's: one for all labels, one per label, or some by label.

        Raises:
            InvalidText: A text is not a string; the predictions before its chunk have been yielded.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.
            UnknownLabel: A threshold is given for a label that does not exist.
            InputError: A threshold is not between 0 and 1, or `top_k` is less than 1.
            ForkedProcess: The classifier was loaded before a fork.

        Example:
            >>> from manylabel import Classifier
            >>> lines = (f"parcel {number} was late" for number in range(10_000))
            >>> sum("delivery" in prediction.labels for prediction in Classifier.load("bundle").stream(lines))
            10000
        """
        if isinstance(texts, str):
            raise InvalidText("texts is one string; stream takes several. Pass a list, or call classify.")
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k is {top_k}; expected 1 or more, or None for all labels.")
        resolved = resolve_thresholds(thresholds, self.bundle.labels, self.variant.thresholds)
        return (
            Prediction(*rank_labels(row, resolved, self.bundle.labels, top_k), n_tokens, truncated)
            for batch in self._predict_or_raise(texts)
            for row, n_tokens, truncated in zip(
                batch.probabilities, batch.n_tokens.tolist(), batch.truncated.tolist(), strict=True
            )
        )

    def predict_batches(self, texts: Iterable[object], *, first_row: int = 0) -> Iterator[PredictionBatch]:
        """Yield predictions as arrays, a chunk of texts at a time, with an error in place of a text that has one.

        All other methods that predict are based on this one. A text that cannot be scored has its error in
        `PredictionBatch.errors`; the other texts are scored.

        Args:
            texts: An iterable of any length.
            first_row: The number of the first text in error messages.

        Raises:
            ForkedProcess: The classifier was loaded before a fork.
            BundleError: The graph fails.

        Example:
            >>> from manylabel import Classifier
            >>> (batch,) = Classifier.load("bundle").predict_batches(["late again", None])
            >>> batch.probabilities.shape, list(batch.errors)
            ((2, 4), [1])
        """
        self._session.check_process()  # before the pool: its threads did not survive a fork, and would never finish
        return self._pipeline.predict(texts, first_row=first_row)

    def predict_chunks(self, chunks: Iterable[Sequence[object]], *, first_row: int = 0) -> Iterator[PredictionBatch]:
        """Yield a batch of predictions for every chunk of texts that the caller forms, as `predict_batches` does.

        Args:
            chunks: Some thousand texts each; texts of equal length in a chunk are run together.
            first_row: The number of the first text in error messages.

        Raises:
            ForkedProcess: The classifier was loaded before a fork.
            BundleError: The graph fails.

        Example:
            >>> from manylabel import Classifier
            >>> chunks = [["late again", "broken"], ["never again"]]
            >>> [len(batch) for batch in Classifier.load("bundle").predict_chunks(chunks)]
            [2, 1]
        """
        self._session.check_process()
        return self._pipeline.predict_chunks(chunks, first_row=first_row)

    def predict_frame(
        self,
        frame: "Frame",
        column: str = "text",
        *,
        thresholds: Thresholds | None = None,
        probabilities: Literal["columns", "list", "none"] = "columns",
        prefix: str = "",
    ) -> "pyarrow.Table":
        """Return a frame's columns with predictions beside them: the columns that `manylabel score` adds to a file.

        Args:
            frame: From pandas, polars, DuckDB, pyarrow, or another library that supports Arrow.
            column: The column of texts.
            thresholds: Used instead of the bundle's: one for all labels, one per label, or some by label.
            probabilities: One column per label, one list, or none.
            prefix: Prefix of the names of the added columns.

        Returns:
            A `pyarrow.Table` with the frame's rows in order: `labels`, the probability of each label as `p_LABEL`,
            `n_tokens`, `truncated`, and `error` for a text that is null or cannot be scored. `table.to_pandas()` has
            the index of the pandas frame, `polars.from_arrow(table)` shares its memory, DuckDB reads it by its name.

        Raises:
            DataError: The frame cannot be read, or has no such column of strings.
            MissingDependency: pyarrow is not installed.
            UnknownLabel: A threshold is given for a label that does not exist.
            InputError: A threshold is not between 0 and 1.

        Example:
            >>> import pyarrow
            >>> from manylabel import Classifier
            >>> frame = pyarrow.table({"id": [7], "text": ["The parcel was late."]})
            >>> Classifier.load("bundle").predict_frame(frame, probabilities="none").column_names
            ['id', 'text', 'labels', 'n_tokens', 'truncated', 'error']
        """
        from manylabel.frames.arrow import FrameOptions, predict_frame  # pyarrow is optional

        return predict_frame(self, frame, FrameOptions(column, probabilities, prefix, thresholds))

    def encode(self, texts: str | Iterable[str]) -> list[Encoding]:
        """Tokenize texts on the calling thread; `score_windows` scores the windows.

        Raises:
            InvalidText: A text is not a string.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.

        Example:
            >>> from manylabel import Classifier
            >>> (encoding,) = Classifier.load("bundle").encode("late")
            >>> encoding.n_tokens
            3
        """
        return self._tokenizer.encode(texts)

    def score_windows(self, windows: Sequence[TokenIds]) -> Probabilities:
        """Return the probabilities of windows of token ids, on the calling thread: for callers with their own threads.

        Args:
            windows: From any texts, each of shape `(n,)`.

        Returns:
            Shape `(len(windows), n_labels)`. A text's probabilities are the maximum over its windows.

        Raises:
            ForkedProcess: The classifier was loaded before a fork.
            BundleError: The graph fails.

        Example:
            >>> from manylabel import Classifier
            >>> classifier = Classifier.load("bundle")
            >>> (encoding,) = classifier.encode("late")
            >>> classifier.score_windows(encoding.windows).shape
            (1, 4)
        """
        return self._score_windows(windows)

    def window_spans(self, text: str) -> list[tuple[int, int]]:
        """Return which part of a text each of its windows covers: start and end in characters, the end exclusive.

        Raises:
            InvalidText: The text is not a string, or too long under the policy `"error"`.

        Example:
            >>> from manylabel import Classifier
            >>> Classifier.load("bundle").window_spans("late again")
            [(0, 10)]
        """
        return self._tokenizer.spans(text)

    def explain(self, text: str, label: str | None = None) -> Explanation:
        """Return how much each word of a text contributes to a label's score, by occlusion.

        The text is scored again without the tokens of each of its words. For a text of several windows, the words of
        the window with the highest score are explained, within that window.

        Args:
            text: One text.
            label: The label to explain; `None` for the most probable one.

        Raises:
            UnknownLabel: The bundle does not have this label.
            InvalidText: The text is not a string, or too long under the policy `"error"`.
            ForkedProcess: The classifier was loaded before a fork.

        Example:
            >>> from manylabel import Classifier
            >>> explanation = Classifier.load("bundle").explain("The parcel was late.", "delivery")
            >>> [word.text for word in explanation.words]
            ['The', 'parcel', 'was', 'late', '.']
        """
        request = self.prepare_explanation(text, label)
        plan = plan_occlusion(request, self._score_windows(request.windows, self._pool.map))
        return build_explanation(plan, self._score_windows(plan.windows, self._pool.map))

    def prepare_explanation(self, text: str, label: str | None = None) -> OcclusionInput:
        """Tokenize a text to be explained, for callers that score its windows themselves.

        Score `windows` with `score_windows`, pass the scores to `plan_occlusion`, score the windows of the plan, and
        pass these scores to `build_explanation`; `explain` does the same.

        Args:
            text: One text.
            label: The label to explain; `None` for the most probable one.

        Raises:
            UnknownLabel: The bundle does not have this label.
            InvalidText: The text is not a string, or too long under the policy `"error"`.

        Example:
            >>> from manylabel import Classifier
            >>> len(Classifier.load("bundle").prepare_explanation("The parcel was late.").windows)
            1
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
        """Score the bundle's probes on this machine and compare the probabilities with PyTorch's.

        Raises:
            BundleError: A probability differs by more than the tolerance.

        Example:
            >>> from manylabel import Classifier
            >>> Classifier.load("bundle").check_probes()
        """
        probes = self.bundle.manifest.probes
        probabilities = self.predict_proba([probe.text for probe in probes])
        if failure := probe_failure(probes, self.bundle.labels, probabilities, self.precision):
            raise BundleError(
                f"{self.variant.file} {failure}. The bundle's parts do not belong together, or this machine computes "
                "incorrectly. Download the bundle again, or try another machine."
            )

    def _predict_or_raise(self, texts: Iterable[object]) -> Iterator[PredictionBatch]:
        for batch in self.predict_batches(texts):
            batch.raise_first_error()
            yield batch

    def _score_windows(self, windows: Sequence[TokenIds], map: MapBatches = map) -> Probabilities:
        return score_texts(
            [[window] for window in windows],
            self._session.run,
            n_labels=len(self.bundle.labels),
            max_tokens=self._config.batch_tokens,
            map=map,
        )


def _load_tokenizer(bundle: Bundle) -> Tokenizer:
    manifest = bundle.manifest
    return Tokenizer(
        bundle.read(TOKENIZER),
        prefix=manifest.special_tokens.prefix,
        suffix=manifest.special_tokens.suffix,
        max_length=manifest.max_length,
        long_text=manifest.long_text,
    )


def _open_session(
    bundle: Bundle, variant: Variant, device: Literal["cpu", "cuda"], *, threads: int = 1, cuda_graph_tokens: int = 0
) -> Session:
    with bundle.loadable(variant.file) as model:
        return Session(
            model,
            device=device,
            optimized=variant.precision != "fp32",
            weights={name: bundle.read(name) for name in bundle.weights_of(variant)},
            threads=threads,
            cuda_graph_tokens=cuda_graph_tokens,
        )


def _reload(origin: str, arguments: LoadArguments) -> Classifier:
    return Classifier.load(origin, **vars(arguments))
