"""What is to be done, written down, so that it can be gone on with, on this machine or another.

The record lies beside the parts, under `_manylabel`, whose name keeps it out of sight of those who read the folder as
a data set. Whoever comes with another bundle, input or option is told which, and refused.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from manylabel.data import filesystem
from manylabel.data.output_schema import Probabilities, answer_fields, check_apart
from manylabel.data.readers.block import Position
from manylabel.errors import BundleError, InputError, JobChanged
from manylabel.scoring.inputs import Source
from manylabel.scoring.planner import Input, Plan, Shard
from manylabel.scoring.writers import OutputFormat

FORMAT_VERSION = 1
RECORDS = "_manylabel"
JOB = "job.json"


@dataclass(frozen=True)
class Options:
    """How the rows are to be scored and written.

    Attributes:
        text_column: Where the texts are.
        format: Of the parts.
        probabilities: One column a label, one list, or none.
        prefix: Before the names of the answer's columns.
        separator: Between labels in a CSV cell.
        for_spreadsheet: Escape cells that start a formula.
        shard_rows: Rows of a shard.
        thresholds: In column order, in place of the bundle's own.
    """

    text_column: str = "text"
    format: OutputFormat = "parquet"
    probabilities: Probabilities = "columns"
    prefix: str = ""
    separator: str = "|"
    for_spreadsheet: bool = False
    shard_rows: int = 50_000
    thresholds: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Job:
    """A bundle, inputs, options and an output.

    Attributes:
        output: The folder of the parts.
        bundle: The digest of the bundle.
        precision: Of its variants, the one that answers.
        labels: The bundle's labels in column order.
        options: How.
        plan: What.
    """

    output: str
    bundle: str
    precision: str
    labels: tuple[str, ...]
    options: Options
    plan: Plan

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the inputs, and behind them the answer's.

        Raises:
            DataError: An input has a column of the answer's name.
            InputError: A label holds the separator.
        """
        answer = answer_fields(self.labels, self.options.probabilities, self.options.prefix)
        check_apart(self.plan.schema, answer)
        torn = [label for label in self.labels if self.options.separator in label]
        if self.options.format == "csv" and torn:
            raise InputError(
                f"the label {torn[0]!r} holds {self.options.separator!r}, which separates labels in a CSV cell. "
                "Choose another --separator."
            )
        return pa.schema([*self.plan.schema, *answer])

    @cached_property
    def digest(self) -> str:
        """Names the job: what is done, not where the inputs and the output lie."""
        named = {key: value for key, value in self.to_json().items() if key != "inputs"}
        named["inputs"] = [each.sha256 for each in self.plan.inputs]
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()

    def part(self, number: int) -> str:
        """Where a shard's rows go."""
        return filesystem.join(self.output, self.part_name(number))

    def part_name(self, number: int) -> str:
        """A part's name; names sort as the rows do."""
        return f"part-{number:06d}.{self.options.format}"

    def record(self, number: int) -> str:
        """Where a shard's commit record goes."""
        return filesystem.join(self.output, f"{RECORDS}/part-{number:06d}.json")

    def save(self) -> None:
        """Write the record, or hold what is to be done against the one that is there.

        Raises:
            JobChanged: Something else was begun here.
        """
        filesystem.make_folder(self.output)
        filesystem.make_folder(filesystem.join(self.output, RECORDS))
        place = filesystem.join(self.output, f"{RECORDS}/{JOB}")
        before = filesystem.read_bytes(place)
        if before is None:
            filesystem.write_bytes(place, (json.dumps(self.to_json(), indent=1) + "\n").encode())
            return
        changes = list(_changes(_parse(before, place), self.to_json()))
        if changes:
            raise JobChanged(
                f"{self.output} holds a run that was begun otherwise: {'; '.join(changes)}. "
                "Go on with what it was begun with, or choose another output."
            )

    @classmethod
    def load(cls, output: str) -> "Job":
        """The job that was begun in a folder.

        Raises:
            InputError: There is none.
        """
        place = filesystem.join(output, f"{RECORDS}/{JOB}")
        content = filesystem.read_bytes(place)
        if content is None:
            raise InputError(f"{output} holds no run: {place} is missing. Make one with manylabel score.")
        return cls.from_json(output, _parse(content, place))

    def to_json(self) -> dict[str, Any]:
        """All but the output's own place."""
        return {
            "format_version": FORMAT_VERSION,
            "bundle": self.bundle,
            "precision": self.precision,
            "labels": list(self.labels),
            "options": json.loads(json.dumps(asdict(self.options))),
            "inputs": [
                {
                    **asdict(each.source),
                    **asdict(each.status),
                    "sha256": each.sha256,
                    "rows": each.rows,
                    "schema": _schema_to_text(each.schema),
                }
                for each in self.plan.inputs
            ],
            "schema": _schema_to_text(self.plan.schema),
            "shards": [
                [each.file, each.first, each.rows, each.start.row, each.start.line, each.start.offset]
                for each in self.plan.shards
            ],
        }

    @classmethod
    def from_json(cls, output: str, content: dict[str, Any]) -> "Job":
        """The reverse of `to_json`."""
        options = content["options"]
        if options["thresholds"] is not None:
            options = {**options, "thresholds": tuple(options["thresholds"])}
        inputs = [
            Input(
                Source(each["uri"], each["format"], each["compression"]),
                filesystem.Status(each["bytes"], each["mtime_ns"]),
                each["sha256"],
                each["rows"],
                _schema_from_text(each["schema"]),
            )
            for each in content["inputs"]
        ]
        shards = [Shard(file, first, rows, Position(*start)) for file, first, rows, *start in content["shards"]]
        plan = Plan(inputs, shards, _schema_from_text(content["schema"]))
        return cls(output, content["bundle"], content["precision"], tuple(content["labels"]), Options(**options), plan)


def _changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What differs, in words, the first fault of each kind."""
    if before["bundle"] != now["bundle"]:
        yield f"the bundle was {before['bundle'][:12]} and is {now['bundle'][:12]}"
    if before["precision"] != now["precision"]:
        yield f"the precision was {before['precision']} and is {now['precision']}"
    for name, value in before["options"].items():
        if now["options"].get(name) != value:
            yield f"--{name.replace('_', '-')} was {value} and is {now['options'].get(name)}"
    if len(before["inputs"]) != len(now["inputs"]):
        yield f"there were {len(before['inputs'])} input files and are {len(now['inputs'])}"
        return
    for old, new in zip(before["inputs"], now["inputs"], strict=True):
        if (old["sha256"], old["format"]) != (new["sha256"], new["format"]):
            yield f"the input {new['uri']} is not the {old['uri']} of then ({old['rows']:,} rows, now {new['rows']:,})"


def _parse(content: bytes, place: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(content)
        version = parsed["format_version"]
    except (ValueError, KeyError, TypeError) as exc:
        raise InputError(f"{place} is damaged. Start anew with another output.") from exc
    if version != FORMAT_VERSION:
        raise BundleError(f"{place} is of version {version}, and this manylabel reads {FORMAT_VERSION}.")
    return parsed


def _schema_to_text(schema: Any) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _schema_from_text(text: str) -> Any:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
