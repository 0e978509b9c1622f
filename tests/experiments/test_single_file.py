"""The single-file experiment counts texts that are tokenised or classified differently."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.helpers import toy

from experiments.single_file import run
from manylabel_export.pipeline import export
from manylabel_train.data.dataset import Dataset

pytest.importorskip("onnxruntime_extensions")


def test_single_file_counts_texts_and_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "list_characters", lambda: [f"a{chr(code)}b" for code in range(1, 700)])
    targets = np.random.default_rng(0).integers(0, 2, (len(toy.TEXTS), len(toy.LABELS)))
    checkpoint = toy.write_checkpoint(tmp_path / "checkpoint")
    path = checkpoint / "tokenizer.json"  # the ready-made tokenizer asks for [MASK]
    path.write_text(path.read_text(encoding="utf-8").replace('"kaputt"', '"[MASK]"'), encoding="utf-8")
    bundle = export(
        checkpoint,
        tmp_path / "bundle",
        validation=Dataset.from_matrix(toy.TEXTS, targets, toy.LABELS),
        precisions=["int8"],
        single_file=True,
    )
    (tmp_path / "data.csv").write_text("text\n" + "\n".join([*toy.TEXTS[:20], "ok\u200b", "spät🎉"]), encoding="utf-8")
    arguments = [bundle.path, "--data", tmp_path / "data.csv", "--output", tmp_path / "result", "--title", "Tiny"]
    done = CliRunner().invoke(run.main, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    ours, theirs = result["tokenizers"].values()
    assert ours["data"] == {"texts": 22, "differ": 0, "first": []}
    assert ours["characters"] == {"texts": 699, "differ": 0, "first": []}
    assert theirs["characters"]["differ"] > 0
    assert result["answers"]["labels_differ"] == 0
    assert (tmp_path / "result" / "README.md").read_text().startswith("# Tiny\n")
