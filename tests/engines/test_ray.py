"""A real local Ray cluster: the command line's predictions, and actors that die."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conftest import ROWS, assert_same_answers

from manylabel.errors import DataError, InputError, JobChanged
from manylabel.scoring import ScoreOptions
from manylabel.scoring.run import ScoreRequest

ray = pytest.importorskip("ray")
pa = pytest.importorskip("pyarrow")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and files that Ray leaves to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def cluster(hostile: Path) -> Iterator[None]:
    os.environ.update(RAY_worker_niceness="0")  # its workers need not wait for other processes
    ray.init(num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, logging_level="WARNING")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def table(dataset: Any) -> Any:
    return pa.Table.from_pylist(dataset.take_all(), schema=dataset.schema().base_schema)


def request(bundle: Path, folder: Path, texts: list[str], **changed: Any) -> ScoreRequest:
    given = folder / "rows.jsonl"
    given.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    options = ScoreOptions(shard_rows=10, format="jsonl", **changed)
    return ScoreRequest(bundle, [str(given)], None, str(folder / "out.jsonl"), options, device="cpu")


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_dataset_matches_the_command_line(bundle: Path, expected: Any) -> None:
    from manylabel.engines.ray import score

    whole = pa.Table.from_pylist(ROWS)
    given = ray.data.from_arrow([whole.slice(0, 3000), whole.slice(3000, 100), whole.slice(3100)])
    assert_same_answers(table(score(given, bundle, actors=2)), expected)


def test_batch_of_dead_ray_actor_is_scored_once(bundle: Path, hostile: Path) -> None:
    from manylabel.engines.ray import score

    hostile.unlink(missing_ok=True)
    given = ray.data.from_items([{"id": n, "text": f"ONCE {n}"} for n in range(50)])
    rows = score(given, bundle, actors=1).take_all()
    assert hostile.exists()
    assert sorted(row["id"] for row in rows) == list(range(50))
    assert not any(row["error"] for row in rows)


@pytest.mark.timeout(120)
def test_crashing_text_has_bounded_retries(bundle: Path) -> None:
    from manylabel.engines.ray import score

    given = ray.data.from_items([{"text": "late"}, {"text": "KILL"}])
    with pytest.raises(ray.exceptions.RayError):
        score(given, bundle, actors=1, retries=1).take_all()


def test_invalid_arguments_fail_before_any_work(bundle: Path) -> None:
    from manylabel.engines.ray import score

    given = ray.data.from_items([{"other": "late"}])
    with pytest.raises(DataError, match="no column 'text'"):
        score(given, bundle)
    with pytest.raises(InputError, match="between 0 and 1"):
        score(given, bundle, text_column="other", thresholds=2)


def test_shards_are_committed_once_and_resumed(bundle: Path, tmp_path: Path, hostile: Path) -> None:
    """A shard whose process dies once is scored again; a row that always crashes it is quarantined."""
    from manylabel.engines.ray import score_files

    hostile.unlink(missing_ok=True)
    texts = [f"late {n}" for n in range(45)]
    texts[12], texts[33] = "ONCE", "KILL"
    done = score_files(request(bundle, tmp_path, texts), actors=2)
    assert hostile.exists()
    assert (done["rows"], done["errors"], done["quarantined"], done["parts"]) == (45, 1, 1, 5)
    assert [row["text"] for row in read(tmp_path)] == texts


def test_ray_writes_the_command_line_files_and_resumes(bundle: Path, tmp_path: Path) -> None:
    from manylabel.engines.ray import score_files
    from manylabel.scoring.run import score_files as score_files_here

    texts = [f"late {n}" for n in range(45)]
    for name in ("ray", "command"):
        (tmp_path / name).mkdir()
    score_files_here(request(bundle, tmp_path / "command", texts))
    score_files(request(bundle, tmp_path / "ray", texts), actors=1)
    assert (tmp_path / "ray" / "out.jsonl").read_bytes() == (tmp_path / "command" / "out.jsonl").read_bytes()


def test_resume_rejects_another_bundle(bundle: Path, tmp_path: Path) -> None:
    from manylabel.engines.ray import score_files

    texts = [f"late {n}" for n in range(20)]
    folder_request = ScoreRequest(**{**vars(request(bundle, tmp_path, texts)), "output": str(tmp_path / "out")})
    assert score_files(folder_request, actors=1)["parts"] == 2
    assert score_files(folder_request, actors=1)["rows_resumed"] == 20
    with pytest.raises(JobChanged, match="the precision was int8 and is fp32"):
        score_files(ScoreRequest(**{**vars(folder_request), "precision": "fp32"}), actors=1)
