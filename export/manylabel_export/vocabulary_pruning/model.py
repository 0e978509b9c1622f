"""A vocabulary trimmed to what a corpus uses: fewer rows in the embedding table, the same answers where tokens stay.

`vocabulary` cuts the tokenizer. Here the corpus says what is used, the model's table follows, and it is measured what
becomes of texts that are not in the corpus.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
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
from manylabel_export.source import Subject
from manylabel_export.vocabulary_pruning.tokenizer import Cut, cut
from manylabel_train.models import checkpoint
from manylabel_train.models.pooling import encoder_config

UNKNOWN_LIMIT = 0.001
"""How much the share of unknown pieces may rise on the texts that a checkpoint is judged by."""

FEW = 0.9
"""Of texts that are not in the corpus, the share that should be tokenised as before; below, a warning says so."""

SPECIAL_IDS = tuple(f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep", "mask", "unk"))
CHUNK = 10_000

Scores = NDArray[np.float32]


def read_corpus(path: Path, column: str) -> list[str]:
    """The texts of a corpus: lines of a `.txt` file, or a column of a table.

    Raises:
        DataError: The file is missing or unreadable, or has no such column, or no text.
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
                f"{path} has no column {column!r}, but {quote_names(list(rows[0][1]))}. Say it by --text-column."
            )
        texts = [row[column] for _, row in rows if isinstance(row.get(column), str)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError(f"{path} holds no text: a vocabulary is trimmed to what texts use.")
    return texts


@dataclass(frozen=True)
class Trimmed:
    """A subject with fewer pieces, and what PyTorch says of its texts.

    Attributes:
        subject: With the trimmed model and tokenizer.
        expected: Probabilities of its texts, shape `(n_texts, n_labels)`: the whole model's where a text's tokens stay,
            so that the graph is held to it, and the trimmed one's elsewhere.
    """

    subject: Subject
    expected: Scores


def trim(subject: Subject, corpus: Sequence[str]) -> Trimmed:
    """Trim a subject's vocabulary, and say how PyTorch answers its texts.

    Args:
        subject: What is exported.
        corpus: Texts of the kind that will be answered; each is tokenised as before.

    Raises:
        ExportError: The tokenizer cannot be cut, or too much of the judged texts would be unknown to it.
    """
    corpus = list(dict.fromkeys(map(valid_unicode, corpus)))
    whole = _Reader(subject.tokenizer)
    read = whole.ids(corpus)
    used = Counter(token for ids in read for token in set(ids))
    always = _ids_of(subject.model)
    unread = [text for text, ids in zip(corpus, read, strict=True) if whole.unknown in ids]
    made = cut(whole.serialized, {*used, *always}, whole.words(unread))
    trimmed = _trimmed(subject, made)
    reader = _Reader(trimmed.tokenizer)
    if not all(_same(read, reader.ids(corpus), made)):
        raise ExportError(
            "the trimmed vocabulary reads a text of its own corpus otherwise. Leave --trim-vocabulary out."
        )
    before, after = whole.ids(subject.texts), reader.ids(subject.texts)
    same = np.array(_same(before, after, made), dtype=bool)
    answers = checkpoint.predict_proba(subject.model, subject.reader, subject.texts)
    found = answers.copy()
    if not same.all():
        others = [text for text, kept in zip(subject.texts, same, strict=True) if not kept]
        found[~same] = checkpoint.predict_proba(trimmed.model, trimmed.reader, others)
    known = set(corpus)
    fresh = np.array([valid_unicode(text) not in known for text in subject.texts], dtype=bool)
    stays = {token for token, texts in used.items() if texts > 1}.union(cut(whole.serialized, always, ()).kept.tolist())
    report = {
        "corpus_texts": len(corpus),
        "pieces_before": whole.size,
        "pieces": len(made.kept),
        "identical_left_out": float(np.mean([stays.issuperset(ids) for ids in read])),
        "judged_texts_not_in_corpus": int(fresh.sum()),
        "identical_not_in_corpus": float(same[fresh].mean()) if fresh.any() else None,
        "unknown_before": whole.unknown_share(before),
        "unknown": reader.unknown_share(after),
        "mean_difference": float(np.abs(found - answers).mean()),
    }
    _guard(report)
    return Trimmed(replace(trimmed, source={**subject.source, "vocabulary": report}), found)


class _Reader:
    """The whole of texts as ids, without special tokens: windows are cut from these."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.serialized: str = tokenizer.backend_tokenizer.to_str()
        self.unknown: int | None = tokenizer.unk_token_id
        self._backend = Tokenizer.from_str(self.serialized)
        self._backend.no_padding()
        self._backend.no_truncation()
        self.size: int = self._backend.get_vocab_size(with_added_tokens=True)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of every text."""
        found: list[list[int]] = []
        for start in range(0, len(texts), CHUNK):
            chunk = list(map(valid_unicode, texts[start : start + CHUNK]))
            found += [one.ids for one in self._backend.encode_batch_fast(chunk, add_special_tokens=False)]
        return found

    def words(self, texts: Sequence[str]) -> set[str]:
        """What the model is handed of texts: normalised, and split before it splits them further."""
        normalizer, splitter = self._backend.normalizer, self._backend.pre_tokenizer
        plain = (normalizer.normalize_str(text) if normalizer else text for text in texts)
        return {word for text in plain for word, _ in (splitter.pre_tokenize_str(text) if splitter else [(text, None)])}

    def unknown_share(self, read: Sequence[Sequence[int]]) -> float:
        """The share of unknown pieces in texts."""
        return sum(ids.count(self.unknown) for ids in read) / max(1, sum(map(len, read)))


def _same(before: Sequence[Sequence[int]], after: Sequence[Sequence[int]], made: Cut) -> list[bool]:
    """For each text, whether the trimmed vocabulary reads the same pieces."""
    return [made.kept[ours].tolist() == list(theirs) for theirs, ours in zip(before, after, strict=True)]


def _trimmed(subject: Subject, made: Cut) -> Subject:
    """The same model with fewer pieces."""
    tokenizer = deepcopy(subject.tokenizer)
    tokenizer._tokenizer = Tokenizer.from_str(made.serialized)
    return replace(
        subject,
        model=_with_rows(subject.model, made.kept),
        tokenizer=tokenizer,
        reader=checkpoint.to_runtime_tokenizer(tokenizer, subject.reader.max_length, subject.reader.long_text),
    )


def _with_rows(model: PreTrainedModel, kept: NDArray[np.int64]) -> PreTrainedModel:
    """A copy of a model whose table of embeddings has the rows of `kept` alone, and whose configuration says so."""
    model = deepcopy(model)
    config, new = encoder_config(model.config), {old: at for at, old in enumerate(kept.tolist())}
    table = model.get_input_embeddings().weight.detach()[torch.from_numpy(kept)]
    padding = new.get(config.pad_token_id)
    model.set_input_embeddings(torch.nn.Embedding(len(table), table.shape[1], padding, _weight=table))
    config.vocab_size = len(kept)
    for name in SPECIAL_IDS:
        if getattr(config, name, None) in new:
            setattr(config, name, new[getattr(config, name)])
    return model


def _ids_of(model: PreTrainedModel) -> set[int]:
    """The ids that a model's configuration names."""
    config = encoder_config(model.config)
    return {at for name in SPECIAL_IDS if (at := getattr(config, name, None)) is not None}


def _guard(report: dict[str, Any]) -> None:
    """Refuse what would read too little; warn where texts to come will be read otherwise."""
    if report["unknown"] > report["unknown_before"] + UNKNOWN_LIMIT:
        raise ExportError(
            f"with the trimmed vocabulary {report['unknown']:.2%} of the pieces of validation texts are unknown, where "
            f"it was {report['unknown_before']:.2%}; at most {UNKNOWN_LIMIT:.1%} more are allowed. Name a larger "
            "corpus with --trim-vocabulary, with texts in every language that will be answered."
        )
    if report["identical_left_out"] < FEW:
        warnings.warn(
            f"of texts like the {report['corpus_texts']:,} of the corpus {report['identical_left_out']:.0%} will be "
            f"tokenised as before, the rest in smaller pieces. Aim at {FEW:.0%} with a larger corpus.",
            stacklevel=2,
        )
