"""Train a multi-class model, with exactly one label per text, by a typical Hugging Face Trainer script.

python examples/train_multiclass.py build/multiclass
manylabel train examples/reviews.csv --from build/multiclass --output build/from_multiclass
"""

import csv
import sys
from pathlib import Path

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from manylabel_train.models import DEFAULT_MODEL
from manylabel_train.models.checkpoint import resolve_checkpoint

output = sys.argv[1]
with (Path(__file__).parent / "reviews_single.csv").open(encoding="utf-8", newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
labels = sorted({row["label"] for row in rows})

encoder = resolve_checkpoint(DEFAULT_MODEL)
tokenizer = AutoTokenizer.from_pretrained(encoder)
model = AutoModelForSequenceClassification.from_pretrained(
    encoder, id2label=dict(enumerate(labels)), label2id={label: column for column, label in enumerate(labels)}
)
Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=f"{output}.checkpoints",
        num_train_epochs=10,
        learning_rate=2e-4,
        per_device_train_batch_size=16,
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    ),
    train_dataset=[
        {**tokenizer(row["text"], truncation=True, max_length=256), "labels": labels.index(row["label"])}
        for row in rows
    ],
    data_collator=DataCollatorWithPadding(tokenizer),
).train()
model.save_pretrained(output)
tokenizer.save_pretrained(output)
