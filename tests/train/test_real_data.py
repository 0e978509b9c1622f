"""Real texts and a real tokenizer, which show what generated ones cannot."""

from pathlib import Path

import pytest

from manylabel.inference.tokenizer import LongText
from manylabel_export.evaluator import require_same_tokens
from manylabel_train.data.dataset import read_dataset
from manylabel_train.models import DEFAULT_MODEL, checkpoint

pytestmark = pytest.mark.real_data

ROWS = {  # as each folder's SOURCE.md counts them: rows, labels, rows for train, validation and test
    "goemotions": (54_263, 28, 43_410, 5_426, 5_427),
    "mams_acsa": (3_949, 8, 3_149, 400, 400),
    "mobasa": (5_201, 17, 3_119, 1_054, 1_028),
    "steam_review_aspect": (1_100, 8, 790, 110, 200),
}


@pytest.mark.parametrize("name", ROWS)
def test_reads_real_file_row_by_row(name: str, data_folder: Path) -> None:
    data = read_dataset(data_folder / name / "data.csv")
    parts = [len(data.part(split)) for split in ("train", "validation", "test")]
    assert (len(data), len(data.labels), *parts) == ROWS[name]


def test_long_reviews_tokenise_like_transformers(data_folder: Path) -> None:
    """MiniLM's tokenizer.json pads and truncates to 128 by default."""
    texts = read_dataset(data_folder / "steam_review_aspect" / "data.csv").part("test").texts
    tokenizer = checkpoint.load_tokenizer(checkpoint.resolve_checkpoint(DEFAULT_MODEL))
    reader = checkpoint.to_runtime_tokenizer(tokenizer, 512, LongText())
    encodings = reader.encode(texts)
    require_same_tokens(texts, tokenizer, encodings)
    lengths = [encoding.n_tokens for encoding in encodings]
    assert sum(128 < length <= 512 for length in lengths) > 50
    assert sum(len(encoding.windows) > 1 for encoding in encodings) == sum(length > 512 for length in lengths) > 10
    assert not any(encoding.truncated for encoding in encodings)


def test_german_texts_tokenise_like_transformers(data_folder: Path) -> None:
    """An XLM-R Unigram tokenizer has other special tokens and handles blanks differently."""
    encoder = data_folder.parent / "models" / "multilingual-e5-small-de-en"
    if not encoder.is_dir():
        pytest.skip(f"needs {encoder}")
    texts = read_dataset(data_folder / "mobasa" / "data.csv").part("test").texts
    tokenizer = checkpoint.load_tokenizer(str(encoder))
    assert checkpoint.special_tokens(tokenizer) == ([0], [2])
    require_same_tokens(texts, tokenizer, checkpoint.to_runtime_tokenizer(tokenizer, 512, LongText()).encode(texts))
