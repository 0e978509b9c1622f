"""Pooling: trained, saved, loaded and exported, and rejected by plain transformers."""

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.helpers import toy
from tests.helpers.architectures import CONFIGURATIONS, LONGEST, VOCABULARY, make_classifier
from tests.helpers.graphs import (
    ENGINES,
    open_session,
    padding_mask,
    predict_with_graph,
    predict_with_pytorch,
    random_ids,
)
from transformers import PreTrainedModel

from manylabel import Classifier
from manylabel.errors import InputError
from manylabel_export.graph import build
from manylabel_export.graph.passes.canonicalize import append_sigmoid, canonicalize
from manylabel_export.graph.passes.fusion import CPU, fuse_operators
from manylabel_export.graph.passes.mask_elimination import eliminate_mask
from manylabel_export.graph.torch_export import trace
from manylabel_export.pipeline import export
from manylabel_train.data.training_run import read_run
from manylabel_train.models import checkpoint
from manylabel_train.models.pooling import PooledClassifier, Pooling, encoder_config, portable_config, set_pooling
from manylabel_train.training.callbacks import ProgressBar
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

POOLINGS: tuple[Pooling, ...] = ("first", "mean")
SHORT = replace(TrainConfig(**toy.RECIPE), epochs=3)
each_pooling = pytest.mark.parametrize("pooling", POOLINGS)
each_architecture = pytest.mark.parametrize("architecture", CONFIGURATIONS)


@cache
def pooled(architecture: str, pooling: Pooling) -> PreTrainedModel:
    """Create a tiny classifier with another pooling, with head weights so large that texts differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = set_pooling(make_classifier(architecture), pooling)
        with torch.no_grad():
            model.classifier.weight.normal_(std=0.3)
    return model


@cache
def built(architecture: str, pooling: Pooling, engine: str = "auto") -> dict[str, build.Graph]:
    return build.build_graphs(pooled(architecture, pooling), engine=engine)


# The model class


@each_architecture
def test_mean_pooling_ignores_padding(architecture: str) -> None:
    model, ids = pooled(architecture, "mean"), random_ids(1, 7)
    alone = predict_with_pytorch(model, ids)
    more = np.concatenate([ids, random_ids(1, 5, seed=1)], axis=1)
    mask = np.array([[1] * 7 + [0] * 5])
    np.testing.assert_allclose(predict_with_pytorch(model, more, mask), alone, atol=1e-5)
    assert np.abs(alone - predict_with_pytorch(pooled(architecture, "first"), ids)).max() > 1e-3


@each_pooling
@each_architecture
def test_pooled_model_save_load_round_trip(architecture: str, pooling: Pooling, tmp_path: Path) -> None:
    model = pooled(architecture, pooling)
    model.save_pretrained(tmp_path)
    again, missing = checkpoint.load_model(str(tmp_path))
    assert not missing
    assert type(again) is type(model)
    np.testing.assert_array_equal(
        predict_with_pytorch(again, random_ids(2, 9)), predict_with_pytorch(model, random_ids(2, 9))
    )


def test_head_reads_the_selected_pooling() -> None:
    for pooling, take in (("first", lambda states: states[:, 0]), ("mean", lambda states: states.mean(dim=1))):
        model = pooled("bert", pooling)  # type: ignore[arg-type]  # one of the two
        ids = torch.from_numpy(random_ids(2, 6))
        with torch.no_grad():
            states = model.encoder(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
            torch.testing.assert_close(model(input_ids=ids).logits, model.classifier(take(states)))
    assert model.encoder.pooler is None


def test_modernbert_pooling_keeps_its_class() -> None:
    model = pooled("modernbert", "mean")
    assert model.config.classifier_pooling == "mean"
    assert not isinstance(model, PooledClassifier)


@each_pooling
def test_plain_transformers_rejects_pooled_model(pooling: Pooling, tmp_path: Path) -> None:
    pooled("bert", pooling).save_pretrained(tmp_path)
    script = (
        "import sys\nfrom transformers import AutoModelForSequenceClassification\n"
        "AutoModelForSequenceClassification.from_pretrained(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], env=toy.environment(), capture_output=True)
    assert done.returncode != 0
    assert b"manylabel-pooled" in done.stderr


# The graphs


@pytest.mark.parametrize("engine", ENGINES)
@each_pooling
@each_architecture
def test_pooled_variants_match_pytorch(architecture: str, pooling: Pooling, engine: str) -> None:
    model, variants = pooled(architecture, pooling), built(architecture, pooling, engine)
    whole = open_session(variants["fp32"].proto)
    for shape in ((1, 1), (1, 3), (5, 7), (3, LONGEST)):
        ids = random_ids(*shape)
        expected = predict_with_pytorch(model, ids)
        np.testing.assert_allclose(predict_with_graph(whole, ids), expected, atol=1e-5)
        np.testing.assert_allclose(
            predict_with_graph(whole, ids, padding_mask(ids)),
            predict_with_pytorch(model, ids, padding_mask(ids)),
            atol=1e-5,
        )
    ids = random_ids(16, 12)
    expected = predict_with_pytorch(model, ids)
    np.testing.assert_allclose(predict_with_graph(variants["fp16"].proto, ids), expected, atol=1e-2)
    difference = np.abs(predict_with_graph(variants["int8"].proto, ids) - expected)
    assert difference.mean() < 0.03  # random weights; ModernBERT: 0.022


@each_pooling
@each_architecture
def test_cls_pruning_applies_to_first_token_pooling_only(architecture: str, pooling: Pooling) -> None:
    unfused = architecture in ("deberta-v2", "modernbert")
    assert built(architecture, pooling)["int8"].is_pruned == (pooling == "first" and not unfused)


@each_architecture
def test_unmasked_mean_pooling_is_one_operator(architecture: str) -> None:
    for proto in (built(architecture, "mean")[precision].proto for precision in ("int8", "fp16")):
        kinds = [node.op_type for node in proto.graph.node]
        assert kinds.count("ReduceMean") == 1
        assert "attention_mask" not in [value.name for value in proto.graph.input]


@each_architecture
def test_int8_mean_pooling_is_batch_invariant(architecture: str) -> None:
    session = open_session(built(architecture, "mean")["int8"].proto)
    for length in (1, 3, 16, LONGEST):
        ids = np.random.default_rng(length).integers(0, VOCABULARY, (16, length))
        alone = np.concatenate([predict_with_graph(session, ids[row : row + 1]) for row in range(16)])
        for batch in (2, 3, 5, 16):
            np.testing.assert_array_equal(predict_with_graph(session, ids[-batch:]), alone[-batch:])


def test_fp16_mean_pooling_does_not_overflow() -> None:
    model = set_pooling(make_classifier("bert"), "mean")
    with torch.no_grad():
        last = model.encoder.encoder.layer[-1].output.LayerNorm
        last.weight.zero_()
        last.bias.fill_(4000.0)  # 40 tokens sum up to 160,000, beyond 65,504
        model.classifier.weight.fill_(1e-5)
    proto, ids = build.build_graphs(model, precisions=["fp16"])["fp16"].proto, random_ids(1, LONGEST)
    np.testing.assert_allclose(predict_with_graph(proto, ids), predict_with_pytorch(model, ids), atol=1e-2)


def test_other_sums_stay_unchanged() -> None:
    """A mean over half of the tokens is not mean pooling; only sums over the mask itself count tokens."""
    base = canonicalize(append_sigmoid(trace(pooled("bert", "mean"))))
    for node in base.graph.node:
        if node.op_type == "Div" and node.output[0].endswith("Div_output_0") and "layer" not in node.output[0]:
            node.input[1] = "another"
    base.graph.initializer.append(build.onnx.numpy_helper.from_array(np.array([[3.0]], np.float32), "another"))
    bare = eliminate_mask(base)
    assert "ReduceMean" not in {node.op_type for node in bare.graph.node}
    np.testing.assert_allclose(
        predict_with_graph(bare, random_ids(2, 5)), predict_with_graph(base, random_ids(2, 5)), atol=1e-6
    )
    fuse_operators(bare, encoder_config(pooled("bert", "mean").config), provider=CPU)


# From training to a bundle


@pytest.fixture(scope="module", params=POOLINGS)
def pooled_run(request: pytest.FixtureRequest, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run of the toy task for each pooling; do not modify it."""
    folder = tmp_path_factory.mktemp("pooled") / str(request.param)
    config = replace(TrainConfig(**toy.RECIPE), pooling=request.param)
    train(toy.dataset(480), folder, model=str(encoder), config=config)
    return folder


def test_pooled_model_learns_and_its_bundle_matches_pytorch(pooled_run: Path, tmp_path: Path) -> None:
    run = read_run(pooled_run)
    assert run.details["recipe"]["pooling"] == pooled_run.name
    assert run.metrics["test"]["tuned"]["macro_average_precision"] > 0.7
    model, missing = checkpoint.load_model(str(pooled_run))
    assert not missing
    assert model.config.pooling == pooled_run.name
    bundle = export(pooled_run, tmp_path / "bundle")
    bundle.verify()
    for precision in ("fp32", "int8"):
        found = Classifier.load(bundle.path, device="cpu", precision=precision)  # type: ignore[arg-type]  # one of them
        found.check_probes()
        assert bundle.manifest.certificate.parity[precision].quality.macro_f1.value == pytest.approx(
            run.metrics["validation"]["tuned"]["macro_f1"], abs=0.03
        )


def test_bundle_config_names_the_encoder_architecture(pooled_run: Path) -> None:
    """The graphs include the pooling; Optimum and others only need sizes and labels."""
    found = portable_config(checkpoint.load_config(str(pooled_run)))
    assert found.model_type == "bert"
    assert checkpoint.read_labels(found) == toy.LABELS
    assert found.problem_type == "multi_label_classification"


def test_warm_start_keeps_head_and_pooling(pooled_run: Path, tmp_path: Path) -> None:
    run = train(toy.dataset(200), tmp_path / "run", start_from=str(pooled_run), config=SHORT)
    assert checkpoint.load_config(str(tmp_path / "run")).pooling == pooled_run.name
    assert run.details["origin"] == {"carried_from": pooled_run.name, "fresh_labels": [], "dropped_labels": []}
    assert run.details["recipe"]["pooling"] == "own"


def test_warm_start_rejects_other_pooling(multiclass: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"keeps the pooling of the head.*--pooling mean"):
        train(toy.dataset(200), tmp_path / "r", start_from=str(multiclass), config=replace(SHORT, pooling="mean"))


def test_interrupted_run_resumes_to_the_same_result(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SHORT, pooling="mean")
    train(toy.dataset(200), tmp_path / "whole", model=str(encoder), config=config)
    seen: list[None] = []

    def die(*_: object, **__: object) -> None:
        seen.append(None)
        if len(seen) > 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "on_evaluate", die)
        with pytest.raises(KeyboardInterrupt):
            train(toy.dataset(200), tmp_path / "run", model=str(encoder), config=config)
    train(toy.dataset(200), tmp_path / "run", model=str(encoder), config=config, resume=True)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "run"))
    assert first == second


def test_unknown_pooling_error() -> None:
    with pytest.raises(InputError, match="pooling is 'max'; expected one of own, first, mean"):
        TrainConfig(pooling="max")  # type: ignore[arg-type]
