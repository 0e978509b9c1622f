"""Compare several ways of training, each with several seeds; an interrupted comparison resumes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from experiments.common import result_io
from manylabel_bench.results import tables
from manylabel_train.data.dataset import Dataset, read_dataset
from manylabel_train.models import DEFAULT_MODEL
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

ENOUGH_SEEDS = 3
"""With fewer seeds the page warns that differences may be due to chance."""

SPREAD_NOTE = (
    "Means over seeds, with the standard deviation where there are several. The seed determines the order of the "
    "texts, dropout and the new head"
)
Result = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What is compared, how a run is trained, and how it is shown.

    Attributes:
        module: The folder of the experiment.
        way: The word for a way of training, in an option and in a run.
        ways: Its plural, in the result.
        settings: The ways of each setting, by the setting's name.
        prepare: From data, a way, a seed and the command's options to the data and configuration to train with.
        select_figures: From a trained run's metrics to those that are kept.
        columns: The path of a figure in a run, by the column's heading.
        note: From the numbers of texts by split to a description of the figures, with `SPREAD_NOTE` in it.
    """

    module: str
    way: str
    ways: str
    settings: Mapping[str, Sequence[str] | Mapping[str, Any]]
    prepare: Callable[[Dataset, str, int, Mapping[str, Any]], tuple[Dataset, TrainConfig]]
    select_figures: Callable[[Mapping[str, Any]], Result]
    columns: Mapping[str, Sequence[str]]
    note: Callable[[Mapping[str, int]], str]

    def build_command(self, purpose: str) -> click.Command:
        """Return the command that measures, with `purpose` as its help."""
        parameters: list[click.Parameter] = [
            click.Argument(["setting"], type=click.Choice(list(self.settings))),
            click.Option(["--data"], type=click.Path(path_type=Path), required=True, help="A CSV file with splits."),
            click.Option(["--output"], type=click.Path(path_type=Path), required=True, help="A folder for the result."),
            click.Option(["--title"], required=True, help="The title of README.md."),
            click.Option(["--model"], default=DEFAULT_MODEL, show_default=True, help="The encoder."),
            click.Option(["--cut"], type=click.IntRange(min=1), help="Train on this many of the training rows."),
            click.Option(["--epochs"], type=click.IntRange(min=1), help="Epochs.  [default: as in training]"),
            click.Option(["--seed", "seeds"], type=int, multiple=True, default=(1, 2, 3), show_default=True),
            click.Option([f"--{self.way}", "ways"], multiple=True, help="Run only this.  [default: all of SETTING]"),
        ]
        return click.Command(self.module, params=parameters, callback=self._measure, help=purpose)

    def _measure(self, **options: Any) -> None:
        data = read_dataset(options["data"])
        data = take_training_rows(data, options["cut"]) if options["cut"] else data
        ways = list(self.settings[options["setting"]])
        more = {"setting": options["setting"], "cut": options["cut"], self.ways: ways}
        result = result_io.start_result(options, data, **more)
        for seed in options["seeds"]:
            for way in options["ways"] or ways:
                if (way, seed) in {(run[self.way], run["seed"]) for run in result["runs"]}:
                    continue
                rows, config = self.prepare(data, way, seed, options)
                with TemporaryDirectory() as scratch:
                    trained = train(rows, Path(scratch) / "run", model=options["model"], config=config)
                run = {self.way: way, "seed": seed, **self.select_figures(trained.metrics)}
                result["runs"].append(run | {"recipe": trained.details["recipe"]})
                result_io.write_result(result, options["output"], self.render_readme)
                heading, path = next(iter(self.columns.items()))
                click.echo(f"{way}, seed {seed}: {heading} {_get_nested(run, path):.4f}")
        result_io.write_result(result, options["output"], self.render_readme)

    def table_rows(self, runs: Sequence[Result], ways: Sequence[str]) -> Iterator[list[str]]:
        """Yield one row per way: means over seeds with the standard deviation."""
        for way in ways:
            of_way = [run for run in runs if run[self.way] == way]
            if of_way:
                values = ([_get_nested(run, path) for run in of_way] for path in self.columns.values())
                yield [way, *map(result_io.format_mean_and_sd, values), ", ".join(str(run["seed"]) for run in of_way)]

    def render_readme(self, result: Result) -> str:
        """Return the page of a result."""
        head = [self.way, *self.columns, "seeds"]
        return "\n".join(
            [
                f"# {result['title']}",
                "",
                f"`{self._format_command(result)}`",
                "",
                self.note(result["texts"]),
                "",
                *tables.to_markdown([head, *self.table_rows(result["runs"], result[self.ways])]),
                "",
                *(line for warning in self._missing_runs(result) for line in (warning, "")),
                result_io.format_machine(result["machine"]),
                "",
            ]
        )

    def _format_command(self, result: Result) -> str:
        """Return the command that repeats all runs of the result."""
        options = {"data": result["data"], "output": "FOLDER", "title": result["title"], "cut": result["cut"]}
        options |= {"epochs": result["epochs"]}
        measured = [way for way in result[self.ways] if way in {run[self.way] for run in result["runs"]}]
        repeated = {"seed": sorted({run["seed"] for run in result["runs"]})}
        repeated |= {self.way: measured} if measured != result[self.ways] else {}
        return result_io.format_command(self.module, [result["setting"]], options, repeated)

    def _missing_runs(self, result: Result) -> Iterator[str]:
        """Yield a warning for ways without a run, and for too few seeds."""
        seeds = {way: [run["seed"] for run in result["runs"] if run[self.way] == way] for way in result[self.ways]}
        if missing := [way for way, measured in seeds.items() if not measured]:
            yield f"**Not measured yet: {'; '.join(missing)}.**"
        if any(0 < len(measured) < ENOUGH_SEEDS for measured in seeds.values()):
            yield f"**Fewer than {ENOUGH_SEEDS} seeds: differences of one point may be due to chance.**"


def take_training_rows(data: Dataset, rows: int) -> Dataset:
    """Return the data with `rows` of the training rows, the same ones for every seed of a run, and all other rows."""
    training = np.flatnonzero(np.array(data.split) == "train")
    kept = np.random.default_rng(0).permutation(training)[:rows]
    others = np.flatnonzero(np.array(data.split) != "train")
    return data.take(np.sort(np.concatenate([kept, others])).tolist())


def _get_nested(run: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = run
    for name in path:
        value = value[name]
    return value
