"""A task that the tiny model can learn: a text has a label where it holds one of the label's words."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

from tests.helpers.tiny import LABELS, WORDS, _tokenizer

from manylabel_train.data.dataset import Dataset

CUES = {
    "billing": ("invoice", "rechnung"),
    "delivery": ("parcel", "courier", "paket"),
    "price": ("money", "cheap", "dear", "teuer"),
    "user experience": ("app", "broken", "slow"),
}
FILLERS = [word for word in WORDS if not any(word in cues for cues in CUES.values())]


def examples(n: int, *, seed: int = 0, single: bool = False) -> list[tuple[str, list[str]]]:
    """Texts of 3 to 8 words with their labels: none to three, or just one."""
    draw = random.Random(seed)
    rows = []
    for _ in range(n):
        labels = draw.sample(LABELS, 1 if single else draw.choice((0, 1, 1, 2, 2, 3)))
        words = [draw.choice(CUES[label]) for label in labels] + draw.choices(FILLERS, k=draw.randint(3, 5))
        draw.shuffle(words)
        rows.append((" ".join(words), sorted(labels)))
    return rows


def dataset(n: int = 240, *, seed: int = 0, labels: Sequence[str] = LABELS, per_split: int = 60) -> Dataset:
    """`n` texts, of which `per_split` are for validation and as many for test."""
    rows = examples(n, seed=seed)
    targets = [[float(label in given) for label in labels] for _, given in rows]
    split = ["validation"] * per_split + ["test"] * per_split + ["train"] * (n - 2 * per_split)
    return Dataset.from_matrix([text for text, _ in rows], targets, labels, split=split)


def write_csv(path: Path, data: Dataset) -> Path:
    """The data as a CSV file with columns text, labels and split."""
    lines = ["text,labels,split"]
    for text, row, split in zip(data.texts, data.targets, data.split, strict=True):
        labels = "|".join(label for label, value in zip(data.labels, row, strict=True) if value)
        lines.append(f"{text},{labels},{split}")
    path.write_text("\n".join(lines) + "\n")
    return path


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def every_json(folder: Path) -> list[Path]:
    """Parses every JSON and JSONL file below a folder as strictly as JavaScript would."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    found = [path for path in folder.rglob("*") if path.suffix in {".json", ".jsonl"}]
    for path in found:
        text = path.read_text(encoding="utf-8")
        for document in text.splitlines() if path.suffix == ".jsonl" else [text]:
            json.loads(document, parse_constant=refuse)
    return found


def environment(**more: str) -> dict[str, str]:
    """For a subprocess that runs this checkout, on one thread."""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join(str(root / name) for name in ("runtime", "export", "benchmarks", "."))
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **more}


def write_encoder(folder: Path, *, layers: int = 1, pooler: bool = True, max_length: int = 32, seed: int = 0) -> Path:
    """An untrained BERT that learns the task in seconds: one layer of 32, or more, and no dropout; no head."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    tokenizer = _tokenizer(max_length)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=max_length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config, add_pooling_layer=pooler).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


RECIPE = {"epochs": 10, "learning_rate": 1e-3, "batch_size": 16, "precision": "fp32"}
"""For `Recipe`: what lets `write_encoder`'s model learn the task in two seconds."""


def train_elsewhere(
    folder: Path, encoder: Path, rows: Sequence[tuple[str, list[str]]], *, single: bool = False
) -> Path:
    """A classifier as anybody's own script makes it, with a plain Trainer: multi-label, or multi-class by softmax."""
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
