"""Export of runs and other checkpoints: a bundle with PyTorch's probabilities, or an error and no output."""

import dataclasses
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers import toy
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from manylabel import Bundle, Classifier
from manylabel.errors import BundleError, CheckpointError, ExportError, LabelMismatch, OutputExists, ParityError
from manylabel.inference.tokenizer import LongText
from manylabel_export.evaluator import require_same_tokens
from manylabel_export.graph import build
from manylabel_export.graph.torch_export import resolve_engine
from manylabel_export.pipeline import export
from manylabel_export.source import PROBES, read_checkpoint_labels
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.training_run import read_run
from manylabel_train.models import checkpoint
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

ENGINES = ("optimum", "torch") if resolve_engine("auto") == "optimum" else ("torch",)
VALIDATION = toy.dataset(180).part("train")


def predict_with_transformers(folder: Path, texts: list[str]) -> np.ndarray:
    """Return PyTorch's probabilities, computed with transformers."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return np.array([model(**tokenizer(text, return_tensors="pt")).logits[0].sigmoid().tolist() for text in texts])


def change_config(folder: Path, **changes: Any) -> Path:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **changes}))
    return folder


# Output


def test_export_run_in_all_precisions(run: Path, run_bundle: Path) -> None:
    bundle = Bundle.open(run_bundle)
    bundle.verify()
    assert list(bundle.variants) == ["fp32", "int8", "fp16"]
    assert bundle.manifest.thresholds_tuned
    assert bundle.manifest.max_length == 32
    np.testing.assert_allclose(bundle.variants["fp32"].thresholds, read_run(run).thresholds, atol=1e-5)
    assert bundle.manifest.metrics == read_run(run).metrics


@pytest.mark.parametrize("engine", ENGINES)
def test_bundle_matches_pytorch(run: Path, tmp_path: Path, engine: str) -> None:
    bundle = export(run, tmp_path / "bundle", engine=engine, precisions=["fp32"])
    texts = [text for text, _ in toy.examples(40, seed=9)]
    probabilities = Classifier.load(bundle.path, device="cpu", precision="fp32").predict_proba(texts)
    np.testing.assert_allclose(probabilities, predict_with_transformers(run, texts), atol=1e-5)
    assert bundle.manifest.source["engine"] == engine
    assert bundle.manifest.certificate.parity["fp32"].max_difference < 1e-5
    assert bundle.manifest.certificate.parity["fp32"].flipped == 0


def test_int8_f1_is_close_to_fp32(run_bundle: Path) -> None:
    parity = Bundle.open(run_bundle).manifest.certificate.parity
    assert parity["int8"].quality.drop < 0.02
    assert parity["fp16"].quality.drop < 0.02


def test_export_external_checkpoint(elsewhere: Path, tmp_path: Path) -> None:
    bundle = export(elsewhere, tmp_path / "bundle", validation=VALIDATION)
    classifier = Classifier.load(bundle.path, device="cpu", precision="fp32")
    texts = [text for text, _ in toy.examples(40, seed=9)]
    np.testing.assert_allclose(classifier.predict_proba(texts), predict_with_transformers(elsewhere, texts), atol=1e-5)
    assert bundle.manifest.thresholds_tuned
    assert bundle.manifest.certificate.texts == len(VALIDATION)
    assert bundle.manifest.metrics == {}


def test_export_without_validation_uses_0_5(elsewhere: Path, tmp_path: Path) -> None:
    bundle = export(elsewhere, tmp_path / "bundle")
    assert not bundle.manifest.thresholds_tuned
    assert bundle.variants["fp32"].thresholds == (0.5,) * 4
    assert bundle.manifest.certificate.texts == len(PROBES)
    assert bundle.manifest.certificate.parity["fp32"].quality is None
    card = (bundle.path / "README.md").read_text()
    assert "every threshold is 0.5" in card
    assert f"on {len(PROBES)} probes texts" in card


def test_validation_labels_are_reordered(elsewhere: Path, tmp_path: Path) -> None:
    turned = VALIDATION.reorder(VALIDATION.labels[::-1])
    ours = export(elsewhere, tmp_path / "a", validation=VALIDATION, precisions=["fp32"])
    theirs = export(elsewhere, tmp_path / "b", validation=turned, precisions=["fp32"])
    assert theirs.labels == toy.LABELS
    assert ours.variants["fp32"] == theirs.variants["fp32"]


def test_vocab_txt_is_exported_as_tokenizer_json(elsewhere: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(elsewhere, tmp_path / "checkpoint"))
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    for name in ("tokenizer.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": False})
    )
    bundle = export(folder, tmp_path / "bundle", precisions=["fp32"])
    texts = [text for text, _ in toy.examples(20, seed=9)]
    probabilities = Classifier.load(bundle.path, device="cpu").predict_proba(texts)
    np.testing.assert_allclose(probabilities, predict_with_transformers(elsewhere, texts), atol=1e-5)


def test_export_labels_with_any_characters(tmp_path: Path) -> None:
    labels = ("user experience", "price, value", 'so-called "quality" | more', "größe 👩‍💻 `<b>`")
    bundle = export(toy.write_checkpoint(tmp_path / "c", labels=labels), tmp_path / "bundle", precisions=["fp32"])
    assert bundle.labels == labels
    assert Classifier.load(bundle.path, device="cpu").classes_.tolist() == list(labels)


@pytest.mark.parametrize("policy", ["window", "truncate", "error"])
def test_long_text_policy_does_not_affect_parity(elsewhere: Path, tmp_path: Path, policy: Any) -> None:
    """Validation texts and probes may be too long for the policy "error"."""
    texts = ("parcel late " * 40, "ok", "the app is slow")
    validation = Dataset.from_matrix(texts, np.eye(3, 4), toy.LABELS)
    bundle = export(elsewhere, tmp_path / "bundle", validation=validation, policy=policy, precisions=["fp32"])
    assert bundle.manifest.long_text == LongText(policy, overlap=2)
    assert "ok" in [probe.text for probe in bundle.manifest.probes]
    Classifier.load(bundle.path, device="cpu").check_probes()


def test_export_with_lone_surrogates(elsewhere: Path, tmp_path: Path) -> None:
    validation = Dataset.from_matrix(["late \ud800 parcel", "nul \0 app", "🎉"], np.eye(3, 4), toy.LABELS)
    assert export(elsewhere, tmp_path / "bundle", validation=validation, precisions=["fp32"]).labels == toy.LABELS


def test_bundle_json_is_strict(run_bundle: Path) -> None:
    assert {path.name for path in toy.every_json(run_bundle)} >= {"bundle.json", "config.json", "tokenizer.json"}


def test_bundle_contains_no_paths_or_user_texts(run: Path, run_bundle: Path, encoder: Path) -> None:
    texts = toy.dataset(720).texts
    for name, content in toy.content(run_bundle).items():
        for place in (run.parent, run_bundle.parent, encoder.parent, Path.home()):
            assert f"{place}/".encode() not in content, (name, place)
        assert not any(text.encode() in content for text in texts), name


def test_manifest_source_has_provenance(run: Path, run_bundle: Path) -> None:
    source = Bundle.open(run_bundle).manifest.source
    assert source["checkpoint"] == "run"
    assert source["origin"] == {"model": "encoder"}
    assert source["recipe"] == read_run(run).details["recipe"]
    assert len(source["validation_sha256"]) == 64
    assert Bundle.open(run_bundle).manifest.certificate.machine.versions["onnxruntime"]


def test_transformers_reads_bundle_tokenizer_and_labels(run: Path, run_bundle: Path) -> None:
    ours, theirs = AutoTokenizer.from_pretrained(run_bundle), AutoTokenizer.from_pretrained(run)
    assert ours("the parcel was late")["input_ids"] == theirs("the parcel was late")["input_ids"]
    settings = json.loads((run_bundle / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] != "TokenizersBackend"  # unknown to transformers 4
    assert read_checkpoint_labels(run_bundle) == toy.LABELS


def test_local_train_and_export_need_no_network(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: touched.append(where) or [])
    train(toy.dataset(160), tmp_path / "run", model=str(encoder), config=TrainConfig(**{**toy.RECIPE, "epochs": 1}))
    export(tmp_path / "run", tmp_path / "bundle", precisions=["fp32"])
    assert touched == []


def test_importing_the_package_imports_no_torch() -> None:
    script = "import sys, manylabel_export; assert 'torch' not in sys.modules; assert callable(manylabel_export.export)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=toy.environment())
    assert done.returncode == 0, done.stderr


# Errors, which leave no output


def check_export_error(error: type[Exception], message: str, folder: Path, tmp_path: Path, **options: Any) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=message):
        export(folder, tmp_path / "bundle", **options)
    assert sorted(tmp_path.iterdir()) == before


def test_multiclass_checkpoint_error_names_train_from(multiclass: Path, tmp_path: Path) -> None:
    message = rf"one label per text \(softmax\).*manylabel train DATA --from {multiclass} --output RUN"
    check_export_error(CheckpointError, message, multiclass, tmp_path)


def test_checkpoint_without_problem_type(tmp_path: Path) -> None:
    folder = toy.write_checkpoint(tmp_path / "c", problem_type=None)
    check_export_error(
        CheckpointError, r'no problem_type.*"problem_type": "multi_label_classification".*--from', folder, tmp_path
    )


def test_encoder_without_head_is_rejected(tmp_path: Path) -> None:
    folder = toy.write_checkpoint(tmp_path / "c", head=False)
    check_export_error(CheckpointError, "encoder without a head.*manylabel train DATA --model", folder, tmp_path)


def test_head_size_must_match_id2label(tmp_path: Path) -> None:
    folder = change_config(
        toy.write_checkpoint(tmp_path / "c"), id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1}
    )
    check_export_error(CheckpointError, "its head is not for 2 labels", folder, tmp_path)


def test_validation_with_other_labels_is_rejected(elsewhere: Path, tmp_path: Path) -> None:
    five = Dataset.from_matrix(["x"], [[0, 1, 0, 1, 0]], [*toy.LABELS, "returns"])
    check_export_error(
        LabelMismatch, "has 4 labels and the data 5; only the data has 'returns'", elsewhere, tmp_path, validation=five
    )


@pytest.mark.parametrize(("name", "message"), [("absent", "there is no folder"), ("empty", "is not a checkpoint")])
def test_folder_without_checkpoint_is_rejected(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    check_export_error(CheckpointError, message, tmp_path / name, tmp_path)


def test_run_with_inconsistent_parts_is_rejected(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**content, "labels": content["labels"][::-1]}))
    check_export_error(CheckpointError, "not the same in the same order", folder, tmp_path)


def test_unknown_precision_or_engine_is_rejected(elsewhere: Path, tmp_path: Path) -> None:
    check_export_error(ExportError, "int4", elsewhere, tmp_path, precisions=["int4"])
    check_export_error(ExportError, "tvm", elsewhere, tmp_path, engine="tvm")


def test_an_existing_output_is_not_overwritten(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "precious").write_text("mine")
    with pytest.raises(OutputExists, match="--force"):
        export(elsewhere, tmp_path / "bundle")
    assert toy.content(tmp_path) == {"bundle/precious": b"mine"}
    export(elsewhere, tmp_path / "bundle", force=True, precisions=["fp32"])
    Bundle.open(tmp_path / "bundle").verify()


def test_parity_failure_writes_nothing(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, _ = checkpoint.load_model(str(elsewhere))
    other.classifier.bias.data[1] += 0.01
    graphs = build.build_graphs(other, precisions=["fp32"])
    monkeypatch.setattr(build, "iter_graphs", lambda *_, **__: graphs.values())
    with pytest.raises(ParityError, match=r"'delivery'.*on the text ") as caught:
        export(elsewhere, tmp_path / "bundle", validation=VALIDATION, force=True)
    assert any(repr(text) in str(caught.value) for text in VALIDATION.texts)
    assert list(tmp_path.iterdir()) == []


def test_failed_export_keeps_the_old_bundle(
    elsewhere: Path, run_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Path(shutil.copytree(run_bundle, tmp_path / "bundle"))
    before = toy.content(old)
    monkeypatch.setattr(Classifier, "check_probes", lambda self: (_ for _ in ()).throw(BundleError("probes")))
    with pytest.raises(BundleError, match="probes"):
        export(elsewhere, old, force=True, precisions=["fp32"])
    assert toy.content(old) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_token_mismatch_error_names_the_text(elsewhere: Path) -> None:
    tokenizer = checkpoint.load_tokenizer(str(elsewhere))
    encodings = checkpoint.to_runtime_tokenizer(tokenizer, 32, LongText(overlap=2)).encode(["ok", "the parcel"])
    require_same_tokens(["ok", "the parcel"], tokenizer, encodings)
    wrong = dataclasses.replace(encodings[1], windows=(encodings[1].windows[0] + 1,))
    with pytest.raises(ParityError, match="'the parcel'"):
        require_same_tokens(["ok", "the parcel"], tokenizer, [encodings[0], wrong])
