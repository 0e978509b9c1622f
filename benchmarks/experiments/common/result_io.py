"""The committed result of an experiment: `result.json`, and a `README.md` drawn from it.

Every experiment has a function `render_readme(result)`; a test checks that the committed page is the one that it draws
from the committed result.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.system.atomic_write import atomic_write_text
from manylabel_bench.hardware import describe_hardware
from manylabel_train.data.dataset import Dataset

RESULT = "result.json"
PAGE = "README.md"
HERE = Path(__file__).parent

RenderReadme = Callable[[Any], str]


def start_result(options: Mapping[str, Any], data: Dataset, **more: Any) -> dict[str, Any]:
    """Return a result to which runs are added, with the runs of an earlier, interrupted measurement.

    Args:
        options: The command's options; `output`, `title`, `data` and `epochs` are read.
        data: All rows, with their splits.
        more: More fields of the result.
    """
    path = options["output"] / RESULT
    return {
        "title": options["title"],
        "data": portable_path(options["data"]),
        "epochs": options["epochs"],
        **more,
        "texts": {name: len(data.part(name)) for name in ("train", "validation", "test")},
        "machine": describe_machine(),
        "runs": json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else [],
    }


def write_result(result: Mapping[str, Any], folder: Path, render_readme: RenderReadme) -> None:
    """Write `result.json` atomically with the commit it was measured at, and `README.md`."""
    result = {**result, "commit": current_commit()}
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / RESULT, json.dumps(result, indent=1) + "\n")
    (folder / PAGE).write_text(render_page(result, render_readme), encoding="utf-8")


def render_page(result: Mapping[str, Any], render_readme: RenderReadme) -> str:
    """Return the page of a result, with the commit it was measured at."""
    page = render_readme(result)
    return f"{page}\nMeasured at commit {result['commit']}.\n" if result.get("commit") else page


def describe_machine() -> dict[str, Any]:
    """Return the machine with the number of threads that PyTorch was limited to."""
    return describe_hardware() | {"threads": os.environ.get("OMP_NUM_THREADS", "all")}


def format_command(
    module: str, arguments: Sequence[str], options: Mapping[str, Any], repeated: Mapping[str, Sequence[Any]]
) -> str:
    """Return the command that repeats a measurement.

    Args:
        module: The folder of the experiment.
        arguments: Positional arguments.
        options: Options by name; those without a value are left out.
        repeated: Options that are given once for each value.
    """
    words = [*arguments, *(word for name, value in options.items() if value for word in (f"--{name}", str(value)))]
    words += [word for name, values in repeated.items() for value in values for word in (f"--{name}", str(value))]
    return shlex.join(["python", "-m", f"experiments.{module}.run", *words])


def portable_path(path: Path) -> str:
    """Return the path of a data set relative to the repository, where the Makefile looks for it."""
    return f"../shared/data/{path.parent.name}/{path.name}"


def format_mean_and_sd(values: Sequence[float | None]) -> str:
    """Return the mean, with the standard deviation if there are several values; None is left out.

    >>> format_mean_and_sd([0.5, 0.7, None])
    '0.6000 ± 0.1414'
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{np.mean(known):.4f}"
    return f"{mean} ± {np.std(known, ddof=1):.4f}" if len(known) > 1 else mean


def format_machine(machine: Mapping[str, Any], note: str = "") -> str:
    """Return a sentence that names the processor and the versions."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"Machine: {machine['cpu']} ({', '.join(machine['flags'])}){note}, Python {machine['python']}, {versions}."


def current_commit() -> str:
    """Return the abbreviated commit of the checkout; an empty string outside of one."""
    command = ["git", "-C", str(HERE), "rev-parse", "--short=7", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
