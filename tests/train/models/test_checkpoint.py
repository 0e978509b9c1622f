"""Checkpoints: loading, missing weights, tokenizers, and errors for damaged ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import toy
from transformers import AutoTokenizer

from manylabel.errors import CheckpointError
from manylabel.inference.tokenizer import LongText
from manylabel_train.models import checkpoint

TEXT = "The parcel was late, sehr schlecht!"


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def vocabulary_only(folder: Path) -> Path:
    """Write a checkpoint whose tokenizer is a vocab.txt, as older scripts did."""
    toy.write_checkpoint(folder)
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_complete_checkpoint_loads_in_eval_mode(tmp_path: Path) -> None:
    model, missing = checkpoint.load_model(str(toy.write_checkpoint(tmp_path)))
    assert missing == set()
    assert not model.training
    assert checkpoint.read_labels(model.config) == toy.LABELS


def test_fp16_checkpoint_is_loaded_in_fp32(tmp_path: Path) -> None:
    folder = toy.write_checkpoint(tmp_path)
    checkpoint.load_model(str(folder))[0].half().save_pretrained(folder)
    model, _ = checkpoint.load_model(str(folder))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_missing_head_is_reported(tmp_path: Path) -> None:
    _, missing = checkpoint.load_model(str(toy.write_checkpoint(tmp_path, head=False)))
    assert missing == {"classifier.weight", "classifier.bias"}


def test_head_with_other_size_is_reported_missing(tmp_path: Path) -> None:
    _, missing = checkpoint.load_model(str(toy.write_checkpoint(tmp_path)), num_labels=7)
    assert missing == {"classifier.weight", "classifier.bias"}


def test_encoder_weights_must_fit_their_configuration(tmp_path: Path) -> None:
    change(toy.write_checkpoint(tmp_path) / "config.json", num_hidden_layers=2)
    with pytest.raises(CheckpointError, match=r"lacks \d+ weights of its encoder, such as bert\.encoder\.layer\.1"):
        checkpoint.load_model(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_damaged_weights_error(tmp_path: Path, content: bytes) -> None:
    (toy.write_checkpoint(tmp_path) / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be loaded as a sequence classifier"):
        checkpoint.load_model(str(tmp_path))


@pytest.mark.parametrize("content", ["", "{", '{"model_type": "no-such-model"}', "{}"])
def test_damaged_config_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="not a checkpoint that transformers can read"):
        checkpoint.load_config(str(tmp_path))


@pytest.mark.parametrize("name", ["empty", "my-bert", "mpt"])
def test_folder_without_config_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=r"it has no config\.json"):
        checkpoint.load_config(str(tmp_path / name))


@pytest.mark.parametrize("damage", ["missing", "half"])
def test_unreadable_tokenizer_error(tmp_path: Path, damage: str) -> None:
    tokenizer = toy.write_checkpoint(tmp_path) / "tokenizer.json"
    content = tokenizer.read_text()
    tokenizer.unlink()
    if damage == "half":
        tokenizer.write_text(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        checkpoint.load_tokenizer(str(tmp_path))


def test_vocab_txt_alone_is_a_tokenizer(tmp_path: Path) -> None:
    old = checkpoint.load_tokenizer(str(vocabulary_only(tmp_path / "old")))
    new = checkpoint.load_tokenizer(str(toy.write_checkpoint(tmp_path / "new")))
    assert old(TEXT)["input_ids"] == new(TEXT)["input_ids"]


@pytest.mark.parametrize("kind", ["TokenizersBackend", "PreTrainedTokenizerFast"])
def test_reads_tokenizers_of_transformers_4_and_5(tmp_path: Path, kind: str) -> None:
    toy.write_checkpoint(tmp_path)
    expected = checkpoint.load_tokenizer(str(tmp_path))(TEXT)["input_ids"]
    change(tmp_path / "tokenizer_config.json", tokenizer_class=kind)
    (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
    assert checkpoint.load_tokenizer(str(tmp_path))(TEXT)["input_ids"] == expected


def test_runtime_tokenizer_gives_transformers_ids(tmp_path: Path) -> None:
    tokenizer = checkpoint.load_tokenizer(str(toy.write_checkpoint(tmp_path)))
    tokenizer.backend_tokenizer.enable_padding(length=20)
    tokenizer.backend_tokenizer.enable_truncation(4)
    reader = checkpoint.to_runtime_tokenizer(tokenizer, 32, LongText("window", overlap=2))
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    assert reader.encode(TEXT)[0].windows[0].tolist() == tokenizer(TEXT)["input_ids"]


def test_special_tokens_of_a_single_text(tmp_path: Path) -> None:
    tokenizer = checkpoint.load_tokenizer(str(toy.write_checkpoint(tmp_path)))
    assert checkpoint.special_tokens(tokenizer) == ([2], [3])


@pytest.mark.parametrize("names", [{"0": "a", "1": "a"}, {"0": "a", "2": "b"}])
def test_id2label_must_name_every_column(tmp_path: Path, names: dict[str, str]) -> None:
    change(toy.write_checkpoint(tmp_path) / "config.json", id2label=names)
    with pytest.raises(CheckpointError, match="columns 0 to 1 unique names"):
        checkpoint.read_labels(checkpoint.load_config(str(tmp_path)))


def test_max_length_from_position_embeddings(tmp_path: Path) -> None:
    config = checkpoint.load_config(str(toy.write_checkpoint(tmp_path)))
    assert checkpoint.default_max_length(config) == 32
    config.max_position_embeddings = 8192
    assert (checkpoint.max_positions(config), checkpoint.default_max_length(config)) == (8192, 512)
    config.max_position_embeddings, config.model_type, config.pad_token_id = 514, "xlm-roberta", 1
    assert checkpoint.default_max_length(config) == 512


def test_published_model_name_has_no_parent_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    assert checkpoint.public_name(str(tmp_path / "mine")) == "mine"
    assert checkpoint.public_name("FacebookAI/roberta-base") == "FacebookAI/roberta-base"
    monkeypatch.chdir(tmp_path / "mine")
    assert checkpoint.public_name(".") == "mine"


def test_predict_matches_the_model_one_text_at_a_time(elsewhere: Path) -> None:
    model, _ = checkpoint.load_model(str(elsewhere))
    tokenizer = checkpoint.load_tokenizer(str(elsewhere))
    texts = [text for text, _ in toy.examples(20, seed=5)]
    found = checkpoint.predict_proba(model, checkpoint.to_runtime_tokenizer(tokenizer, 32, LongText(overlap=2)), texts)
    with torch.inference_mode():
        expected = [torch.sigmoid(model(**tokenizer(text, return_tensors="pt")).logits[0]).numpy() for text in texts]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_local_checkpoint_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    folder = tmp_path / "checkpoint"
    shutil.copytree(toy.write_checkpoint(tmp_path / "source"), folder)
    touched: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: touched.append(where) or [])
    checkpoint.load_model(str(folder))
    checkpoint.load_tokenizer(str(folder))
    assert touched == []
