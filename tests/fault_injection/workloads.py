"""The commands that are killed: scoring, training and exporting, how each resumes, and how a faulty output is found.

Each has a naive version as its control, which writes in place and assumes that existing files are complete.
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
from tests.helpers import toy

from manylabel import Bundle, Classifier
from manylabel.cli.main import main as manylabel
from manylabel.errors import ManylabelError
from manylabel.scoring.job import RECORDS
from manylabel_export import bundle_writer
from manylabel_train.data.training_run import read_run
from manylabel_train.training import checkpoints, train
from manylabel_train.training.checkpoints import (
    CHECKPOINTS,
    PLAN_FILE,
    is_complete,
    last_checkpoint,
    list_checkpoints,
    partial_run_folder,
    read_step,
)

TRAINING_TEXTS, SCORED_ROWS = 140, 6_000
"""Few enough that a run takes about a second."""
EPOCHS = 4
SHARD_ROWS = 200
EVERYTHING = 1 << 30
"""The progress of a finished command."""


class KillableCommand(ABC):
    """A command that is started in a folder of its own, again and again, until it is done.

    Args:
        reference: The folder of a run that was never killed, for comparison.
    """

    name: str
    naive_version: str
    """What the naive version does differently."""

    def __init__(self, reference: Path) -> None:
        self._reference = reference

    def prepare(self, folder: Path) -> None:  # noqa: B027 - most commands start in an empty folder
        """Write what is in the folder before the first start."""

    @abstractmethod
    def arguments(self, folder: Path) -> Sequence[object]:
        """Return the arguments of `manylabel` that start or resume the command."""

    @abstractmethod
    def install_naive_version(self) -> None:
        """Replace the implementation by the naive version, in the calling process."""

    @abstractmethod
    def is_done(self, folder: Path) -> bool:
        """Return whether the output exists, so that a user would believe that the command has finished."""

    @abstractmethod
    def progress(self, folder: Path) -> int:
        """Return how much work a restart need not repeat, in any unit."""

    @abstractmethod
    def has_partial_output(self, folder: Path) -> bool:
        """Return whether something in the folder is only partly written."""

    @abstractmethod
    def find_fault(self, folder: Path) -> str:
        """Return what is wrong with the output; an empty string if nothing is, or if there is no output."""


class ScoringCommand(KillableCommand):
    """Scores rows of JSON lines into one file."""

    name, naive_version = "scoring", "appends lines, and resumes after the last line"

    def __init__(self, reference: Path, bundle: Path, rows: Path) -> None:
        super().__init__(reference)
        self._bundle, self._rows = bundle, rows

    def arguments(self, folder: Path) -> Sequence[object]:
        """Return the same arguments every time."""
        options = ("--device", "cpu", "--threads", 1, "--shard-rows", SHARD_ROWS)
        return ["score", self._bundle, self._rows, "--output", folder / "out.jsonl", *options]

    def install_naive_version(self) -> None:
        """Score with a few lines that append to the output."""
        from manylabel.scoring import cli

        cli.score_files = append_rows  # type: ignore[attr-defined,assignment]

    def is_done(self, folder: Path) -> bool:
        """Return whether the output file exists."""
        return (folder / "out.jsonl").exists()

    def progress(self, folder: Path) -> int:
        """Count the committed parts."""
        records = folder / ".out.jsonl.parts" / RECORDS
        return EVERYTHING if self.is_done(folder) else len([*records.glob("part-*.json")])

    def has_partial_output(self, folder: Path) -> bool:
        """Return whether a part or a record has its temporary name."""
        return any(path.name.endswith(".tmp") for path in folder.rglob(".*"))

    def find_fault(self, folder: Path) -> str:
        """Compare the rows with those of the reference run."""
        try:
            rows, expected = (_read_labels(each / "out.jsonl") for each in (folder, self._reference))
        except ValueError:
            return "a partial row"
        return "" if rows == expected else "rows that differ from those of an uninterrupted run"


def _read_labels(path: Path) -> list[tuple[int, list[str]]]:
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [(row["id"], row["labels"]) for row in rows]


def append_rows(request: Any, progress: object = None) -> dict[str, int]:
    """Score a file naively: existing lines count as done."""
    classifier = Classifier.load(request.bundle, device="cpu", threads=1)
    output, (source,) = Path(request.output), request.inputs
    done = output.read_bytes().count(b"\n") if output.exists() else 0
    with open(source, encoding="utf-8") as file, output.open("a", encoding="utf-8") as sink:
        rows = [json.loads(line) for line in islice(file, done, None)]
        for row, prediction in zip(rows, classifier.stream(row["text"] for row in rows), strict=True):
            sink.write(json.dumps(row | {"labels": prediction.labels}) + "\n")
    return {"rows": len(rows), "errors": 0}


class TrainingCommand(KillableCommand):
    """Trains a toy encoder with one checkpoint per epoch."""

    name, naive_version = "training", "takes every checkpoint for complete, and writes the run in place"

    def __init__(self, reference: Path, data: Path, encoder: Path) -> None:
        super().__init__(reference)
        self._data, self._encoder = data, encoder

    def arguments(self, folder: Path) -> Sequence[object]:
        """Return the arguments, with `--resume` once the run has started."""
        started = (partial_run_folder(folder / "run") / PLAN_FILE).exists()
        options = ["--epochs", EPOCHS, "--patience", EPOCHS, "--learning-rate", "1e-3", "--train-precision", "fp32"]
        options += ["--resume"] if started else []
        return ["train", self._data, "--model", self._encoder, "--output", folder / "run", *options]

    def install_naive_version(self) -> None:
        """Disable the checks of checkpoints and all renaming."""
        checkpoints.is_complete = lambda checkpoint: True
        train.atomic_folder = write_in_place  # type: ignore[attr-defined]

    def is_done(self, folder: Path) -> bool:
        """Return whether the run's folder exists."""
        return (folder / "run").exists()

    def progress(self, folder: Path) -> int:
        """Return the step of the last complete checkpoint."""
        last = last_checkpoint(self._checkpoints(folder))
        return EVERYTHING if self.is_done(folder) else read_step(last) if last else 0

    def has_partial_output(self, folder: Path) -> bool:
        """Return whether a checkpoint is incomplete, or the run has its temporary name."""
        incomplete = [path for path in list_checkpoints(self._checkpoints(folder)) if not is_complete(path)]
        return bool(incomplete) or (folder / ".run.new").exists()

    def find_fault(self, folder: Path) -> str:
        """Compare files, weights, thresholds and metrics with those of the reference run."""
        run, reference = folder / "run", self._reference / "run"
        if missing := {path.name for path in reference.iterdir()} - {path.name for path in run.iterdir()}:
            return f"without {', '.join(sorted(missing))}"
        for name in ("model.safetensors", "validation.jsonl", "config.json", "tokenizer.json"):
            if (run / name).read_bytes() != (reference / name).read_bytes():
                return f"{name} differs from that of an uninterrupted run"
        details, expected = read_run(run), read_run(reference)  # run.json contains times, so its bytes differ
        same = (details.thresholds, details.metrics) == (expected.thresholds, expected.metrics)
        return "" if same else "figures that differ from those of an uninterrupted run"

    @staticmethod
    def _checkpoints(folder: Path) -> Path:
        return partial_run_folder(folder / "run") / CHECKPOINTS


class ExportCommand(KillableCommand):
    """Exports a run in fp32 and int8, replacing an older bundle."""

    name, naive_version = "exporting", "writes the bundle in place"

    def __init__(self, reference: Path, run: Path, old: Path) -> None:
        super().__init__(reference)
        self._run, self._old = run, old

    def prepare(self, folder: Path) -> None:
        """Copy the old bundle."""
        shutil.copytree(self._old, folder / "bundle")

    def arguments(self, folder: Path) -> Sequence[object]:
        """Return the same arguments every time."""
        return export_arguments(self._run, folder / "bundle", "fp32", "int8")

    def install_naive_version(self) -> None:
        """Write the bundle into its final folder."""
        bundle_writer.atomic_folder = write_in_place  # type: ignore[attr-defined]

    def is_done(self, folder: Path) -> bool:
        """Return whether there is a bundle other than the old one."""
        return (folder / "bundle").exists() and _digest(folder / "bundle") != _digest(self._old)

    def progress(self, folder: Path) -> int:
        """Return 0: an export does not resume."""
        return 0

    def has_partial_output(self, folder: Path) -> bool:
        """Return whether the new or the old bundle has its temporary name."""
        return any((folder / f".bundle.{name}").exists() for name in ("new", "old"))

    def find_fault(self, folder: Path) -> str:
        """Return the error of `verify`, or that the bundle is neither the old nor the new one."""
        if not (folder / "bundle").exists():
            return ""
        done = CliRunner().invoke(manylabel, ["verify", str(folder / "bundle"), "--device", "cpu", "--threads", "1"])
        if done.exit_code:
            return done.stderr.strip()
        known = {_digest(self._old), _digest(self._reference / "bundle")}
        return "" if _digest(folder / "bundle") in known else "neither the old bundle nor the new one"


def write_inputs(folder: Path) -> tuple[Path, Path, Path]:
    """Write labelled texts, an untrained encoder, and rows to score.

    Returns:
        The CSV file, the encoder's folder, and the JSON lines.
    """
    folder.mkdir(parents=True)
    data = toy.write_csv(folder / "data.csv", toy.dataset(TRAINING_TEXTS, per_split=TRAINING_TEXTS // 4))
    encoder = toy.write_encoder(folder / "encoder")
    rows = folder / "rows.jsonl"
    texts = [text for text, _ in toy.examples(TRAINING_TEXTS)]
    with rows.open("w", encoding="utf-8") as file:
        for row in range(SCORED_ROWS):
            file.write(json.dumps({"id": row, "text": f"{texts[row % TRAINING_TEXTS]} {row}"}) + "\n")
    return data, encoder, rows


def export_arguments(run: Path, output: Path, *precisions: str) -> Sequence[object]:
    """Return the arguments that export a toy run, with a budget that any int8 meets."""
    chosen = [word for name in precisions for word in ("--precision", name)]
    return ["export", run, "--output", output, *chosen, "--max-flips", 1, "--max-f1-drop", 1, "--force"]


@contextmanager
def write_in_place(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Write a folder naively: delete it, then fill it."""
    if force:
        shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    yield target


def _digest(bundle: Path) -> str:
    try:
        return Bundle.open(bundle).digest
    except ManylabelError:
        return "none"
