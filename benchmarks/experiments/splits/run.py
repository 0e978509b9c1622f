"""Which splits are best: random ones, those of iterative-stratification, or ours, which keep near-duplicates together?

`python -m experiments.splits.run --data DATA.csv --output FOLDER` splits the rows of every file, ignoring its own
splits, into 80 % training, 10 % validation and 10 % test, and writes `result.json` and `README.md`. Nothing is trained.

Without the library iterative-stratification its rows are left out. It is not an extra, because it installs a top-level
package named `tests`, which shadows others; `make results-splits` puts it into a folder of its own.
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
COLUMNS = ("max. deviation, rows", "max. deviation, %", "validation", "test", "copies across splits", "seconds")

Parts = NDArray[np.intp]
"""For each row the place of its part in `SPLITS`, shape `(n,)`."""


def split_randomly(data: Dataset, seed: int) -> Parts:
    """Assign rows at random."""
    tenth = len(data) // 10
    order = np.random.default_rng(seed).permutation(len(data))
    parts = np.zeros(len(data), dtype=np.intp)
    parts[order[:tenth]], parts[order[tenth : 2 * tenth]] = 1, 2
    return parts


def split_iteratively(data: Dataset, seed: int) -> Parts:
    """Take two of ten folds of iterative-stratification, which ignores duplicates."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    folds = MultilabelStratifiedKFold(n_splits=10, shuffle=True, random_state=seed)
    parts = np.zeros(len(data), dtype=np.intp)
    for part, (_, rows) in zip((1, 2), folds.split(np.zeros(len(data)), data.targets), strict=False):
        parts[rows] = part
    return parts


def split_as_training(data: Dataset, seed: int) -> Parts:
    """Split as `manylabel train` does."""
    split = assign_splits(data, seed=seed).split
    return np.array([SPLITS.index(name) for name in split])


WAYS: dict[str, Callable[[Dataset, int], Parts]] = {
    "at random": split_randomly,
    "iterative-stratification": split_iteratively,
    "manylabel": split_as_training,
}


def evaluate_split(data: Dataset, parts: Parts, copies: DuplicateGroups) -> dict[str, Any]:
    """Return how far validation and test are from every label's expected share, their sizes, and the leaked copies.

    Args:
        data: Labelled texts.
        parts: The part of each row.
        copies: The duplicates and near-duplicates among the texts.

    Returns:
        The largest deviation from a label's expected number of rows (`"rows"`) and relative to it (`"share"`),
        `"validation"` and `"test"` sizes, and their rows with a near-duplicate in an earlier part (`"copies"`).
    """
    expected = np.outer(SHARES[1:], (data.targets == 1).sum(axis=0))
    counts = np.stack([(data.targets[parts == part] == 1).sum(axis=0) for part in (1, 2)])
    deviation = np.abs(counts - expected)
    earlier = [np.isin(copies.near[parts == part], copies.near[parts < part]).sum() for part in (1, 2)]
    return {
        "rows": float(deviation.max()),
        "share": float((deviation / np.maximum(expected, 1)).max()),
        **{name: int((parts == part).sum()) for part, name in enumerate(SPLITS) if part},
        "copies": int(sum(earlier)),
    }


def measure_splits(data: Dataset, seeds: Sequence[int]) -> dict[str, Any]:
    """Evaluate every method and seed on the rows of one file, and count the rows that its own splits leak."""
    copies, runs = find_near_duplicates(data.texts), []
    for way, split in WAYS.items():
        for seed in () if split is split_iteratively and not find_spec("iterstrat") else seeds:
            started = perf_counter()
            parts = split(replace(data, split=()), seed)
            runs.append(
                {"way": way, "seed": seed, "seconds": perf_counter() - started, **evaluate_split(data, parts, copies)}
            )
    leaked = len(data) - len(drop_leaked_rows(data, copies)) if any(data.split) else None
    return {"texts": len(data), "labels": len(data.labels), "leaked": leaked, "runs": runs}


def table_rows(sets: Mapping[str, dict[str, Any]]) -> Iterator[list[str]]:
    """Yield the table's rows: the worst of all seeds, the sizes of the first, the mean time."""
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


def render_readme(result: Mapping[str, Any]) -> str:
    """Return the page of a result."""
    head = ["data", "method", *COLUMNS]
    leaks = [
        f"{name}: {measured['leaked']:,}" for name, measured in result["sets"].items() if measured["leaked"] is not None
    ]
    return "\n".join(
        [
            "# Splits: random, iterative-stratification, and manylabel",
            "",
            f"`{result['command']}`",
            "",
            "80 % training, 10 % validation, 10 % test, ignoring the splits of the data. The deviation is that from "
            "10 % of a label's rows in validation and test; it is relative to at least one row. Copies are rows of "
            "validation or test with a duplicate or near-duplicate in an earlier part. Deviations and copies are "
            f"the worst of the seeds {', '.join(map(str, result['seeds']))}, seconds their mean; manylabel's include "
            "the search for near-duplicates.",
            "",
            *("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *table_rows(result["sets"]))),
            "",
            f"Training rows with a near-duplicate in validation or test, in the splits that came with the data: "
            f"{'; '.join(leaks)}.",
            "",
            result_io.format_machine(result["machine"], note=", shared with other work"),
            "",
        ]
    )


@click.command()
@click.option("--data", "files", type=click.Path(path_type=Path), required=True, multiple=True, help="Labelled texts.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="For result.json and README.md.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True)
def main(files: Sequence[Path], output: Path, seeds: Sequence[int]) -> None:
    """Split every file with every method."""
    words = {"data": [result_io.portable_path(file) for file in files], "seed": seeds}
    result = {
        "command": result_io.format_command("splits", [], {"output": "FOLDER"}, words),
        "seeds": list(seeds),
        "sets": {file.parent.name: measure_splits(read_dataset(file), seeds) for file in files},
        "machine": describe_hardware(),
    }
    result_io.write_result(result, output, render_readme)
    click.echo(render_readme(result))


if __name__ == "__main__":
    main()
