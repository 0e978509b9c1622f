"""The commands and replies of the worker process."""

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
    """A job of eight rows in two shards, none of them scored."""
    given = write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS[:8]])
    score_here(given, output=tmp_path / "out", format="jsonl", shard_rows=5)
    for path in [*(tmp_path / "out").glob("part-*"), *(tmp_path / "out/_manylabel").glob("part-*")]:
        path.unlink()
    return Job.load(str(tmp_path / "out"))


def execute(classifier: Classifier, job: Job, **command: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Execute a command; return the reply and the progress messages before it."""
    output = io.StringIO()
    reply = worker.execute({"shard": 0, "quarantined": {}, **command}, classifier, job, output)
    return reply, [json.loads(line) for line in output.getvalue().splitlines()]


def test_shard_is_scored_and_committed(classifier: Classifier, job: Job) -> None:
    reply, progress = execute(classifier, job, shard=1)
    assert ({*reply}, progress) == ({"commit"}, [{"rows": 3}])
    assert reply["commit"] == json.loads(Path(job.record(1)).read_text())
    assert [row["text"] for row in read_jsonl(Path(job.part(1)))] == [*TEXTS[5:8]]


@pytest.mark.parametrize("block_rows", [2, 4096])
def test_quarantined_rows_are_left_out(
    classifier: Classifier, job: Job, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    monkeypatch.setattr(block, "BLOCK_ROWS", block_rows)
    reply, _ = execute(classifier, job, quarantined={"2": "left out", "4": "and this"})
    assert (reply["commit"]["quarantined"], reply["commit"]["errors"]) == ([2, 4], 2)
    assert [row["error"] for row in read_jsonl(Path(job.part(0)))] == [None, None, "left out", None, "and this"]


class RecordingClassifier:
    """A classifier that records the texts it receives, and runs out of memory for one of them."""

    def __init__(self, classifier: Classifier, failing: str = "") -> None:
        self.bundle, self.precision, self.variant = classifier.bundle, classifier.precision, classifier.variant
        self.labels, self.thresholds_ = classifier.labels, classifier.thresholds_
        self.classifier, self.failing, self.received = classifier, failing, list[str]()

    def predict_chunks(self, chunks: Any, **more: Any) -> Any:
        given = list(chunks)
        self.received += [text for chunk in given for text in chunk if text is not None]
        if self.failing in self.received:
            raise MemoryError("no room")
        return self.classifier.predict_chunks(given, **more)


def test_trial_rows_write_nothing(classifier: Classifier, job: Job) -> None:
    recorder: Any = RecordingClassifier(classifier)
    assert execute(recorder, job, rows=[1, 4], quarantined={"2": "left out"}) == ({"tried": True}, [])
    assert recorder.received == [TEXTS[1], TEXTS[3]]
    assert not Path(job.part(0)).exists()


def test_row_faults_differ_from_disk_faults(classifier: Classifier, job: Job) -> None:
    failing: Any = RecordingClassifier(classifier, TEXTS[3])
    assert execute(failing, job) == ({"died": "MemoryError: no room"}, [])
    (given,) = (Path(each.source.uri) for each in job.plan.inputs)
    given.unlink()
    assert execute(classifier, job)[0] == {"failed": "DataError", "message": f"{given} no longer exists."}
