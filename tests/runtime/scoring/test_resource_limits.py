"""Full and read-only disks, limits on files and memory: an error with the next step, and the run can be resumed."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.helpers.toy import TEXTS
from tests.runtime.conftest import ROOT
from tests.runtime.scoring.conftest import read_jsonl, write_jsonl

from manylabel.data import filesystem

ROWS = [{"id": n, "text": f"{TEXTS[n % 60]} {n}"} for n in range(600)]
MOUNTING = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
"""A shell with mounts of its own, which end with it."""


@pytest.fixture(scope="module")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("mount")
    command = [*MOUNTING, f"mount -t tmpfs tmpfs {folder}"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this system does not allow mounts in a user namespace")


def score(bundle: Path, given: Path, output: Path) -> list[str]:
    options = ("--device", "cpu", "--threads", "1", "--shard-rows", "60")
    return [*(sys.executable, "-m", "manylabel", "score"), *map(str, (bundle, given, "-o", output)), *options]


def assert_one_line(stderr: str, *parts: str) -> None:
    (line,) = stderr.splitlines()
    assert all(part in line for part in parts), line


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("shortage", "parts"),
    [
        (
            "size=100k",
            (
                "CannotWrite: ",
                "has no room for the output (No space left on device; 0 MB are free",
                "Make room there",
                "run the same command again to resume.",
            ),
        ),
        ("ro", ("InputError: ", "cannot be created: Read-only file system. Choose another output.")),
    ],
)
def test_full_disk_error_and_resume_of_a_job(
    bundle: Path, tmp_path: Path, shortage: str, parts: tuple[str, ...]
) -> None:
    """The output's folder is a disk of its own, which becomes larger after the first run."""
    given, place = write_jsonl(tmp_path / "rows.jsonl", ROWS), tmp_path / "place"
    place.mkdir()
    script = (
        f'mount -t tmpfs -o {shortage} tmpfs {place}; "$@"; echo $? > {tmp_path}/code; '
        f'mount -o remount,rw,size=10m {place}; "$@" && cp {place}/out.jsonl {tmp_path}'
    )
    command = [*MOUNTING, script, "sh", *score(bundle, given, place / "out.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "code").read_text() == "2\n"
    assert_one_line(done.stderr, *parts)
    assert [row["id"] for row in read_jsonl(tmp_path / "out.jsonl")] == list(range(600))


def limited(limit: Callable[[], object], command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(  # without coverage's data file, to which the limit would apply, too
        command, capture_output=True, text=True, timeout=120, check=False, preexec_fn=limit, env=environment
    )


def test_file_size_limit_error_and_resume(bundle: Path, tmp_path: Path) -> None:
    given, output = write_jsonl(tmp_path / "rows.jsonl", ROWS), tmp_path / "out.jsonl"
    command = score(bundle, given, output)
    done = limited(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000)), command)
    assert done.returncode == 2
    assert_one_line(
        done.stderr, "CannotWrite: ", "(File too large; ", "ulimit -f", "run the same command again to resume."
    )
    assert not output.exists()
    done = limited(lambda: None, command)
    assert done.returncode == 0, done.stderr
    assert [row["id"] for row in read_jsonl(output)] == list(range(600))


def test_memory_limit_error_and_resume(bundle: Path, tmp_path: Path) -> None:
    """From too little to import numpy up to almost enough, with one output for all attempts."""
    given, output = write_jsonl(tmp_path / "rows.jsonl", ROWS), tmp_path / "out.jsonl"
    command = score(bundle, given, output)
    short = []
    for megabytes in (24, 100, 135, 200, 300, 370, 380, 390, 400, 410, 420, 440, 470):
        done = limited(lambda size=megabytes << 20: resource.setrlimit(resource.RLIMIT_AS, (size, size)), command)
        if done.returncode == 0:  # enough on this machine
            output.unlink()
            continue
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        short.append(done.stderr.splitlines()[-1])  # a library may print its own message before
        assert_one_line(
            short[-1], f"ulimit -v, now {megabytes} MB", "" if "was loaded" in short[-1] else filesystem.RESUME_HINT
        )
    assert short[0].startswith("OutOfMemory: memory ran out while numpy was loaded, which takes ")
    assert any("while pyarrow was loaded" in line for line in short)
    assert limited(lambda: None, command).returncode == 0
    assert limited(lambda: None, score(bundle, given, tmp_path / "whole.jsonl")).returncode == 0
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_batch_out_of_memory_blames_no_row(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it did, the row would be quarantined and lack its prediction."""
    given, output = write_jsonl(tmp_path / "rows.jsonl", [*ROWS, {"id": 600, "text": "SHORT"}]), tmp_path / "out.jsonl"
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "helpers" / "crash_on_text"))
    monkeypatch.setenv("MANYLABEL_TEST_ONCE", str(tmp_path / "once"))
    done = limited(lambda: None, score(bundle, given, output))
    assert done.returncode == 2, done.stderr
    assert_one_line(
        done.stderr, "OutOfMemory: as if", "Committed parts are kept; run the same command again to resume."
    )
    done = limited(lambda: None, score(bundle, given, output))
    summary = json.loads(done.stdout)
    assert (summary["rows_resumed"], summary["errors"]) == (600, 0)


def test_full_stdout_error(bundle: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "manylabel", "predict", str(bundle), "late"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert_one_line(
        done.stderr, "CannotWrite: there is no space left for the output (No space left on device). Free some space"
    )
