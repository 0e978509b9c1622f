"""Whose splits are best: at random, by the library iterative-stratification, or ours with copies together?

`python -m experiments.splits.run --data DATA.csv --output FOLDER` splits every file's rows anew, whatever splits it
names, into 80 % training, 10 % validation and 10 % test, and writes `result.json` and `README.md`. Nothing is trained.

Without the library its rows are left out. It is no extra: it installs a package named `tests`, which hides everybody's.
`make results-splits` puts it into a folder of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from experiments.common import result_io
from manylabel_bench.hardware import describe_hardware
from manylabel_train.data.dataset import Dataset, read_dataset
from manylabel_train.data.leakage import drop_leaked_rows
from manylabel_train.data.near_duplicates import DuplicateGroups, find_near_duplicates
from manylabel_train.data.splits import SPLITS, assign_splits

SHARES = np.array([0.8, 0.1, 0.1])
COLUMNS = ("greatest deviation, rows", "greatest deviation, %", "validation", "test", "copies on two sides", "seconds")

Parts = NDArray[np.intp]
"""For each row the place of its part in `SPLITS`, shape `(n,)`."""


def at_random(data: Dataset, seed: int) -> Parts:
    """Rows dealt out without a look at them."""
    tenth = len(data) // 10
    order = np.random.default_rng(seed).permutation(len(data))
    parts = np.zeros(len(data), dtype=np.intp)
    parts[order[:tenth]], parts[order[tenth : 2 * tenth]] = 1, 2
    return parts


def by_library(data: Dataset, seed: int) -> Parts:
    """Two of ten folds of iterative-stratification, which knows no copies."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    folds = MultilabelStratifiedKFold(n_splits=10, shuffle=True, random_state=seed)
    parts = np.zeros(len(data), dtype=np.intp)
    for part, (_, rows) in zip((1, 2), folds.split(np.zeros(len(data)), data.targets), strict=False):
        parts[rows] = part
    return parts


def ours(data: Dataset, seed: int) -> Parts:
    """As `manylabel train` splits."""
    split = assign_splits(data, seed=seed).split
    return np.array([SPLITS.index(name) for name in split])


WAYS: dict[str, Callable[[Dataset, int], Parts]] = {
    "at random": at_random,
    "iterative-stratification": by_library,
    "manylabel": ours,
}


def judge(data: Dataset, parts: Parts, copies: DuplicateGroups) -> dict[str, Any]:
    """How far validation and test are from every label's due, their sizes, and what stands on two sides.

    Args:
        data: Labelled texts.
        parts: Where each row went.
        copies: Which of the texts say the same, or nearly.

    Returns:
        The greatest deviation from a label's due in rows (`"rows"`) and relative to it (`"share"`), `"validation"` and
        `"test"` sizes, and rows of these that have a copy or near-copy in an earlier part (`"copies"`).
    """
    due = np.outer(SHARES[1:], (data.targets == 1).sum(axis=0))
    found = np.stack([(data.targets[parts == part] == 1).sum(axis=0) for part in (1, 2)])
    off = np.abs(found - due)
    earlier = [np.isin(copies.near[parts == part], copies.near[parts < part]).sum() for part in (1, 2)]
    return {
        "rows": float(off.max()),
        "share": float((off / np.maximum(due, 1)).max()),
        **{name: int((parts == part).sum()) for part, name in enumerate(SPLITS) if part},
        "copies": int(sum(earlier)),
    }


def measure(data: Dataset, seeds: Sequence[int]) -> dict[str, Any]:
    """Every way and seed on one file's rows, and how many rows its own splits leak."""
    copies, runs = find_near_duplicates(data.texts), []
    for way, split in WAYS.items():
        for seed in () if split is by_library and not find_spec("iterstrat") else seeds:
            started = perf_counter()
            parts = split(replace(data, split=()), seed)
            runs.append({"way": way, "seed": seed, "seconds": perf_counter() - started, **judge(data, parts, copies)})
    leaked = len(data) - len(drop_leaked_rows(data, copies)) if any(data.split) else None
    return {"texts": len(data), "labels": len(data.labels), "leaked": leaked, "runs": runs}


def rows(sets: Mapping[str, dict[str, Any]]) -> Iterator[list[str]]:
    """The table's rows: the worst of all seeds, the sizes of the first, the mean time."""
    for name, measured in sets.items():
        for way in WAYS:
            runs = [run for run in measured["runs"] if run["way"] == way]
            if not runs:
                continue
            worst = {key: max(run[key] for run in runs) for key in ("rows", "share", "copies")}
            yield [
                f"{name}, {measured['texts']:,} rows, {measured['labels']} labels",
                way,
                f"{worst['rows']:.1f}",
                f"{worst['share']:.0%}",
                *(f"{runs[0][part]:,}" for part in SPLITS[1:]),
                f"{worst['copies']:,}",
                f"{np.mean([run['seconds'] for run in runs]):.1f}",
            ]


def markdown(result: Mapping[str, Any]) -> str:
    """The table with what it was measured on and by."""
    head = ["data", "way", *COLUMNS]
    leaks = [
        f"{name}: {measured['leaked']:,}" for name, measured in result["sets"].items() if measured["leaked"] is not None
    ]
    return "\n".join(
        [
            "# Splits: at random, by iterative-stratification, and ours",
            "",
            f"`{result['command']}`",
            "",
            "80 % training, 10 % validation, 10 % test, made anew. Deviation is from a label's due, 10 % of its rows, "
            "in validation and test; relative to less than one row, to one row. Copies are rows of validation or test "
            "that have a copy or near-copy in an earlier part. Deviations and copies are the worst of the seeds "
            f"{', '.join(map(str, result['seeds']))}, seconds their mean; ours include the search for copies.",
            "",
            *("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows(result["sets"]))),
            "",
            f"Training rows with a copy or near-copy in validation or test, in the splits that came with the data: "
            f"{'; '.join(leaks)}.",
            "",
            result_io.machine_line(result["machine"], note=", shared with other work"),
            "",
        ]
    )


@click.command()
@click.option("--data", "files", type=click.Path(path_type=Path), required=True, multiple=True, help="Labelled texts.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="For result.json and README.md.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True)
def main(files: Sequence[Path], output: Path, seeds: Sequence[int]) -> None:
    """Split every file in every way."""
    words = {"data": [result_io.data_path(file) for file in files], "seed": seeds}
    result = {
        "command": result_io.command("splits", [], {"output": "FOLDER"}, words),
        "seeds": list(seeds),
        "sets": {file.parent.name: measure(read_dataset(file), seeds) for file in files},
        "machine": describe_hardware(),
    }
    result_io.write(result, output, markdown(result))
    click.echo(markdown(result))


if __name__ == "__main__":
    main()
