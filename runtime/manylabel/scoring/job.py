"""The job specification: bundle, inputs, options and shards, stored so that a run can be resumed on any machine.

It lies beside the parts, under `_manylabel`; the underscore hides it from programs that read the folder as a data set.
A run with another bundle, input or option is refused, and the error names what differs.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from manylabel.data import filesystem
from manylabel.data.readers.open_table import Source
from manylabel.data.readers.table import Position
from manylabel.errors import BundleError, InputError, JobChanged
from manylabel.frames.prediction_columns import ProbabilityLayout, check_no_clash, prediction_fields
from manylabel.scoring.planner import InputFile, Shard, ShardPlan

OutputFormat = Literal["parquet", "csv", "jsonl"]
FORMAT_VERSION = 1
RECORDS = "_manylabel"
JOB = "job.json"


@dataclass(frozen=True)
class ScoreOptions:
    """How the rows are scored and written.

    Attributes:
        text_column: The column of texts.
        format: The format of the parts.
        probabilities: One column per label, one list, or none.
        prefix: Prefix of the names of the prediction columns.
        separator: Separates labels in a CSV cell.
        for_spreadsheet: Escape cells that start a formula.
        shard_rows: Rows of a shard.
        thresholds: In column order, in place of the bundle's own.

    Example:
        >>> ScoreOptions(format="jsonl", thresholds=(0.5, 0.3)).shard_rows
        50000
    """

    text_column: str = "text"
    format: OutputFormat = "parquet"
    probabilities: ProbabilityLayout = "columns"
    prefix: str = ""
    separator: str = "|"
    for_spreadsheet: bool = False
    shard_rows: int = 50_000
    thresholds: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Job:
    """A job specification.

    Attributes:
        output: The folder of the parts.
        bundle: The digest of the bundle.
        precision: The variant that scores.
        labels: The bundle's labels in column order.
        options: How the rows are scored and written.
        plan: The inputs and their shards.

    Example:
        >>> plan = ShardPlan([], [], pa.schema([("text", pa.string())]))
        >>> job = Job("scored", "6e818783", "int8", ("price",), ScoreOptions(format="csv"), plan)
        >>> job.part_name(3), job.schema.names
        ('part-000003.csv', ['text', 'labels', 'p_price', 'n_tokens', 'truncated', 'error'])
    """

    output: str
    bundle: str
    precision: str
    labels: tuple[str, ...]
    options: ScoreOptions
    plan: ShardPlan

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the inputs, and the prediction columns after them.

        Raises:
            DataError: An input has a column with the name of a prediction column.
            InputError: A label contains the separator.
        """
        fields = prediction_fields(self.labels, self.options.probabilities, self.options.prefix)
        check_no_clash(self.plan.schema.names, fields)
        ambiguous = [label for label in self.labels if self.options.separator in label]
        if self.options.format == "csv" and ambiguous:
            raise InputError(
                f"the label {ambiguous[0]!r} contains {self.options.separator!r}, which separates labels in a CSV "
                "cell. Choose another --separator."
            )
        return pa.schema([*self.plan.schema, *fields])

    @cached_property
    def digest(self) -> str:
        """Identifies the job: bundle, options and the inputs' content, not where inputs and output lie."""
        content = {key: value for key, value in self.to_json().items() if key != "inputs"}
        content["inputs"] = [each.sha256 for each in self.plan.inputs]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def part(self, number: int) -> str:
        """Return the path or URI of a shard's part."""
        return filesystem.join(self.output, self.part_name(number))

    def part_name(self, number: int) -> str:
        """Return a part's file name; names sort in the order of the rows."""
        return f"part-{number:06d}.{self.options.format}"

    def record(self, number: int) -> str:
        """Return the path or URI of a shard's commit record."""
        return filesystem.join(self.output, f"{RECORDS}/part-{number:06d}.json")

    def save(self) -> None:
        """Write the specification, or compare it with the one that the output already has.

        Raises:
            JobChanged: The output holds a run with another bundle, input or option.
        """
        filesystem.make_folder(self.output)
        filesystem.make_folder(filesystem.join(self.output, RECORDS))
        path = filesystem.join(self.output, f"{RECORDS}/{JOB}")
        stored = filesystem.read_bytes(path)
        if stored is None:
            filesystem.write_bytes(path, (json.dumps(self.to_json(), indent=1) + "\n").encode())
            return
        changes = list(_changes(_parse(stored, path), self.to_json()))
        if changes:
            raise JobChanged(
                f"{self.output} holds a run that was started differently: {'; '.join(changes)}. "
                "Resume it with the same bundle, inputs and options, or choose another output."
            )

    @classmethod
    def load(cls, output: str) -> "Job":
        """Read the job specification of an output folder.

        Raises:
            InputError: It has none.
        """
        path = filesystem.join(output, f"{RECORDS}/{JOB}")
        content = filesystem.read_bytes(path)
        if content is None:
            raise InputError(f"{output} holds no run: {path} is missing. Start one with manylabel score.")
        return cls.from_json(output, _parse(content, path))

    def to_json(self) -> dict[str, Any]:
        """Return the specification as JSON values, without the output's location."""
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
        """Build a specification from what `to_json` returned."""
        options = content["options"]
        if options["thresholds"] is not None:
            options = {**options, "thresholds": tuple(options["thresholds"])}
        inputs = [
            InputFile(
                Source(each["uri"], each["format"], each["compression"]),
                filesystem.FileStatus(each["bytes"], each["mtime_ns"]),
                each["sha256"],
                each["rows"],
                _schema_from_text(each["schema"]),
            )
            for each in content["inputs"]
        ]
        shards = [Shard(file, first, rows, Position(*start)) for file, first, rows, *start in content["shards"]]
        plan = ShardPlan(inputs, shards, _schema_from_text(content["schema"]))
        return cls(
            output, content["bundle"], content["precision"], tuple(content["labels"]), ScoreOptions(**options), plan
        )


def _changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield a phrase for everything that differs."""
    if before["bundle"] != now["bundle"]:
        yield f"the bundle was {before['bundle'][:12]} and is {now['bundle'][:12]}"
    if before["precision"] != now["precision"]:
        yield f"the precision was {before['precision']} and is {now['precision']}"
    for name, value in before["options"].items():
        if now["options"].get(name) != value:
            yield f"--{name.replace('_', '-')} was {value} and is {now['options'].get(name)}"
    if len(before["inputs"]) != len(now["inputs"]):
        yield f"there were {len(before['inputs'])} input files and now there are {len(now['inputs'])}"
        return
    for old, new in zip(before["inputs"], now["inputs"], strict=True):
        if (old["sha256"], old["format"]) != (new["sha256"], new["format"]):
            yield (
                f"the input {new['uri']} differs from {old['uri']} as it was then ({old['rows']:,} rows, now "
                f"{new['rows']:,})"
            )


def _parse(content: bytes, path: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(content)
        version = parsed["format_version"]
    except (ValueError, KeyError, TypeError) as exc:
        raise InputError(f"{path} is damaged. Start again with another output.") from exc
    if version != FORMAT_VERSION:
        raise BundleError(f"{path} has format version {version}; this version of manylabel reads {FORMAT_VERSION}.")
    return parsed


def _schema_to_text(schema: Any) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _schema_from_text(text: str) -> Any:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
