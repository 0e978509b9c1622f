"""A BERT with random weights, for what hangs on a model's sizes alone: speed and memory.

    python -m experiments.int8_bakeoff.random_bert RUN --output FOLDER

No BERT-base comes as a package. This one has the labels and the tokenizer of RUN, so that it reads the same tokens of
the same texts; what it answers means nothing.
"""

from pathlib import Path
from typing import Any

import click
from transformers import BertConfig, BertForSequenceClassification

from manylabel.system.atomic_write import atomic_folder, check_output_free
from manylabel_train.models import checkpoint

LAYERS, WIDTH, HEAD = 12, 768, 64
"""BERT-base's, and the width of a head in BERTs of all sizes."""


def bert(*, layers: int = LAYERS, width: int = WIDTH, **more: Any) -> BertForSequenceClassification:
    """The same weights every time; `more` goes to its configuration."""
    import torch

    torch.manual_seed(0)
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": max(1, width // HEAD),
    }
    return BertForSequenceClassification(BertConfig(problem_type=checkpoint.MULTI_LABEL, **sizes, **more)).eval()


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True)
@click.option("--layers", type=click.IntRange(min=1), default=LAYERS, show_default=True)
@click.option("--width", type=click.IntRange(min=1), default=WIDTH, show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing output.")
def main(run: Path, output: Path, layers: int, width: int, force: bool) -> None:
    """Write an untrained BERT with the labels and the tokenizer of RUN, whose tokenizer has to be a BERT's."""
    check_output_free(output, force=force)
    config, tokenizer = checkpoint.load_config(str(run)), checkpoint.load_tokenizer(str(run))
    kept = {"id2label": config.id2label, "label2id": config.label2id, "vocab_size": len(tokenizer)}
    with atomic_folder(output, force=force) as folder:
        bert(layers=layers, width=width, **kept).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
