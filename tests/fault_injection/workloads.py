"""Scoring, training and exporting as work that may be killed: how each goes on, and what would be wrong.

Each has a careless twin, the control: the same work by somebody who writes in place, and who takes what lies there for
whole.
"""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from manylabel import Bundle, Classifier
from manylabel.cli.main import main as manylabel
from manylabel.errors import ManylabelError
from manylabel.scoring.job import RECORDS
from manylabel_export import bundle_writer as bundling
from manylabel_train.data.training_run import read_run
from manylabel_train.training import checkpoints
from manylabel_train.training import train as training
from manylabel_train.training.checkpoints import (
    CHECKPOINTS,
    PLAN_FILE,
    is_complete,
    last_checkpoint,
    list_checkpoints,
    partial_run_folder,
    read_step,
)

EPOCHS = 4
SHARD_ROWS = 200
ALL = 1 << 30


class Work(ABC):
    """A command that is started again and again in a folder of its own until it is done.

    Args:
        whole: Where a run lies that nothing happened to, once it is needed.
    """

    name: str
    twin: str
    """What the careless way does otherwise."""

    def __init__(self, whole: Path) -> None:
        self._whole = whole

    def prepare(self, place: Path) -> None:
        """What lies in a folder before the first start."""

    @abstractmethod
    def arguments(self, place: Path) -> Sequence[object]:
        """The command that begins, or goes on."""

    @abstractmethod
    def careless(self) -> None:
        """Make the process that calls it work as the twin does."""

    @abstractmethod
    def done(self, place: Path) -> bool:
        """Whether the output is there, so that a user would take the work for done."""

    @abstractmethod
    def kept(self, place: Path) -> int:
        """How much need not be done again, in any unit."""

    @abstractmethod
    def half_written(self, place: Path) -> bool:
        """Whether something lies there that is only half there."""

    @abstractmethod
    def fault(self, place: Path) -> str:
        """What is wrong with the output, if one is there."""


class Scoring(Work):
    """Rows of JSON lines into one file."""

    name, twin = "scoring", "appends lines, and goes on after the last"

    def __init__(self, whole: Path, bundle: Path, rows: Path) -> None:
        super().__init__(whole)
        self._bundle, self._rows = bundle, rows

    def arguments(self, place: Path) -> Sequence[object]:
        """The same each time."""
        options = ("--device", "cpu", "--threads", 1, "--shard-rows", SHARD_ROWS)
        return ["score", self._bundle, self._rows, "--output", place / "out.jsonl", *options]

    def careless(self) -> None:
        """By a scorer of a few lines."""
        from manylabel.scoring import cli

        # A name that the module imported, not one that it offers; the same below.
        cli.run = append_rows  # type: ignore[attr-defined,assignment]

    def done(self, place: Path) -> bool:
        """Its file is there."""
        return (place / "out.jsonl").exists()

    def kept(self, place: Path) -> int:
        """Parts that are committed."""
        return ALL if self.done(place) else len([*(place / ".out.jsonl.parts" / RECORDS).glob("part-*.json")])

    def half_written(self, place: Path) -> bool:
        """A part or a record lies under its temporary name."""
        return any(path.name.endswith(".tmp") for path in place.rglob(".*"))

    def fault(self, place: Path) -> str:
        """Rows that are half, missing, doubled or answered otherwise."""
        try:
            found, expected = (_answers(folder / "out.jsonl") for folder in (place, self._whole))
        except ValueError:
            return "half a row"
        return "" if found == expected else "other rows than those of a run that nothing happened to"


def _answers(path: Path) -> list[tuple[int, list[str]]]:
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [(row["id"], row["labels"]) for row in rows]


def append_rows(request: Any, progress: object = None) -> dict[str, int]:
    """The careless way to score a file: whatever lines are there are done."""
    classifier = Classifier.load(request.bundle, device="cpu", threads=1)
    output, (given,) = Path(request.output), request.inputs
    there = output.read_bytes().count(b"\n") if output.exists() else 0
    with open(given, encoding="utf-8") as source, output.open("a", encoding="utf-8") as sink:
        rows = [json.loads(line) for line in islice(source, there, None)]
        for row, found in zip(rows, classifier.stream(row["text"] for row in rows), strict=True):
            sink.write(json.dumps(row | {"labels": found.labels}) + "\n")
    return {"rows": len(rows), "errors": 0}


class Training(Work):
    """A tiny encoder, a checkpoint an epoch."""

    name, twin = "training", "takes every checkpoint for whole, and writes the run in place"

    def __init__(self, whole: Path, data: Path, encoder: Path) -> None:
        super().__init__(whole)
        self._data, self._encoder = data, encoder

    def arguments(self, place: Path) -> Sequence[object]:
        """With `--resume` once it is begun."""
        begun = (partial_run_folder(place / "run") / PLAN_FILE).exists()
        recipe = ("--epochs", EPOCHS, "--patience", EPOCHS, "--learning-rate", "1e-3", "--train-precision", "fp32")
        options = (*recipe, *(["--resume"] if begun else []))
        return ["train", self._data, "--model", self._encoder, "--output", place / "run", *options]

    def careless(self) -> None:
        """Nothing is looked at, and nothing renamed."""
        checkpoints.is_complete = lambda checkpoint: True
        training.atomic_folder = in_place  # type: ignore[attr-defined]

    def done(self, place: Path) -> bool:
        """Its folder is there."""
        return (place / "run").exists()

    def kept(self, place: Path) -> int:
        """Steps of the last whole checkpoint."""
        last = last_checkpoint(self._checkpoints(place))
        return ALL if self.done(place) else read_step(last) if last else 0

    def half_written(self, place: Path) -> bool:
        """Half a checkpoint, or the run under its temporary name."""
        halves = [path for path in list_checkpoints(self._checkpoints(place)) if not is_complete(path)]
        return bool(halves) or (place / ".run.new").exists()

    def fault(self, place: Path) -> str:
        """Files that are missing; other weights, thresholds or figures."""
        run, whole = place / "run", self._whole / "run"
        if missing := {path.name for path in whole.iterdir()} - {path.name for path in run.iterdir()}:
            return f"without {', '.join(sorted(missing))}"
        for name in ("model.safetensors", "validation.jsonl", "config.json", "tokenizer.json"):
            if (run / name).read_bytes() != (whole / name).read_bytes():
                return f"another {name} than that of a run that nothing happened to"
        found, expected = read_run(run), read_run(whole)  # the files hold times, too
        same = (found.thresholds, found.metrics) == (expected.thresholds, expected.metrics)
        return "" if same else "other figures than those of a run that nothing happened to"

    @staticmethod
    def _checkpoints(place: Path) -> Path:
        return partial_run_folder(place / "run") / CHECKPOINTS


class Exporting(Work):
    """A run's fp32 and int8, in an older bundle's place."""

    name, twin = "exporting", "writes the bundle in place"

    def __init__(self, whole: Path, run: Path, old: Path) -> None:
        super().__init__(whole)
        self._run, self._old = run, old

    def prepare(self, place: Path) -> None:
        """The old bundle."""
        shutil.copytree(self._old, place / "bundle")

    def arguments(self, place: Path) -> Sequence[object]:
        """The same each time."""
        return export_arguments(self._run, place / "bundle", "fp32", "int8")

    def careless(self) -> None:
        """The folder is filled where it lies."""
        bundling.atomic_folder = in_place  # type: ignore[attr-defined]

    def done(self, place: Path) -> bool:
        """The old bundle is no longer there, and something is."""
        return (place / "bundle").exists() and _digest(place / "bundle") != _digest(self._old)

    def kept(self, place: Path) -> int:
        """Nothing: an export begins anew."""
        return 0

    def half_written(self, place: Path) -> bool:
        """The new or the old bundle lies under its temporary name."""
        return any((place / f".bundle.{name}").exists() for name in ("new", "old"))

    def fault(self, place: Path) -> str:
        """What `verify` says, or a bundle that nobody has made."""
        if not (place / "bundle").exists():
            return ""
        done = CliRunner().invoke(manylabel, ["verify", str(place / "bundle"), "--device", "cpu", "--threads", "1"])
        if done.exit_code:
            return done.stderr.strip()
        known = {_digest(self._old), _digest(self._whole / "bundle")}
        return "" if _digest(place / "bundle") in known else "neither the old bundle nor the new one"


def _digest(bundle: Path) -> str:
    try:
        return Bundle.open(bundle).digest
    except ManylabelError:
        return "none"


def export_arguments(run: Path, output: Path, *precisions: str) -> Sequence[object]:
    """What exports a tiny run, whose int8 may differ as it will."""
    chosen = [word for name in precisions for word in ("--precision", name)]
    return ["export", run, "--output", output, *chosen, "--max-flips", 1, "--max-f1-drop", 1, "--force"]


@contextmanager
def in_place(target: Path, *, force: bool = False) -> Iterator[Path]:
    """The careless way to write a folder."""
    if force:
        shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    yield target
