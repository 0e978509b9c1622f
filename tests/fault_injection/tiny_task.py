"""A tiny task for runs that are to take a second: a text has a label where it holds the label's word."""

import json
import random
from pathlib import Path

from experiments.scoring_throughput.run import WORDS

LABELS = ("first", "second", "third")
TEXTS = 140
ROWS = 6_000


def write(folder: Path) -> tuple[Path, Path, Path]:
    """Labelled texts, an untrained encoder, and rows to score, the same ones every time.

    Returns:
        The CSV, the encoder's folder, and the JSON lines.
    """
    folder.mkdir(parents=True)
    dice = random.Random(0)  # no secret
    texts = [" ".join(dice.choices(WORDS, k=3 + at % 6)) for at in range(TEXTS)]
    lines = ["text,labels,split"]
    for at, text in enumerate(texts):
        named = [label for label, word in zip(LABELS, WORDS, strict=False) if word in text.split()]
        split = "validation" if at < TEXTS // 4 else "test" if at < TEXTS // 2 else "train"
        lines.append(f"{text},{'|'.join(named)},{split}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": at, "text": f"{texts[at % TEXTS]} {at}"}) + "\n" for at in range(ROWS))
    _write_encoder(folder / "encoder")
    return folder / "data.csv", folder / "encoder", folder / "rows.jsonl"


def _write_encoder(folder: Path) -> None:
    """A BERT of one layer of 32, random, without dropout, that knows the words and the digits."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    digits = [mark + digit for mark in ("", "##") for digit in "0123456789"]
    vocabulary = {piece: at for at, piece in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *digits, *WORDS))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # no password
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    marks = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(folder)
