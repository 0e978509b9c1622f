"""Cold start: how long from the start of a process to its first answer, with all files in the page cache and with none?

For the second figure, the pages of every file of the environment, the interpreter and the models are dropped from the
page cache (`posix_fadvise`, which needs no privileges). Pages that another process has mapped stay, and so does what
the disk itself caches.
"""

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tqdm import tqdm

from manylabel_bench.contenders.registry import ContenderSpec
from manylabel_bench.runner.process import (
    BenchContext,
    ContenderFailed,
    Samples,
    last_line,
    worker_command,
    worker_environment,
)


def measure_cold_start(context: BenchContext) -> dict[str, Samples]:
    """Measure the seconds of each start, with the state of the page cache."""
    samples: dict[str, list[Any]] = {}
    able = []
    for spec in context.contenders:  # not counted: compiles what is compiled once, and fills the page cache
        try:
            _time_to_first_answer(spec, context)
            able.append(spec)
        except ContenderFailed as exc:
            context.skipped[spec.name] = str(exc)
    starts = [(cache, spec) for cache in ("warm", "cold") for _ in range(context.rounds) for spec in able]
    for cache, spec in tqdm(starts, desc="starts", unit="start"):
        if cache == "cold":
            drop_from_page_cache(files_read_at_start(context))
        samples.setdefault(spec.name, []).append({"cache": cache, "seconds": _time_to_first_answer(spec, context)})
    return {"cold": samples}


def _time_to_first_answer(spec: ContenderSpec, context: BenchContext) -> float:
    """Return the seconds until a fresh process has scored one text.

    Raises:
        ContenderFailed: The process ended without an answer.
    """
    with TemporaryFile("w+") as log:
        command = worker_command(spec, context.config, "--once", context.texts)
        environment = worker_environment(context.config.threads)
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("{"):
                    return time.perf_counter() - started
        raise ContenderFailed(f"{spec.name} failed: {last_line(log)}")


def files_read_at_start(context: BenchContext) -> Iterator[Path]:
    """Yield every file that a start may read."""
    models = (context.config.bundle, context.config.checkpoint, context.config.prepared)
    roots = {
        *sys.path,
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "scripts")),
        *filter(None, models),
    }
    for root in roots:
        for folder, _, names in os.walk(root):
            yield from (Path(folder) / name for name in names)


def drop_from_page_cache(paths: Iterable[Path]) -> None:
    """Drop the pages of files from the page cache, except those that a process has mapped."""
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
