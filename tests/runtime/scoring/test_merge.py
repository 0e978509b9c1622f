"""Merging the parts of one run, from one machine or several: complete, of the same run, and unchanged."""

import json
from pathlib import Path

import pytest
from tests.runtime.conftest import Cli
from tests.runtime.scoring.conftest import ScoreHere

from manylabel.errors import DataError, InputError, JobChanged
from manylabel.scoring import Job, merge_parts


def test_merge_parts_of_several_machines(bundle: Path, rows: Path, tmp_path: Path, cli: Cli) -> None:
    """Each machine has its own disk; one of them starts late."""
    whole = cli("score", bundle, rows, "-o", tmp_path / "whole.jsonl", "--shard-rows", 7)
    assert whole.exit_code == 0
    folders = [tmp_path / f"machine{n}" for n in (1, 2, 3)]
    for number, folder in enumerate(folders[:2], start=1):
        options = ("--to", "jsonl", "--shard-rows", 7, "--shard", f"{number}/3")
        assert cli("score", bundle, rows, "-o", folder, *options).exit_code == 0
    merged = tmp_path / "merged.jsonl"
    missing = cli("merge", *folders[:2], "-o", merged)
    assert missing.exit_code == 2
    assert "3 of 9 parts are missing, part-000002.jsonl (rows 14 to 20) the first" in missing.stderr
    assert not merged.exists()
    cli("score", bundle, rows, "-o", folders[2], "--to", "jsonl", "--shard-rows", 7, "--shard", "3/3")
    done = cli("merge", *folders, "-o", merged)
    assert json.loads(done.stdout)["rows"] == 60
    assert merged.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert "already exists" in cli("merge", *folders, "-o", merged).stderr
    assert "give the output that suffix" in cli("merge", *folders, "-o", tmp_path / "merged.csv").stderr


def test_merge_validates_its_parts(rows: Path, tmp_path: Path, score_here: ScoreHere) -> None:
    folder = tmp_path / "out"
    score_here(rows, output=folder, shard_rows=20, format="csv")
    other = tmp_path / "other"
    score_here(rows, output=other, shard_rows=30, format="csv")
    with pytest.raises(JobChanged, match="belong to different runs"):
        merge_parts([str(folder), str(other)], str(tmp_path / "x.csv"))
    part = folder / "part-000001.csv"
    good = part.read_bytes()
    part.write_bytes(good.replace(b"late", b"lame", 1))
    with pytest.raises(DataError, match=r"part-000001\.csv was changed after it was committed"):
        merge_parts([str(folder)], str(tmp_path / "x.csv"))
    part.write_bytes(good[:-1])
    with pytest.raises(InputError, match=r"1 of 3 parts are missing, part-000001\.csv"):
        merge_parts([str(folder)], str(tmp_path / "x.csv"))
    part.write_bytes(good)
    record = folder / "_manylabel" / "part-000001.json"
    record.write_text(record.read_text().replace('"rows": 20', '"rows": 19'))
    with pytest.raises(DataError, match="holds 19 rows from 20; expected 20 rows from 20"):
        merge_parts([str(folder)], str(tmp_path / "x.csv"))
    with pytest.raises(InputError, match="holds no run"):
        merge_parts([str(tmp_path)], str(tmp_path / "x.csv"))


def test_job_specification_round_trip(rows: Path, tmp_path: Path, score_here: ScoreHere) -> None:
    score_here(rows, output=tmp_path / "out", shard_rows=20)
    job = Job.load(str(tmp_path / "out"))
    assert Job.from_json(job.output, job.to_json()) == job
    assert [shard.first for shard in job.plan.shards] == [0, 20, 40]
    assert len(job.digest) == 64
