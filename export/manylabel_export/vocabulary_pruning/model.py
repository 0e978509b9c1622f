"""Vocabulary pruning of a model: keep only the tokens that a corpus uses, and the embeddings of these.

Texts whose tokens are all kept get the same probabilities. How the tokenization of other texts changes is measured.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from manylabel.data.cell_validation import quote_names
from manylabel.data.readers.open_table import read_rows
from manylabel.errors import DataError, ExportError
from manylabel.system.unicode import valid_unicode
from manylabel_export.source import ExportSource
from manylabel_export.vocabulary_pruning.tokenizer import PrunedTokenizer, prune_tokenizer
from manylabel_train.models import checkpoint
from manylabel_train.models.pooling import encoder_config

MAX_UNKNOWN_INCREASE = 0.001
"""How much the share of unknown tokens in the validation texts may increase."""

MIN_SAME_TOKENS = 0.9
"""The share of texts outside the corpus that should keep their tokens; a lower estimate is warned about."""

SPECIAL_IDS = tuple(f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep", "mask", "unk"))
CHUNK = 10_000

Scores = NDArray[np.float32]


def read_corpus(path: Path, column: str) -> list[str]:
    """Return the texts of a corpus: the lines of a `.txt` file, or a column of a table.

    Args:
        path: The file.
        column: The column of a table.

    Raises:
        DataError: The file is missing or unreadable, or has no such column, or no text.

    Example:
        >>> len(read_corpus(Path("texts.csv"), "text")) > 0
        True
    """
    if path.suffix.lower() == ".txt":
        try:
            texts = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise DataError(f"{path} cannot be read as UTF-8: {exc}.") from exc
    else:
        rows = read_rows(path)
        if column not in rows[0][1]:
            raise DataError(
                f"{path} has no column {column!r}, but {quote_names(list(rows[0][1]))}. Name the column of texts with "
                "--text-column."
            )
        texts = [row[column] for _, row in rows if isinstance(row.get(column), str)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError(f"{path} contains no text, so there are no tokens to keep.")
    return texts


def prune_vocabulary(source: ExportSource, corpus: Sequence[str]) -> tuple[ExportSource, Scores]:
    """Prune the vocabulary of an export source to the tokens of a corpus.

    Args:
        source: The export source.
        corpus: Texts like those that will be scored. All of them keep their tokens.

    Returns:
        The source with the pruned model and tokenizer, and PyTorch's probabilities of its texts, shape
        `(n_texts, n_labels)`: those of the unpruned model for texts that keep their tokens, so that the graph is
        compared with it, and those of the pruned model for the others.

    Raises:
        ExportError: The tokenizer cannot be pruned, or too many tokens of the validation texts would be unknown.
    """
    corpus = list(dict.fromkeys(map(valid_unicode, corpus)))
    before = IdTokenizer(source.tokenizer)
    corpus_ids = before.encode(corpus)
    counts = Counter(token for ids in corpus_ids for token in set(ids))
    required = _configured_ids(source.model)
    unknown_texts = [text for text, ids in zip(corpus, corpus_ids, strict=True) if before.unknown in ids]
    pruned_tokenizer = prune_tokenizer(before.serialized, {*counts, *required}, before.words(unknown_texts))
    pruned = _prune_source(source, pruned_tokenizer)
    after = IdTokenizer(pruned.tokenizer)
    if not all(_same_tokens(corpus_ids, after.encode(corpus), pruned_tokenizer)):
        raise ExportError(
            "the pruned vocabulary tokenizes a text of its own corpus differently. Leave --trim-vocabulary out."
        )
    ids_before, ids_after = before.encode(source.texts), after.encode(source.texts)
    is_same = np.array(_same_tokens(ids_before, ids_after, pruned_tokenizer), dtype=bool)
    scores = checkpoint.predict_proba(source.model, source.runtime_tokenizer, source.texts)
    expected = _rescore_changed_texts(pruned, scores, is_same)
    always_kept = prune_tokenizer(before.serialized, required, ()).kept.tolist()
    report = {
        "corpus_texts": len(corpus),
        "pieces_before": before.size,
        "pieces": len(pruned_tokenizer.kept),
        "identical_left_out": _leave_one_out_share(corpus_ids, counts, always_kept),
        **_compare_new_texts(source.texts, corpus, is_same),
        "unknown_before": before.unknown_share(ids_before),
        "unknown": after.unknown_share(ids_after),
        "mean_difference": float(np.abs(expected - scores).mean()),
    }
    _check_report(report)
    return replace(pruned, provenance={**source.provenance, "vocabulary": report}), expected


def _rescore_changed_texts(pruned: ExportSource, scores: Scores, is_same: NDArray[np.bool_]) -> Scores:
    """Return the scores with those of texts with other tokens computed by the pruned model."""
    expected = scores.copy()
    if not is_same.all():
        changed = [text for text, same in zip(pruned.texts, is_same, strict=True) if not same]
        expected[~is_same] = checkpoint.predict_proba(pruned.model, pruned.runtime_tokenizer, changed)
    return expected


def _leave_one_out_share(
    corpus_ids: Sequence[Sequence[int]], counts: Counter[int], always_kept: Sequence[int]
) -> float:
    """Estimate the share of similar texts that keep their tokens: the texts without a token that no other has."""
    kept_without_one_text = {token for token, texts in counts.items() if texts > 1}.union(always_kept)
    return float(np.mean([kept_without_one_text.issuperset(ids) for ids in corpus_ids]))


def _compare_new_texts(texts: Sequence[str], corpus: Sequence[str], is_same: NDArray[np.bool_]) -> dict[str, Any]:
    """Return how many texts are not in the corpus, and which share of these keeps its tokens."""
    known = set(corpus)
    is_new = np.array([valid_unicode(text) not in known for text in texts], dtype=bool)
    return {
        "judged_texts_not_in_corpus": int(is_new.sum()),
        "identical_not_in_corpus": float(is_same[is_new].mean()) if is_new.any() else None,
    }


class IdTokenizer:
    """A tokenizer from texts to token ids, without special tokens, truncation or windows.

    Args:
        tokenizer: The tokenizer of transformers.

    Attributes:
        serialized: Its `tokenizer.json`.
        unknown: The id of the unknown token, if it has one.
        size: The number of tokens in its vocabulary.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.serialized: str = tokenizer.backend_tokenizer.to_str()
        self.unknown: int | None = tokenizer.unk_token_id
        self._backend = Tokenizer.from_str(self.serialized)
        self._backend.no_padding()
        self._backend.no_truncation()
        self.size: int = self._backend.get_vocab_size(with_added_tokens=True)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of every text."""
        ids: list[list[int]] = []
        for start in range(0, len(texts), CHUNK):
            chunk = list(map(valid_unicode, texts[start : start + CHUNK]))
            ids += [encoding.ids for encoding in self._backend.encode_batch_fast(chunk, add_special_tokens=False)]
        return ids

    def words(self, texts: Sequence[str]) -> set[str]:
        """Return the words of texts after normalisation and pre-tokenization."""
        normalizer, pre_tokenizer = self._backend.normalizer, self._backend.pre_tokenizer
        normalised = [normalizer.normalize_str(text) for text in texts] if normalizer else texts
        if not pre_tokenizer:
            return set(normalised)
        return {word for text in normalised for word, _ in pre_tokenizer.pre_tokenize_str(text)}

    def unknown_share(self, ids: Sequence[Sequence[int]]) -> float:
        """Return the share of unknown tokens in tokenized texts."""
        return sum(text_ids.count(self.unknown) for text_ids in ids) / max(1, sum(map(len, ids)))


def _same_tokens(
    before: Sequence[Sequence[int]], after: Sequence[Sequence[int]], pruned: PrunedTokenizer
) -> list[bool]:
    """Return for each text whether the pruned tokenizer gives the same tokens."""
    return [pruned.kept[new].tolist() == list(old) for old, new in zip(before, after, strict=True)]


def _prune_source(source: ExportSource, pruned: PrunedTokenizer) -> ExportSource:
    """Return the source with the pruned tokenizer and a model with fewer embeddings."""
    tokenizer = deepcopy(source.tokenizer)
    tokenizer._tokenizer = Tokenizer.from_str(pruned.serialized)
    whole = source.runtime_tokenizer
    return replace(
        source,
        model=_prune_embeddings(source.model, pruned.kept),
        tokenizer=tokenizer,
        runtime_tokenizer=checkpoint.to_runtime_tokenizer(tokenizer, whole.max_length, whole.long_text),
    )


def _prune_embeddings(model: PreTrainedModel, kept: NDArray[np.int64]) -> PreTrainedModel:
    """Return a copy of a model with only the embeddings of `kept`, and a matching configuration."""
    model = deepcopy(model)
    config, new_ids = encoder_config(model.config), {old: new for new, old in enumerate(kept.tolist())}
    table = model.get_input_embeddings().weight.detach()[torch.from_numpy(kept)]
    padding = new_ids.get(config.pad_token_id)
    model.set_input_embeddings(torch.nn.Embedding(len(table), table.shape[1], padding, _weight=table))
    config.vocab_size = len(kept)
    for name in SPECIAL_IDS:
        if getattr(config, name, None) in new_ids:
            setattr(config, name, new_ids[getattr(config, name)])
    return model


def _configured_ids(model: PreTrainedModel) -> set[int]:
    """Return the token ids that a model's configuration names."""
    config = encoder_config(model.config)
    return {token for name in SPECIAL_IDS if (token := getattr(config, name, None)) is not None}


def _check_report(report: dict[str, Any]) -> None:
    """Raise if too many tokens would be unknown; warn if many texts outside the corpus would change their tokens."""
    if report["unknown"] > report["unknown_before"] + MAX_UNKNOWN_INCREASE:
        raise ExportError(
            f"with the pruned vocabulary {report['unknown']:.2%} of the tokens of the validation texts are unknown, "
            f"without pruning {report['unknown_before']:.2%}; an increase of {MAX_UNKNOWN_INCREASE:.1%} is allowed. "
            "Name a larger corpus with --trim-vocabulary, with texts in every language that will be scored."
        )
    if report["identical_left_out"] < MIN_SAME_TOKENS:
        warnings.warn(
            f"an estimated {report['identical_left_out']:.0%} of texts like the {report['corpus_texts']:,} of the "
            f"corpus will keep their tokens, the others get more and shorter ones. Aim at {MIN_SAME_TOKENS:.0%} with a "
            "larger corpus.",
            stacklevel=3,
        )
