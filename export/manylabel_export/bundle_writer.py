"""The bundle writer: write all files, load the result, check its probes, and only then move it to its place."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from manylabel.errors import missing_extra

if find_spec("transformers") is None:
    raise missing_extra("export", "transformers")

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from manylabel.bundle.bundle import CARD, MANIFEST, TOKENIZER, WEIGHTS, Bundle, Manifest, record_files
from manylabel.classifier import Classifier
from manylabel.system.atomic_write import atomic_folder
from manylabel_export.card.model_card import render_model_card
from manylabel_export.graph.build import Graph
from manylabel_export.graph.ir.serialization import write_model
from manylabel_train.models.pooling import portable_config
from manylabel_train.reporting.html_report import REPORT_FILE

TOKENIZER_FILES = (TOKENIZER, "tokenizer_config.json", "special_tokens_map.json")
"""The runtime reads only the first; with the others transformers, Optimum and transformers.js can open the bundle."""

LOCAL_SETTINGS = ("is_local", "local_files_only", "name_or_path", "tokenizer_file", "vocab_file", "merges_file")
"""Tokenizer settings that name files of this machine."""


@dataclass(frozen=True)
class BundleContent:
    """What a bundle is written from.

    Attributes:
        manifest: The manifest without its list of files.
        graphs: The graphs of the variants by file name.
        model: The model, whose configuration is written.
        tokenizer: The tokenizer, which is written without padding and truncation.
        report: The content of `report.html`; it contains no user's text.
        files: Further files by name.
    """

    manifest: Manifest
    graphs: Mapping[str, Graph]
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    report: str
    files: Mapping[str, bytes]


def write_bundle(output: Path, content: BundleContent, *, limit: int, force: bool) -> Bundle:
    """Write a bundle atomically, after loading it and checking its probes.

    Args:
        output: The bundle's folder.
        content: What is written.
        limit: Largest size of the weights inside a graph, in bytes; larger weights go into a second file.
        force: Replace an existing output.
    """
    with atomic_folder(output, force=force) as folder:
        for name, graph in content.graphs.items():
            write_model(graph.proto, folder / name, weights_name=name + WEIGHTS, limit=limit)
        for name, data in content.files.items():
            (folder / name).write_bytes(data)
        portable_config(content.model.config).to_json_file(folder / "config.json", use_diff=True)
        _write_tokenizer(folder, content.tokenizer, content.manifest.max_length)
        (folder / CARD).write_text(render_model_card(content.manifest, output.name), encoding="utf-8")
        (folder / REPORT_FILE).write_text(content.report, encoding="utf-8", errors="replace")
        manifest = replace(content.manifest, files=record_files(folder))
        (folder / MANIFEST).write_bytes(manifest.to_bytes())
        _check_probes(folder, manifest)
    return Bundle.open(output)


def _check_probes(folder: Path, manifest: Manifest) -> None:
    for variant in manifest.variants:
        if "CPUExecutionProvider" in variant.providers:
            precision: Any = variant.precision
            Classifier.load(folder, device="cpu", precision=precision).check_probes()


def _write_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
    """Write a tokenizer's files without padding and truncation, which the runtime does itself."""
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
    """Remove settings that are specific to this machine or to this version of transformers."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    for name in LOCAL_SETTINGS:
        settings.pop(name, None)
    if settings.get("tokenizer_class") == "TokenizersBackend":  # only transformers 5 knows this name
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
