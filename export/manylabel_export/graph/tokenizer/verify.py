"""Verification of a graph that takes text: token ids, probabilities and labels on real texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from manylabel.errors import ParityError
from manylabel.inference.thresholding import decide
from manylabel.system.unicode import valid_unicode
from manylabel_export.graph.equivalence_check import FP32_TOLERANCE


def open_tokenizer_graph(proto: onnx.ModelProto) -> Callable[[str], list[int]]:
    """Return a function that runs a graph of `build_tokenizer_graph`: a text to its token ids."""
    session = _open_session(proto)
    return lambda text: session.run(None, {"text": np.array([text], dtype=object)})[0].tolist()


def require_same_token_ids(proto: onnx.ModelProto, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Compare a graph of `build_tokenizer_graph` with its tokenizer.

    Raises:
        ParityError: The token ids of a text differ; the message quotes the text.
    """
    tokenize = open_tokenizer_graph(proto)
    for text in map(valid_unicode, texts):
        if tokenize(text) != tokenizer.encode(text, add_special_tokens=False).ids:
            raise ParityError(
                f"the tokenizer in the graph and tokenizer.json give different token ids for {text[:200]!r}. Nothing "
                "was written. Leave --single-file out, and report the text as a bug."
            )


def require_same_predictions(
    proto: onnx.ModelProto,
    texts: Sequence[str],
    labels: Sequence[str],
    expected: NDArray[np.float32],
    thresholds: NDArray[np.float32],
) -> None:
    """Compare a graph of `build_text_graph` with the variant that it was made from.

    Args:
        proto: The graph.
        texts: Real texts.
        labels: The labels in column order.
        expected: The variant's probabilities, shape `(n_texts, n_labels)`.
        thresholds: Shape `(n_labels,)`.

    Raises:
        ParityError: The labels or probabilities of a text differ; the message quotes the text.
    """
    session = _open_session(proto)
    for text, row in zip(texts, expected, strict=True):
        feeds = {"text": np.array([valid_unicode(text)], dtype=object)}
        predicted, probabilities = session.run(["labels", "probabilities"], feeds)
        applies = decide(probabilities[0], thresholds)
        expected_labels = [label for label, flag in zip(labels, applies, strict=True) if flag]
        difference = float(np.abs(probabilities[0] - row).max())
        if predicted.tolist() != expected_labels or not difference <= FP32_TOLERANCE:
            raise ParityError(
                f"the graph that takes text and the bundle differ on {text[:200]!r}: probabilities differ by "
                f"{difference:.1e}, at most {FP32_TOLERANCE:g} is allowed. Nothing was written. "
                "Leave --single-file out."
            )


def _open_session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Open a session with default optimisations, as any user would, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
