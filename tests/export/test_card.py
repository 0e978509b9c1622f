"""The model card: complete, and whole whatever labels are called."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from manylabel import Bundle
from manylabel.manifest import Manifest
from manylabel_export.card import model_card

AWKWARD = ("a | b", "`code`", "*bold*", "<b>", "[x](y)", "back\\slash", "new\nline", "price_")


def rows_of(card: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading, split where Markdown would."""
    lines = card.split(f"## {heading}")[1].split("\n## ")[0].splitlines()
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]


def renamed(manifest: Manifest, label: str) -> Manifest:
    """The manifest with another name for its first label."""
    certificate = manifest.certificate
    parity = {
        name: replace(one, labels={label: one.labels[manifest.labels[0]], **one.labels})
        for name, one in certificate.parity.items()
    }
    labels = (label, *manifest.labels[1:])
    return replace(manifest, labels=labels, certificate=replace(certificate, parity=parity))


def test_what_a_reader_looks_for(run_bundle: Path) -> None:
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


def test_figures_are_the_manifest_s(run_bundle: Path) -> None:
    manifest = Bundle.open(run_bundle).manifest
    card = (run_bundle / "README.md").read_text(encoding="utf-8")
    for row in rows_of(card, "Variants")[2:]:
        parity = manifest.certificate.parity[row[0].strip()]
        assert f"{parity.max_difference:.1e}" in row[2]
        assert f"{parity.quality.macro_f1.value:.4f}" in row[9]


@pytest.mark.parametrize("label", AWKWARD)
def test_a_label_stays_in_its_cell(run_bundle: Path, label: str) -> None:
    manifest = renamed(Bundle.open(run_bundle).manifest, label)
    rows = rows_of(model_card(manifest, "bundle"), "Labels")
    assert {len(row) for row in rows} == {4}
    assert len(rows) == 2 + 4
    shown = re.sub(r"\\(.)", r"\1", rows[2][0]).strip()
    assert shown == " ".join(label.split())


def test_a_bundle_s_name_with_quotes_stays_code(run_bundle: Path) -> None:
    card = model_card(Bundle.open(run_bundle).manifest, 'my "best"')
    assert 'Classifier.load("my \\"best\\"")' in card
