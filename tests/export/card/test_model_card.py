"""The model card: complete, and valid Markdown and YAML with any names."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from manylabel import Bundle
from manylabel.bundle.manifest import Manifest
from manylabel_export.card.model_card import render_model_card

AWKWARD = ("a | b", "`code`", "*bold*", "<b>", "[x](y)", "back\\slash", "new\nline", "price_")


def rows_of(card: str, heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, split as Markdown does."""
    lines = card.split(f"## {heading}")[1].split("\n## ")[0].splitlines()
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]


def renamed(manifest: Manifest, label: str) -> Manifest:
    """Return the manifest with another name for its first label."""
    certificate = manifest.certificate
    parity = {
        name: replace(one, labels={label: one.labels[manifest.labels[0]], **one.labels})
        for name, one in certificate.parity.items()
    }
    labels = (label, *manifest.labels[1:])
    return replace(manifest, labels=labels, certificate=replace(certificate, parity=parity))


def test_card_has_the_expected_sections(run_bundle: Path) -> None:
    manifest = Bundle.open(run_bundle).manifest
    card = (run_bundle / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: manylabel\n")
    assert "Made from `encoder`" in card
    assert "tuned for F1 on validation data" in card
    assert f"on {manifest.certificate.texts} validation texts" in card
    assert [row[0].strip() for row in rows_of(card, "Labels")[2:]] == list(manifest.labels)
    assert [row[0].strip() for row in rows_of(card, "Variants")[2:]] == ["fp32", "int8", "fp16"]
    assert {row[0].strip().replace("\\", "") for row in rows_of(card, "Test split")} >= {"micro_f1", "macro_f1"}
    assert 'Classifier.load("bundle")' in card


def test_card_figures_match_the_manifest(run_bundle: Path) -> None:
    manifest = Bundle.open(run_bundle).manifest
    card = (run_bundle / "README.md").read_text(encoding="utf-8")
    for row in rows_of(card, "Variants")[2:]:
        parity = manifest.certificate.parity[row[0].strip()]
        assert f"{parity.max_difference:.1e}" in row[2]
        assert f"{parity.quality.macro_f1.value:.4f}" in row[9]


@pytest.mark.parametrize("label", AWKWARD)
def test_label_is_escaped_in_tables(run_bundle: Path, label: str) -> None:
    manifest = renamed(Bundle.open(run_bundle).manifest, label)
    rows = rows_of(render_model_card(manifest, "bundle"), "Labels")
    assert {len(row) for row in rows} == {4}
    assert len(rows) == 2 + 4
    shown = re.sub(r"\\(.)", r"\1", rows[2][0]).strip()
    assert shown == " ".join(label.split())


def test_bundle_name_with_quotes_is_escaped(run_bundle: Path) -> None:
    card = render_model_card(Bundle.open(run_bundle).manifest, 'my "best"')
    assert 'Classifier.load("my \\"best\\"")' in card


# Metadata for the Hub


def test_card_metadata_has_test_split_figures(run_bundle: Path) -> None:
    manifest = Bundle.open(run_bundle).manifest
    data = ModelCard.load(run_bundle / "README.md").data  # raises for an invalid model index
    assert (data.library_name, data.pipeline_tag, data.model_name) == ("manylabel", "text-classification", "bundle")
    assert {"multi-label", "onnx"} <= set(data.tags)
    results = {each.metric_name: each for each in data.eval_results}
    tuned = manifest.metrics["test"]["tuned"]
    assert results["micro-F1"].metric_value == tuned["micro_f1"]
    assert results["macro-F1"].metric_value == tuned["macro_f1"]
    assert {each.dataset_split for each in data.eval_results} == {"test"}
    assert {each.dataset_name for each in data.eval_results} == {f"{manifest.metrics['test']['texts']} test texts"}
    assert {each.dataset_revision for each in data.eval_results} == {manifest.source["data"]["sha256"]}


def test_card_metadata_without_test_split_has_a_note(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    results = ModelCard.load(bundle / "README.md").data.eval_results
    assert {each.dataset_name for each in results} == {"60 validation texts, which the thresholds were selected on"}
    assert [each.metric_value for each in results] == [
        manifest.certificate.parity["fp32"].quality.micro_f1.value,  # type: ignore[union-attr]  # it was measured
        manifest.certificate.parity["fp32"].quality.macro_f1.value,  # type: ignore[union-attr]
    ]


@pytest.mark.parametrize(
    "name", ["a: b", '"quoted"', "- [x] {y}", "#", "null", "0.10", "grün \U0001f600", "line\nend\x85\x7f"]
)
def test_card_metadata_for_any_bundle_name(run_bundle: Path, name: str) -> None:
    card = ModelCard(render_model_card(Bundle.open(run_bundle).manifest, name))
    assert card.data.model_name == name
    assert len(card.data.eval_results) == 6


def test_card_without_figures_has_no_model_index(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    parity = {name: replace(each, quality=None) for name, each in manifest.certificate.parity.items()}
    bare = replace(manifest, certificate=replace(manifest.certificate, parity=parity))
    assert ModelCard(render_model_card(bare, "bundle")).data.eval_results is None
