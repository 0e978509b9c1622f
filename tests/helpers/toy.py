"""The toy model of the tests: a one-layer BERT with a small WordPiece vocabulary, and a task that it can learn.

A text has a label where it contains one of the label's cue words. `write_checkpoint` gives random weights whose
probabilities spread from 0 to 1; `write_encoder` gives an encoder that learns the task in seconds.

Run as a script it writes the bundle that `tests/runtime` needs where PyTorch is not installed:
`python tests/helpers/toy.py build/tiny-bundle`.
"""

import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manylabel_train.data.dataset import Dataset

ROOT = Path(__file__).parents[2]

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

CUES = {
    "billing": ("invoice", "rechnung"),
    "delivery": ("parcel", "courier", "paket"),
    "price": ("money", "cheap", "dear", "teuer"),
    "user experience": ("app", "broken", "slow"),
}
FILLERS = [word for word in WORDS if not any(word in cues for cues in CUES.values())]

RECIPE = {"epochs": 10, "learning_rate": 1e-3, "batch_size": 16, "precision": "fp32"}
"""Training options with which `write_encoder`'s model learns the task in two seconds."""


def examples(n: int, *, seed: int = 0, single: bool = False) -> list[tuple[str, list[str]]]:
    """Return texts of 3 to 8 words with their labels: none to three, or exactly one."""
    draw = random.Random(seed)
    rows = []
    for _ in range(n):
        labels = draw.sample(LABELS, 1 if single else draw.choice((0, 1, 1, 2, 2, 3)))
        words = [draw.choice(CUES[label]) for label in labels] + draw.choices(FILLERS, k=draw.randint(3, 5))
        draw.shuffle(words)
        rows.append((" ".join(words), sorted(labels)))
    return rows


def dataset(n: int = 240, *, seed: int = 0, labels: Sequence[str] = LABELS, per_split: int = 60) -> "Dataset":
    """Return `n` texts, `per_split` of them for validation and as many for test."""
    from manylabel_train.data.dataset import Dataset

    rows = examples(n, seed=seed)
    targets = [[float(label in given) for label in labels] for _, given in rows]
    split = ["validation"] * per_split + ["test"] * per_split + ["train"] * (n - 2 * per_split)
    return Dataset.from_matrix([text for text, _ in rows], targets, labels, split=split)


def write_csv(path: Path, data: "Dataset") -> Path:
    """Write the data as a CSV file with columns text, labels and split."""
    lines = ["text,labels,split"]
    for text, row, split in zip(data.texts, data.targets, data.split, strict=True):
        labels = "|".join(label for label, value in zip(data.labels, row, strict=True) if value)
        lines.append(f"{text},{labels},{split}")
    path.write_text("\n".join(lines) + "\n")
    return path


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def every_json(folder: Path) -> list[Path]:
    """Parse every JSON and JSONL file below a folder as strictly as JavaScript does (no NaN)."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    found = [path for path in folder.rglob("*") if path.suffix in {".json", ".jsonl"}]
    for path in found:
        text = path.read_text(encoding="utf-8")
        for document in text.splitlines() if path.suffix == ".jsonl" else [text]:
            json.loads(document, parse_constant=refuse)
    return found


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a subprocess that runs this checkout on one thread."""
    paths = os.pathsep.join(str(ROOT / name) for name in ("runtime", "export", "benchmarks", "."))
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **more}


def write_checkpoint(
    folder: Path,
    *,
    labels: Sequence[str] = LABELS,
    problem_type: str | None = "multi_label_classification",
    head: bool = True,
    max_length: int = 32,
    seed: int = 0,
) -> Path:
    """Write a checkpoint with random weights whose probabilities spread from 0 to 1."""
    from transformers import BertForSequenceClassification, BertModel

    _save(
        folder,
        BertForSequenceClassification if head else BertModel,
        max_length=max_length,
        seed=seed,
        id2label=dict(enumerate(labels)),
        label2id={label: column for column, label in enumerate(labels)},
        problem_type=problem_type,
        initializer_range=0.35,
    )
    return folder


def write_encoder(folder: Path, *, layers: int = 1, pooler: bool = True, max_length: int = 32, seed: int = 0) -> Path:
    """Write an untrained encoder without a head that learns the task in seconds."""
    from functools import partial

    from transformers import BertModel

    model = partial(BertModel, add_pooling_layer=pooler)
    _save(folder, model, max_length=max_length, seed=seed, num_hidden_layers=layers)
    return folder


def _save(folder: Path, model: Any, *, max_length: int, seed: int, **config: Any) -> None:
    import torch
    from transformers import BertConfig

    torch.manual_seed(seed)
    tokenizer = _tokenizer(max_length)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    lengths = {"vocab_size": len(tokenizer), "max_position_embeddings": max_length}
    model(BertConfig(**{**sizes, **dropout, **lengths, **config})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_bundle(output: Path, folder: Path) -> Path:
    """Export the random checkpoint in all precisions, with thresholds tuned on `TEXTS`."""
    import numpy as np

    from manylabel_export.pipeline import export
    from manylabel_train.data.dataset import Dataset

    targets = np.random.default_rng(0).integers(0, 2, (len(TEXTS), len(LABELS)))
    validation = Dataset.from_matrix(TEXTS, targets, LABELS)
    export(write_checkpoint(folder), output, validation=validation, budget=None, force=True)  # its weights are random
    return output


def train_elsewhere(
    folder: Path, encoder: Path, rows: Sequence[tuple[str, list[str]]], *, single: bool = False
) -> Path:
    """Train a classifier with a plain Hugging Face Trainer: multi-label, or multi-class by softmax."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder,
        id2label=dict(enumerate(LABELS)),
        label2id={label: at for at, label in enumerate(LABELS)},
        problem_type=None if single else "multi_label_classification",
    )

    def target(labels: list[str]) -> int | list[float]:
        return LABELS.index(labels[0]) if single else [float(label in labels) for label in LABELS]

    Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder.with_name(f"{folder.name}-work")),
            num_train_epochs=4,
            learning_rate=5e-3,
            per_device_train_batch_size=16,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=0,
        ),
        train_dataset=[{**tokenizer(text), "labels": target(labels)} for text, labels in rows],
        data_collator=DataCollatorWithPadding(tokenizer),
    ).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


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
