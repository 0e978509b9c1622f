"""What the process that scores does at a word, and what it says."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.toy import TEXTS
from tests.runtime.scoring.conftest import ScoreHere, read_jsonl, write_jsonl

from manylabel import Classifier
from manylabel.data.readers import block
from manylabel.scoring import Job, worker


@pytest.fixture
def job(tmp_path: Path, score_here: ScoreHere) -> Job:
    """Of eight rows in two shards, of which nothing is scored yet."""
    given = write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS[:8]])
    score_here(given, output=tmp_path / "out", format="jsonl", shard_rows=5)
    for path in [*(tmp_path / "out").glob("part-*"), *(tmp_path / "out/_manylabel").glob("part-*")]:
        path.unlink()
    return Job.load(str(tmp_path / "out"))


def told(classifier: Classifier, job: Job, **command: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The reply to a command, and what was said before it."""
    said = io.StringIO()
    reply = worker.execute({"shard": 0, "quarantined": {}, **command}, classifier, job, said)
    return reply, [json.loads(line) for line in said.getvalue().splitlines()]


def test_shard_is_scored_and_committed(classifier: Classifier, job: Job) -> None:
    reply, said = told(classifier, job, shard=1)
    assert ({*reply}, said) == ({"commit"}, [{"rows": 3}])
    assert reply["commit"] == json.loads(Path(job.record(1)).read_text())
    assert [row["text"] for row in read_jsonl(Path(job.part(1)))] == [*TEXTS[5:8]]


@pytest.mark.parametrize("block_rows", [2, 4096])
def test_quarantined_rows_are_left_out(
    classifier: Classifier, job: Job, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    monkeypatch.setattr(block, "BLOCK_ROWS", block_rows)
    reply, _ = told(classifier, job, quarantined={"2": "left out", "4": "and this"})
    assert (reply["commit"]["quarantined"], reply["commit"]["errors"]) == ([2, 4], 2)
    assert [row["error"] for row in read_jsonl(Path(job.part(0)))] == [None, None, "left out", None, "and this"]


class Noting:
    """A classifier that remembers which texts it was asked for, and cannot bear one."""

    def __init__(self, classifier: Classifier, unbearable: str = "") -> None:
        self.bundle, self.precision, self.variant = classifier.bundle, classifier.precision, classifier.variant
        self.labels, self.thresholds_ = classifier.labels, classifier.thresholds_
        self.classifier, self.unbearable, self.asked = classifier, unbearable, list[str]()

    def predict_chunks(self, chunks: Any, **more: Any) -> Any:
        given = list(chunks)
        self.asked += [text for chunk in given for text in chunk if text is not None]
        if self.unbearable in self.asked:
            raise MemoryError("no room")
        return self.classifier.predict_chunks(given, **more)


def test_trial_rows_write_nothing(classifier: Classifier, job: Job) -> None:
    noting: Any = Noting(classifier)
    assert told(noting, job, rows=[1, 4], quarantined={"2": "left out"}) == ({"tried": True}, [])
    assert noting.asked == [TEXTS[1], TEXTS[3]]
    assert not Path(job.part(0)).exists()


def test_row_faults_differ_from_disk_faults(classifier: Classifier, job: Job) -> None:
    unbearable: Any = Noting(classifier, TEXTS[3])
    assert told(unbearable, job) == ({"died": "MemoryError: no room"}, [])
    (given,) = (Path(each.source.uri) for each in job.plan.inputs)
    given.unlink()
    assert told(classifier, job)[0] == {"failed": "DataError", "message": f"{given} does not exist any more."}
