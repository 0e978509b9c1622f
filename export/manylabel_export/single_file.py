"""`text_to_labels.onnx`: a bundle as one file that takes text. Composes what is exported with `text_graph`."""

from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from manylabel.bundle.bundle import SpecialTokens
from manylabel.errors import ExportError
from manylabel_export.evaluator import Judge, Judged, open_graph, scores_of
from manylabel_export.graph.ir.serialization import size_of
from manylabel_export.graph.tokenizer.build import FILE, WordPiece, ids_graph, text_graph
from manylabel_export.graph.tokenizer.verify import require_same_answers, require_same_ids
from manylabel_export.source import Subject
from manylabel_train.models import checkpoint
from manylabel_train.models.checkpoint import make_long_text

PROVED = 500
"""Texts on which the whole file is run before it is written. The tokenizer in it is held to all of them."""


@dataclass(frozen=True)
class SingleFile:
    """The tokenizer of what is exported, found to be one that a graph can hold.

    Args:
        subject: What is exported.
        tokenizer: What its `tokenizer.json` says.
        serialized: That file.
    """

    subject: Subject
    tokenizer: WordPiece
    serialized: str

    @classmethod
    def of(cls, subject: Subject) -> "SingleFile":
        """Read the tokenizer, before any work is done.

        Raises:
            ExportError: It, or what is done with long texts, cannot be put into a graph.
        """
        if subject.policy == "error":
            raise ExportError(
                "--single-file cannot refuse long texts: a graph has no error to raise. Choose --long-text window or "
                "truncate."
            )
        serialized = subject.tokenizer.backend_tokenizer.to_str()
        return cls(subject, WordPiece.read(serialized), serialized)

    def make(self, one: Judged, judge: Judge) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Make the file and prove it.

        Args:
            one: The bundle's graph for the CPU.
            judge: The subject's texts.

        Returns:
            The file's bytes by its name, and what the manifest says of it.

        Raises:
            ParityError: It reads or answers a text otherwise than the bundle.
            ExportError: The graph is too large for one file.
        """
        subject, precision = self.subject, one.made.precision
        if (size := size_of(one.made.proto)) > judge.limit:
            raise ExportError(
                f"the {precision} graph has {size:,} bytes of weights, and one file holds {judge.limit:,} at most. "
                "Choose --precision int8 with --single-file, or leave --single-file out."
            )
        backend = Tokenizer.from_str(self.serialized)
        backend.no_padding()
        backend.no_truncation()
        require_same_ids(ids_graph(self.tokenizer), backend, subject.texts)
        prefix, suffix = checkpoint.special_tokens(subject.tokenizer)
        whole = text_graph(
            one.made.proto,
            self.tokenizer,
            special_tokens=SpecialTokens(tuple(prefix), tuple(suffix)),
            max_length=subject.reader.max_length,
            long_text=make_long_text(subject.reader.max_length, subject.policy),
            labels=subject.labels,
            thresholds=one.thresholds,
        )
        # the runtime bounds a text before it is read, the graph does not
        rows = [at for at, text in enumerate(subject.texts) if subject.reader.reads_all(text)][:PROVED]
        scores = scores_of(open_graph(one.made, limit=judge.limit), [judge.encodings[at] for at in rows])
        require_same_answers(whole, [subject.texts[at] for at in rows], subject.labels, scores, one.thresholds)
        proved = {"texts_tokenised": len(subject.texts), "texts_answered": len(rows)}
        return {FILE: whole.SerializeToString()}, {"file": FILE, "precision": precision, **proved}
