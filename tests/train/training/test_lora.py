"""LoRA adapters: trained instead of the encoder on every architecture, and merged into a plain checkpoint."""

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tests.helpers import toy
from tests.helpers.architectures import make_classifier
from transformers import AutoModelForSequenceClassification

from manylabel import Classifier
from manylabel.errors import InputError, MissingDependency
from manylabel_export.pipeline import export
from manylabel_train.data.training_run import read_run
from manylabel_train.models import checkpoint
from manylabel_train.training.callbacks import ProgressBar
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.lora import ADAPTER, add_adapters, merge_adapters
from manylabel_train.training.model_init import head_parameters
from manylabel_train.training.train import train

SHORT = replace(TrainConfig(**toy.RECIPE), epochs=3, lora=4)
IDS = torch.arange(12).reshape(2, 6)
needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="peft is absent")
each_architecture = pytest.mark.parametrize(
    "architecture", ["bert", "distilbert", "xlm-roberta", "albert", "mpnet", "deberta-v2", "modernbert"]
)


@needs_peft
@each_architecture
def test_merged_lora_equals_adapter_model(architecture: str) -> None:
    model, plain = make_classifier(architecture), make_classifier(architecture)
    add_adapters(model, 4)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=IDS).logits, plain(input_ids=IDS).logits)  # adapters start at zero
        for name, parameter in model.named_parameters():
            if ADAPTER in name:
                parameter.normal_(std=0.2)
        adapted = model.eval()(input_ids=IDS).logits
        assert (adapted - plain(input_ids=IDS).logits).abs().max() > 1e-3
        merge_adapters(model)
        torch.testing.assert_close(model(input_ids=IDS).logits, adapted, atol=1e-4, rtol=1e-4)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert all(parameter.requires_grad for parameter in model.parameters())


@needs_peft
@each_architecture
def test_lora_trains_adapters_and_head_only(architecture: str) -> None:
    model = make_classifier(architecture)
    before = {name for name, _ in model.named_parameters()}
    head = head_parameters(model)
    add_adapters(model, 4)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in learning if ADAPTER not in name} == head & before
    assert learning == head_parameters(model)  # all at the head's rate
    adapted = [name for name in learning if "lora_A" in name]
    assert any("layer" in name for name in adapted)
    assert len(adapted) >= 7


@needs_peft
def test_lora_run_is_a_plain_checkpoint_and_exports(encoder: Path, tmp_path: Path) -> None:
    config = replace(TrainConfig(**toy.RECIPE), lora=8)
    run = train(toy.dataset(480), tmp_path / "run", model=str(encoder), config=config)
    assert run.details["recipe"]["lora"] == 8
    assert run.metrics["test"]["tuned"]["macro_average_precision"] > 0.6
    _, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ours = checkpoint.load_model(str(tmp_path / "run"))[0].bert.embeddings.word_embeddings.weight
    theirs = checkpoint.load_model(str(encoder))[0].bert.embeddings.word_embeddings.weight
    assert torch.equal(ours, theirs)
    bundle = export(tmp_path / "run", tmp_path / "bundle", precisions=["fp32"])
    Classifier.load(bundle.path, device="cpu").check_probes()


@needs_peft
def test_interrupted_run_resumes_to_the_same_result(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(toy.dataset(200), tmp_path / "whole", model=str(encoder), config=SHORT)
    seen: list[None] = []

    def die(*_: object, **__: object) -> None:
        seen.append(None)
        if len(seen) > 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "on_evaluate", die)
        with pytest.raises(KeyboardInterrupt):
            train(toy.dataset(200), tmp_path / "run", model=str(encoder), config=SHORT)
    train(toy.dataset(200), tmp_path / "run", model=str(encoder), config=SHORT, resume=True)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "run"))
    assert first == second
    assert read_run(tmp_path / "run").metrics == read_run(tmp_path / "whole").metrics


def test_missing_peft_error_has_install_command(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependency, match=r'pip install "manylabel\[export,lora,cpu\]"'):
        train(toy.dataset(200), tmp_path / "run", model=str(encoder), config=SHORT)
    assert list(tmp_path.iterdir()) == []


def test_invalid_lora_rank_error() -> None:
    with pytest.raises(InputError, match="lora is 0; it must be 1 or more"):
        TrainConfig(lora=0)
