"""The committed result of several trainings: `result.json` and a `README.md` drawn from it, written after every run."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.system.atomic_write import atomic_write_text
from manylabel_bench.hardware import describe_hardware
from manylabel_train.data.dataset import Dataset

RESULT = "result.json"


def begin(options: Mapping[str, Any], data: Dataset, **more: Any) -> dict[str, Any]:
    """What an interrupted measurement has in its `runs`, or nothing yet; what it is measured by and on is of now.

    Args:
        options: Of the command: `output`, `title`, `data` and `epochs` are read.
        data: All rows, with their splits.
        more: What else the result tells.
    """
    path = options["output"] / RESULT
    return {
        "title": options["title"],
        "data": data_path(options["data"]),
        "epochs": options["epochs"],
        **more,
        "texts": {name: len(data.part(name)) for name in ("train", "validation", "test")},
        "machine": describe_hardware() | {"threads": os.environ.get("OMP_NUM_THREADS", "all")},
        "runs": json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else [],
    }


def write(result: Mapping[str, Any], folder: Path, page: str) -> None:
    """Write both files; the result is whole at any moment."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / RESULT, json.dumps(result, indent=1) + "\n")
    (folder / "README.md").write_text(page, encoding="utf-8")


def command(module: str, words: Sequence[str], options: Mapping[str, Any], several: Mapping[str, Sequence[Any]]) -> str:
    """What measures again, with data where the Makefile looks for it.

    Args:
        module: The folder of the experiment.
        words: What stands before the options.
        options: By name; those without a value are left out.
        several: Options that are given once for each value.
    """
    line = [*words, *(word for name, value in options.items() if value for word in (f"--{name}", str(value)))]
    line += [word for name, values in several.items() for value in values for word in (f"--{name}", str(value))]
    return shlex.join(["python", "-m", f"experiments.{module}.run", *line])


def data_path(path: Path) -> str:
    """A data set as the Makefile finds it."""
    return f"../shared/data/{path.parent.name}/{path.name}"


def spread(values: Sequence[float | None]) -> str:
    """The mean of what was measured, with the standard deviation where there are several."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{np.mean(known):.4f}"
    return f"{mean} ± {np.std(known, ddof=1):.4f}" if len(known) > 1 else mean


def machine_line(machine: Mapping[str, Any], note: str = "") -> str:
    """What it was measured on, as a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"Machine: {machine['cpu']} ({', '.join(machine['flags'])}){note}, Python {machine['python']}, {versions}."
