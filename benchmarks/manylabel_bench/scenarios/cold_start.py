"""How long from the start of a process to its first answer, with all files in memory and with none?

For the second, the pages of every file of the environment, the interpreter and the models are dropped from the page
cache (`posix_fadvise`, which needs no rights); what another process has mapped, or the disk itself remembers, stays.
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

from manylabel_bench.contenders import Kind
from manylabel_bench.runner.process import command, environment, said
from manylabel_bench.scenarios import Field, Samples


def measure(field: Field) -> dict[str, Samples]:
    """Seconds and the state of the cache, for each start."""
    found: dict[str, list[Any]] = {}
    kinds = []
    for kind in field.kinds:  # not counted: what is compiled once is, and all is in memory
        try:
            _first_answer(kind, field)
            kinds.append(kind)
        except RuntimeError as exc:
            field.skipped[kind.name] = str(exc)
    states = [(cache, kind) for cache in ("warm", "cold") for _ in range(field.rounds) for kind in kinds]
    for cache, kind in tqdm(states, desc="starts", unit="start"):
        if cache == "cold":
            drop(files(field))
        found.setdefault(kind.name, []).append({"cache": cache, "seconds": _first_answer(kind, field)})
    return {"cold": found}


def _first_answer(kind: Kind, field: Field) -> float:
    """Seconds until a fresh process has answered one text.

    Raises:
        RuntimeError: It did not.
    """
    with TemporaryFile("w+") as log:
        words = command(kind, field.setting, "--once", field.texts)
        started = time.perf_counter()
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(field.setting.threads)
        ) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("{"):
                    return time.perf_counter() - started
        raise RuntimeError(f"{kind.name} failed: {said(log)}")


def files(field: Field) -> Iterator[Path]:
    """All that a start may read."""
    models = (field.setting.bundle, field.setting.checkpoint, field.setting.prepared)
    roots = {
        *sys.path,
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "scripts")),
        *filter(None, models),
    }
    for root in roots:
        for folder, _, names in os.walk(root):
            yield from (Path(folder) / name for name in names)


def drop(paths: Iterable[Path]) -> None:
    """Drop files' pages from the page cache, as far as nobody has them mapped."""
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
