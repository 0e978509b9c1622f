"""The tiny model of the tests: real files, real weights, one layer of 16, seeded.

Run as a script it writes the bundle that `tests/runtime` needs where the workbench is not installed:
`python tests/helpers/tiny.py build/tiny-bundle`.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

LABELS = ("billing", "delivery", "price", "user experience")
# fmt: off
WORDS = [
    "the", "a", "is", "was", "and", "not", "very", "good", "bad", "late", "app", "parcel", "courier",
    "invoice", "money", "cheap", "dear", "broken", "slow", "fast", "die", "der", "das", "war", "und", "nicht",
    "sehr", "gut", "schlecht", "zu", "spät", "teuer", "rechnung", "paket", "kaputt", "langsam", "schnell",
]
# fmt: on
TEXTS = tuple(
    f"{WORDS[i % len(WORDS)]} {WORDS[(i * 7 + 3) % len(WORDS)]} " + "parcel late " * (i % 5) + "invoice" * (i % 2)
    for i in range(60)
)


def write_checkpoint(
    folder: Path,
    *,
    labels: Sequence[str] = LABELS,
    problem_type: str | None = "multi_label_classification",
    head: bool = True,
    max_length: int = 32,
    seed: int = 0,
) -> Path:
    """A BERT of one layer of 16 with a WordPiece tokenizer of some forty words and all letters."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(seed)
    tokenizer = _tokenizer(max_length)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=max_length,
        id2label=dict(enumerate(labels)),
        label2id={label: column for column, label in enumerate(labels)},
        problem_type=problem_type,
        initializer_range=0.5,  # random weights whose probabilities spread from 0 to 1
    )
    model = (BertForSequenceClassification if head else BertModel)(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_bundle(output: Path, folder: Path) -> Path:
    """The tiny checkpoint as a bundle in all precisions, its thresholds tuned on the tiny texts."""
    import numpy as np

    from manylabel_export.pipeline import export
    from manylabel_train.data.dataset import Dataset

    targets = np.random.default_rng(0).integers(0, 2, (len(TEXTS), len(LABELS)))
    validation = Dataset.from_matrix(TEXTS, targets, LABELS)
    export(write_checkpoint(folder), output, validation=validation, budget=None, force=True)  # its weights are random
    return output


def _tokenizer(max_length: int):  # type: ignore[no-untyped-def]  # transformers is untyped and optional here
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in (*range(ord("a"), ord("z") + 1), *map(ord, "äöüß.,!?'-0123456789"))]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *WORDS]
    vocabulary = {piece: at for at, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=max_length,
    )


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as scratch:
        print(json.dumps({"bundle": str(write_bundle(Path(sys.argv[1]), Path(scratch)))}))
