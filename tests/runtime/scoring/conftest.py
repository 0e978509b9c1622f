"""Fixtures of the scoring tests: files, jobs scored in this process, and the command in a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.helpers.toy import TEXTS

from manylabel import Classifier

if not importlib.util.find_spec("pyarrow"):
    collect_ignore_glob = ["test_*.py"]


class ScoreHere(Protocol):
    def __call__(self, *inputs: Path, output: Path, **options: Any) -> list[Any]: ...


@pytest.fixture
def score_here(classifier: Classifier) -> ScoreHere:
    """Score files in this process, without a worker, into a folder or a file; return the commit records."""
    from manylabel.scoring import Job, ScoreOptions, merge_parts, score_shard
    from manylabel.scoring.planner import find_sources, plan_shards

    def score(*inputs: Path, output: Path, **options: Any) -> list[Any]:
        chosen = ScoreOptions(**{"format": output.suffix[1:] or "parquet", **options})
        sources = find_sources([str(each) for each in inputs], format=None, spool="")
        planned = plan_shards(
            sources, text_column=chosen.text_column, shard_rows=chosen.shard_rows, progress=lambda rows: None
        )
        folder = str(output) if not output.suffix else f"{output}.parts"
        bundle = classifier.bundle
        job = Job(folder, bundle.digest, classifier.precision, bundle.labels, chosen, planned)
        job.save()
        commits = [score_shard(classifier, job, number) for number in range(len(planned.shards))]
        if output.suffix:
            merge_parts([folder], str(output))
        return commits

    return score


class Command(Protocol):
    def __call__(self, *arguments: object, stdin: bytes = b"", code: int = 0, **environment: str) -> dict[str, Any]: ...


@pytest.fixture
def command() -> Command:
    """Run `manylabel ...` as a user does; return the summary, or standard error if it fails as expected."""

    def run(*arguments: object, stdin: bytes = b"", code: int = 0, **environment: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "manylabel", *map(str, arguments)],
            input=stdin,
            env={**os.environ, **environment},
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        if done.stdout:
            summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return summary
        return {"stderr": done.stderr.decode()}

    return run


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


ROWS = [{"id": n, "text": text, "note": f"=note {n}"} for n, text in enumerate(TEXTS)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """The tests' texts with two more columns, as JSON lines."""
    return write_jsonl(tmp_path / "rows.jsonl", ROWS)
