"""A BERT with random weights, for figures that depend only on the sizes of a model: speed and memory.

    python -m experiments.int8_bakeoff.random_bert RUN --output FOLDER

BERT-base is not available as a package. This model has the labels and the tokenizer of RUN, so that it reads the same
tokens of the same texts; its predictions are meaningless.
"""

from pathlib import Path
from typing import Any

import click
from transformers import BertConfig, BertForSequenceClassification

from manylabel.system.atomic_write import atomic_folder, check_output_free
from manylabel_train.models import checkpoint

LAYERS, WIDTH, HEAD_WIDTH = 12, 768, 64
"""The sizes of BERT-base; the width of a head is the same in BERTs of all sizes."""


def build_random_bert(*, layers: int = LAYERS, width: int = WIDTH, **more: Any) -> BertForSequenceClassification:
    """Return an untrained BERT, with the same weights every time.

    Args:
        layers: Number of layers.
        width: Hidden size.
        more: More fields of its configuration.
    """
    import torch

    torch.manual_seed(0)
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": max(1, width // HEAD_WIDTH),
    }
    return BertForSequenceClassification(BertConfig(problem_type=checkpoint.MULTI_LABEL, **sizes, **more)).eval()


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True)
@click.option("--layers", type=click.IntRange(min=1), default=LAYERS, show_default=True)
@click.option("--width", type=click.IntRange(min=1), default=WIDTH, show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing output.")
def main(run: Path, output: Path, layers: int, width: int, force: bool) -> None:
    """Write an untrained BERT with the labels and the tokenizer of RUN, which must be a BERT tokenizer."""
    check_output_free(output, force=force)
    config, tokenizer = checkpoint.load_config(str(run)), checkpoint.load_tokenizer(str(run))
    kept = {"id2label": config.id2label, "label2id": config.label2id, "vocab_size": len(tokenizer)}
    with atomic_folder(output, force=force) as folder:
        build_random_bert(layers=layers, width=width, **kept).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
