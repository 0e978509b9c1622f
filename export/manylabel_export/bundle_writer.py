"""Writes the bundle: all of it, or nothing."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from manylabel.bundle.bundle import CARD, MANIFEST, TOKENIZER, WEIGHTS, Bundle, Manifest, record_files
from manylabel.classifier import Classifier
from manylabel.system.atomic_write import atomic_folder
from manylabel_export.card.model_card import model_card
from manylabel_export.graph.build import Graph, write
from manylabel_train.models.pooling import portable_config
from manylabel_train.reporting.report import REPORT_FILE

TOKENIZER_FILES = (TOKENIZER, "tokenizer_config.json", "special_tokens_map.json")
"""The runtime reads the first alone; the others let transformers, Optimum and transformers.js open the bundle."""

LOCAL_SETTINGS = ("is_local", "local_files_only", "name_or_path", "tokenizer_file", "vocab_file", "merges_file")


def write_bundle(
    output: Path,
    manifest: Manifest,
    graphs: Mapping[str, Graph],
    files: Mapping[str, bytes],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    report: str,
    limit: int,
    force: bool,
) -> Bundle:
    """Write a bundle, load what was written, check its probes, and only then give it its name.

    Args:
        output: The bundle's folder.
        manifest: All but the list of files.
        graphs: Of the variants, by file name.
        files: What else goes with the bundle, by name.
        model: Its configuration goes with the bundle.
        tokenizer: Goes with the bundle, free of padding and truncation.
        report: The page that shows how good the model is; it holds no user's text.
        limit: Bytes of weights that a graph may hold; beyond, a file beside it has them.
        force: Replace an existing output.
    """
    with atomic_folder(output, force=force) as folder:
        for name, made in graphs.items():
            write(made.proto, folder / name, beside=name + WEIGHTS, limit=limit)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        portable_config(model.config).to_json_file(folder / "config.json", use_diff=True)
        _write_tokenizer(folder, tokenizer, manifest.max_length)
        (folder / CARD).write_text(model_card(manifest, output.name), encoding="utf-8")
        (folder / REPORT_FILE).write_text(report, encoding="utf-8", errors="replace")
        manifest = replace(manifest, files=record_files(folder))
        (folder / MANIFEST).write_bytes(manifest.to_bytes())
        _check_probes(folder, manifest)
    return Bundle.open(output)


def _check_probes(folder: Path, manifest: Manifest) -> None:
    for variant in manifest.variants:
        if "CPUExecutionProvider" in variant.providers:
            precision: Any = variant.precision
            Classifier.load(folder, device="cpu", precision=precision).check_probes()


def _write_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
    plain = deepcopy(tokenizer)
    plain.backend_tokenizer.no_padding()
    plain.backend_tokenizer.no_truncation()
    plain.model_max_length = max_length
    with TemporaryDirectory() as scratch:
        plain.save_pretrained(scratch)
        for name in TOKENIZER_FILES:
            if (Path(scratch) / name).exists():
                (folder / name).write_bytes((Path(scratch) / name).read_bytes())
    _make_portable(folder / "tokenizer_config.json")


def _make_portable(path: Path) -> None:
    """Keep out what only the machine or the version of transformers that wrote it understands."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in LOCAL_SETTINGS:
        content.pop(name, None)
    if (
        content.get("tokenizer_class") == "TokenizersBackend"
    ):  # transformers 5; 4 and transformers.js know the older name
        content["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
