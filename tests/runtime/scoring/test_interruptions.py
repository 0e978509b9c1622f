"""Killed at any moment and resumed: no row is lost or duplicated, the bytes are the same; a changed job is refused."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.toy import TEXTS
from tests.runtime.conftest import ROOT, Resign
from tests.runtime.scoring.conftest import Command, ScoreHere, read_jsonl, write_jsonl

from manylabel import Bundle, Classifier
from manylabel.errors import DataError, InputError, JobChanged, WorkerDied
from manylabel.scoring import Job, ScoreOptions, score_shard, worker_supervisor
from manylabel.scoring.run import Progress, ScoreRequest, score_files
from manylabel.scoring.worker_supervisor import WorkerConfig, WorkerSupervisor

ROWS = [{"id": n, "text": f"{TEXTS[n % 60]} {n}"} for n in range(600)]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file but the locks, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("lock-")
    }


def request(bundle: Path, *inputs: Path, output: Path, **changed: Any) -> ScoreRequest:
    options = ScoreOptions(**{"shard_rows": 40, "format": "jsonl", **changed.pop("options", {})})
    return ScoreRequest(bundle, [str(each) for each in inputs], None, str(output), options, device="cpu", **changed)


# Killed and resumed


def kill_and_resume(bundle: Path, given: Path, output: Path, moments: list[float]) -> None:
    """Start the run once for each moment and kill it there; finally let it finish."""
    arguments = [
        *(sys.executable, "-m", "manylabel", "score", bundle, given, "-o", output),
        *("--to", "jsonl", "--shard-rows", "40", "--threads", "1", "--device", "cpu"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for moment in moments:
        process = subprocess.Popen(list(map(str, arguments)), env=environment, stdout=subprocess.DEVNULL)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    subprocess.run(list(map(str, arguments)), env=environment, check=True, stdout=subprocess.DEVNULL, timeout=120)


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_killed_job_resumes_to_identical_bytes(bundle: Path, tmp_path: Path, kills: int) -> None:
    rng = random.Random(kills)
    given = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    kill_and_resume(bundle, given, tmp_path / "whole", [])
    started = time.monotonic()
    kill_and_resume(bundle, given, tmp_path / "timed", [])
    full = time.monotonic() - started
    moments = [rng.uniform(0.1, 1.1) * full for _ in range(kills)]
    done = 0
    while done < kills:  # a complete run can no longer be killed: start another
        output = tmp_path / f"out{done}"
        part = moments[done : done + rng.randint(1, 8)]
        done += len(part)
        kill_and_resume(bundle, given, output, part)
        assert contents(output) == contents(tmp_path / "whole")
    rows = [row for path in sorted((tmp_path / "whole").glob("*.jsonl")) for row in read_jsonl(path)]
    assert [row["id"] for row in rows] == list(range(600))


def test_committed_shards_are_not_scored_again(bundle: Path, tmp_path: Path) -> None:
    """A part without its record, and a truncated part, are scored again."""
    given, output = write_jsonl(tmp_path / "rows.jsonl", ROWS), tmp_path / "out"
    score_files(request(bundle, given, output=output))
    before = contents(output)
    again = score_files(request(bundle, given, output=output))
    assert (again["rows"], again["rows_resumed"]) == (600, 600)
    (output / "_manylabel" / "part-000003.json").unlink()
    (output / "part-000005.jsonl").write_bytes(b"half a row")
    (output / ".part-000003.jsonl.1234.tmp").write_bytes(b"left behind")
    kept = (output / "part-000004.jsonl").stat().st_mtime_ns
    again = score_files(request(bundle, given, output=output))
    assert again["rows_resumed"] == 600 - 80
    assert contents(output) == before
    assert (output / "part-000004.jsonl").stat().st_mtime_ns == kept


def test_progress_counts_every_row_once(bundle: Path, tmp_path: Path) -> None:
    class RecordingProgress(Progress):
        def __init__(self) -> None:
            self.counted: list[int] = []
            self.starts: list[tuple[int, int]] = []
            self.rows = 0

        def planned(self, rows: int) -> None:
            self.counted.append(rows)

        def started(self, rows: int, done: int) -> None:
            self.starts.append((rows, done))

        def scored(self, rows: int) -> None:
            self.rows += rows

    given = [write_jsonl(tmp_path / f"{n}.jsonl", ROWS[:n]) for n in (70, 50)]
    progress, output = RecordingProgress(), tmp_path / "out"
    done = score_files(request(bundle, *given, output=output), progress)
    assert (progress.counted, progress.starts, progress.rows) == ([70, 50], [(120, 0)], 120)
    assert (done["output"], done["bundle"], done["precision"]) == (str(output), Bundle.open(bundle).digest, "int8")
    assert done["texts_per_second"] == pytest.approx(120 / done["seconds"], rel=0.01)
    (output / "_manylabel" / "part-000001.json").unlink()
    again = RecordingProgress()
    resumed = score_files(request(bundle, *given, output=output), again)
    assert (again.counted, again.starts, again.rows) == ([], [(120, 90)], 30)
    assert (resumed["rows"], resumed["rows_resumed"], resumed["parts"]) == (120, 90, 4)
    share = RecordingProgress()
    done = score_files(request(bundle, *given, output=tmp_path / "share", share=(2, 3)), share)
    assert (share.starts, done["rows"], done["parts"]) == ([(30, 0)], 30, 1)
    assert [path.name for path in (tmp_path / "share").glob("part-*")] == ["part-000001.jsonl"]


def test_output_file_appears_when_complete(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, output = write_jsonl(tmp_path / "rows.jsonl", ROWS), tmp_path / "out.jsonl"
    score = WorkerSupervisor.score

    def stop(self: WorkerSupervisor, number: int, scored: Any) -> Any:
        if number == 9:
            raise KeyboardInterrupt
        return score(self, number, scored)

    with monkeypatch.context() as patched:
        patched.setattr(WorkerSupervisor, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            score_files(request(bundle, given, output=output))
    assert not output.exists()
    done = score_files(request(bundle, given, output=output))
    assert done["rows_resumed"] == 9 * 40
    assert [row["id"] for row in read_jsonl(output)] == list(range(600))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]


def test_two_jobs_cannot_share_an_output(bundle: Path, tmp_path: Path) -> None:
    import fcntl

    given, output = write_jsonl(tmp_path / "rows.jsonl", ROWS[:80]), tmp_path / "out"
    score_files(request(bundle, given, output=output))
    with open(output / "_manylabel" / "lock-1-1") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another run is using"):
            score_files(request(bundle, given, output=output))
    score_files(request(bundle, given, output=output))


# Changed bundles, inputs and options


def test_resume_rejects_changed_bundle_input_or_option(
    bundle: Path, own_bundle: Path, resign: Resign, tmp_path: Path
) -> None:
    given, output = write_jsonl(tmp_path / "rows.jsonl", ROWS[:100]), tmp_path / "out"
    score_files(request(bundle, given, output=output))
    before = contents(output)
    other = resign(own_bundle, lambda manifest: manifest["variants"][1].update(thresholds=[0.9] * 4))
    more = write_jsonl(tmp_path / "more.jsonl", ROWS[:101])
    for changed, sentence in (
        (request(other, given, output=output), r"the bundle was \w+ and is \w+"),
        (request(bundle, given, output=output, precision="fp32"), "the precision was int8 and is fp32"),
        (request(bundle, given, more, output=output), "there were 1 input files and now there are 2"),
        (
            request(bundle, more, output=output),
            r"the input .*more.jsonl differs from .*rows.jsonl as it was then \(100 rows, now",
        ),
        (request(bundle, given, output=output, options={"prefix": "p"}), "--prefix was  and is p"),
        (request(bundle, given, output=output, options={"shard_rows": 50}), "--shard-rows was 40 and is 50"),
        (request(bundle, given, output=output, options={"format": "csv"}), "--format was jsonl and is csv"),
        (request(bundle, given, output=output, options={"thresholds": (0.1,) * 4}), "--thresholds was None and is"),
    ):
        with pytest.raises(JobChanged, match=sentence):
            score_files(changed)
    assert contents(output) == before
    done = score_files(request(bundle, more, output=output, force=True))
    assert (done["rows"], done["rows_resumed"]) == (101, 0)


def test_touched_or_moved_input_is_accepted(bundle: Path, tmp_path: Path) -> None:
    given, output = write_jsonl(tmp_path / "rows.jsonl", ROWS[:100]), tmp_path / "out"
    score_files(request(bundle, given, output=output))
    os.utime(given, ns=(1, 1))
    assert score_files(request(bundle, given, output=output))["rows_resumed"] == 100
    moved = given.rename(tmp_path / "moved.jsonl")
    assert score_files(request(bundle, moved, output=output))["rows_resumed"] == 100
    moved.write_bytes(moved.read_bytes().replace(b"late", b"lame", 1))
    with pytest.raises(JobChanged, match="the input"):
        score_files(request(bundle, moved, output=output))


def test_shard_rejects_classifier_of_another_bundle(
    bundle: Path, tmp_path: Path, score_here: ScoreHere, fp32: Classifier
) -> None:
    score_here(write_jsonl(tmp_path / "rows.jsonl", ROWS[:9]), output=tmp_path / "out")
    with pytest.raises(JobChanged, match=r"in int8; .* in fp32"):
        score_shard(fp32, Job.load(str(tmp_path / "out")), 0)


# Rows that end the process


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make workers crash on certain texts, as from a fault in native code."""
    inherited = filter(None, [os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests" / "helpers" / "crash_on_text"), *inherited]))


@pytest.mark.usefixtures("hostile")
def test_crashing_row_is_quarantined(bundle: Path, tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(30)]
    texts[3], texts[27] = "KILL", "RAISE"
    given, output = write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts]), tmp_path / "out.jsonl"
    done = score_files(request(bundle, given, output=output, options={"shard_rows": 10}))
    assert (done["rows"], done["errors"], done["quarantined"]) == (30, 2, 2)
    found = read_jsonl(output)
    assert [row["text"] for row in found] == texts
    errors = {place: row["error"] for place, row in enumerate(found) if row["error"]}
    assert errors == {
        3: "this row ended the process that scored it (SIGKILL) and was left out.",
        27: "this row ended the process that scored it (MemoryError: as if) and was left out.",
    }
    assert all(row["n_tokens"] for place, row in enumerate(found) if place not in errors)


def test_worker_death_without_a_bad_row(
    bundle: Path, tmp_path: Path, score_here: ScoreHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_here(write_jsonl(tmp_path / "rows.jsonl", ROWS[:8]), output=tmp_path / "out")
    job = Job.load(str(tmp_path / "out"))

    class Dying:
        def __init__(self, *_: Any) -> None: ...

        def request(self, command: Any, scored: Any) -> Any:
            if "rows" not in command:
                scored(3)
                raise worker_supervisor.WorkerCrash("SIGKILL")
            return {"tried": True}

        def stop(self) -> None: ...

    monkeypatch.setattr(worker_supervisor, "WorkerProcess", Dying)
    counted = []
    with WorkerSupervisor(job, WorkerConfig(str(bundle), "cpu", 1)) as supervisor, pytest.raises(WorkerDied) as caught:
        supervisor.score(0, counted.append)
    assert str(caught.value) == (
        "the process that scores part 0 ended 2 times (SIGKILL), 0 rows were left out, and no other row ends it on its "
        "own. Most likely there is too little memory. Free some, raise the limit (ulimit -v, or the container's), or "
        "use fewer threads. Committed parts are kept; run the same command again to resume."
    )
    assert counted == [3, -3, 3, -3]


def test_quarantine_is_limited(
    bundle: Path, tmp_path: Path, score_here: ScoreHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one row after the other ends the process, the rows are not the cause."""
    score_here(write_jsonl(tmp_path / "rows.jsonl", ROWS[:30]), output=tmp_path / "out")
    job = Job.load(str(tmp_path / "out"))

    class Dying:
        """Crashes on every row that is not left out."""

        def __init__(self, *_: Any) -> None: ...

        def request(self, command: Any, scored: Any) -> Any:
            if set(range(*command.get("rows", (0, 30)))) - set(command["quarantined"]):
                raise worker_supervisor.WorkerCrash("SIGSEGV")
            return {"tried": True}

        def stop(self) -> None: ...

    monkeypatch.setattr(worker_supervisor, "WorkerProcess", Dying)
    with WorkerSupervisor(job, WorkerConfig(str(bundle), "cpu", 1)) as supervisor, pytest.raises(WorkerDied) as caught:
        supervisor.score(0, lambda rows: None)
    assert "part 0 ended 2 times (SIGSEGV), 20 rows were left out, and no other row" in str(caught.value)


def test_worker_start_failure_error(own_bundle: Path, tmp_path: Path, command: Command) -> None:
    """Damage that only the worker sees, because the shards are planned already."""
    given = write_jsonl(tmp_path / "rows.jsonl", ROWS[:8])
    graph = own_bundle / "model_int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"!")
    stderr = command("score", own_bundle, given, "-o", tmp_path / "out", "--device", "cpu", code=3)["stderr"]
    assert "was changed after the bundle was made" in stderr


def test_worker_errors_keep_their_type(bundle: Path, tmp_path: Path, score_here: ScoreHere) -> None:
    given = write_jsonl(tmp_path / "rows.jsonl", ROWS[:8])
    score_here(given, output=tmp_path / "out")
    write_jsonl(given, ROWS[:9])
    with WorkerSupervisor(Job.load(str(tmp_path / "out")), WorkerConfig(str(bundle), "cpu", 1)) as supervisor:
        for _ in range(2):  # the worker survives it
            with pytest.raises(DataError) as caught:
                supervisor.score(0, lambda rows: None)
            assert str(caught.value) == (
                f"{given} was changed while it was being scored. Start again with another output."
            )


def test_worker_killed_while_loading_is_restarted(
    bundle: Path, tmp_path: Path, score_here: ScoreHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_here(write_jsonl(tmp_path / "rows.jsonl", ROWS[:8]), output=tmp_path / "out")
    job = Job.load(str(tmp_path / "out"))
    request, deaths = worker_supervisor.WorkerProcess.request, [1]

    def dying(self: Any, command: Any, scored: Any) -> Any:
        if "job" in command and deaths[0]:
            deaths[0] -= 1
            os.kill(self.pid, signal.SIGKILL)
        return request(self, command, scored)

    monkeypatch.setattr(worker_supervisor.WorkerProcess, "request", dying)
    with WorkerSupervisor(job, WorkerConfig(str(bundle), "cpu", 1)) as supervisor:
        assert supervisor.score(0, lambda rows: None).rows == 8
    deaths[0] = 2
    with (
        WorkerSupervisor(job, WorkerConfig(str(bundle), "cpu", 1)) as supervisor,
        pytest.raises(WorkerDied, match=r"ended 2 times before it scored anything \(SIGKILL\)"),
    ):
        supervisor.score(0, lambda rows: None)


def test_worker_ends_with_its_parent(bundle: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "manylabel.scoring.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_vanished_input_ends_the_job(bundle: Path, tmp_path: Path) -> None:
    given = write_jsonl(tmp_path / "rows.jsonl", ROWS[:100])
    score_files(request(bundle, given, output=tmp_path / "out"))
    given.unlink()
    with pytest.raises(DataError, match="no file found"):
        score_files(request(bundle, given, output=tmp_path / "out"))
