"""`text_to_labels.onnx`: the bundle as a single file that takes text, built and verified."""

from typing import Any

from tokenizers import Tokenizer

from manylabel.bundle.bundle import SpecialTokens
from manylabel.errors import ExportError
from manylabel_export.evaluator import EvaluatedGraph, ParityEvaluator, open_runtime_session, score_encodings
from manylabel_export.graph.ir.serialization import weight_bytes
from manylabel_export.graph.tokenizer.build import FILE, build_text_graph, build_tokenizer_graph
from manylabel_export.graph.tokenizer.verify import require_same_predictions, require_same_token_ids
from manylabel_export.graph.tokenizer.wordpiece_spec import WordPieceSpec
from manylabel_export.source import ExportSource
from manylabel_train.models import checkpoint

VERIFIED_TEXTS = 500
"""Texts on which the whole file is verified before it is written. Its tokenizer is verified on all texts."""


class SingleFileBuilder:
    """Build the graph that takes text.

    Args:
        source: The export source.

    Raises:
        ExportError: A graph cannot reproduce its tokenizer or its policy for long texts.
    """

    def __init__(self, source: ExportSource) -> None:
        if source.policy == "error":
            raise ExportError(
                "--single-file cannot refuse long texts: a graph cannot raise errors. Choose --long-text window or "
                "truncate."
            )
        self._source = source
        self._serialized: str = source.tokenizer.backend_tokenizer.to_str()
        self._tokenizer = WordPieceSpec.from_json(self._serialized)

    def build(self, variant: EvaluatedGraph, evaluator: ParityEvaluator) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Build the file and verify it.

        Args:
            variant: The bundle's graph for CPU.
            evaluator: The source's texts.

        Returns:
            The file's content by its name, and its entry in the manifest's `source`.

        Raises:
            ParityError: It gives other tokens or labels than the bundle for a text.
            ExportError: The graph is too large for one file.
        """
        source, precision = self._source, variant.graph.precision
        if (size := weight_bytes(variant.graph.proto)) > evaluator.limit:
            raise ExportError(
                f"the {precision} graph has {size:,} bytes of weights, but one file holds {evaluator.limit:,} at most. "
                "Choose --precision int8 with --single-file, or leave --single-file out."
            )
        self._verify_tokenizer()
        prefix, suffix = checkpoint.special_tokens(source.tokenizer)
        max_length = source.runtime_tokenizer.max_length
        graph = build_text_graph(
            variant.graph.proto,
            self._tokenizer,
            special_tokens=SpecialTokens(tuple(prefix), tuple(suffix)),
            max_length=max_length,
            long_text=checkpoint.make_long_text(max_length, source.policy),
            labels=source.labels,
            thresholds=variant.thresholds,
        )
        # the runtime limits the length of a text before tokenizing it, the graph does not
        fits = [row for row, text in enumerate(source.texts) if source.runtime_tokenizer.reads_all(text)]
        rows = fits[:VERIFIED_TEXTS]
        session = open_runtime_session(variant.graph, limit=evaluator.limit)
        scores = score_encodings(session, [evaluator.encodings[row] for row in rows])
        texts = [source.texts[row] for row in rows]
        require_same_predictions(graph, texts, source.labels, scores, variant.thresholds)
        counts = {"texts_tokenised": len(source.texts), "texts_answered": len(rows)}
        return {FILE: graph.SerializeToString()}, {"file": FILE, "precision": precision, **counts}

    def _verify_tokenizer(self) -> None:
        tokenizer = Tokenizer.from_str(self._serialized)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        require_same_token_ids(build_tokenizer_graph(self._tokenizer), tokenizer, self._source.texts)
