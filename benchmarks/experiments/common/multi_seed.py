"""Ways of training beside each other, each with several seeds: a command whose result goes on where it stood."""

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

WANTED = 3
"""Seeds; of fewer it is said that they are few."""

SPREAD = (
    "Mean over seeds, and standard deviation where there are several. A seed draws the order of the texts, dropout, "
    "the fresh head"
)
Result = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how a run of it is made and shown.

    Attributes:
        module: Of this package, which measures again.
        way: What a way of training is called, in an option and in a run.
        ways: The same of several, in the result.
        settings: By name of a setting, its ways.
        given: From data, a way, a seed and the command's options to what is trained on, and how.
        figures: From a trained run's metrics to those that are kept.
        columns: By heading, where the figure is in a run.
        note: From the numbers of texts by split to what the figures are, `SPREAD` in it.
    """

    module: str
    way: str
    ways: str
    settings: Mapping[str, Sequence[str] | Mapping[str, Any]]
    given: Callable[[Dataset, str, int, Mapping[str, Any]], tuple[Dataset, TrainConfig]]
    figures: Callable[[Mapping[str, Any]], Result]
    columns: Mapping[str, Sequence[str]]
    note: Callable[[Mapping[str, int]], str]

    def command(self, purpose: str) -> click.Command:
        """The command that measures.

        Args:
            purpose: Its help.
        """
        parameters: list[click.Parameter] = [
            click.Argument(["setting"], type=click.Choice(list(self.settings))),
            click.Option(["--data"], type=click.Path(path_type=Path), required=True, help="A CSV file with splits."),
            click.Option(["--output"], type=click.Path(path_type=Path), required=True, help="A folder for the result."),
            click.Option(["--title"], required=True, help="Heads README.md."),
            click.Option(["--model"], default=DEFAULT_MODEL, show_default=True, help="The encoder."),
            click.Option(["--cut"], type=click.IntRange(min=1), help="Take so many of the training rows."),
            click.Option(["--epochs"], type=click.IntRange(min=1), help="Passes over the data.  [default: usual]"),
            click.Option(["--seed", "seeds"], type=int, multiple=True, default=(1, 2, 3), show_default=True),
            click.Option([f"--{self.way}", "ways"], multiple=True, help="Some alone.  [default: all of the setting]"),
        ]
        return click.Command(self.module, params=parameters, callback=self._measure, help=purpose)

    def _measure(self, **options: Any) -> None:
        data = read_dataset(options["data"])
        data = cut(data, options["cut"]) if options["cut"] else data
        ways = list(self.settings[options["setting"]])
        more = {"setting": options["setting"], "cut": options["cut"], self.ways: ways}
        result = result_io.begin(options, data, **more)
        for seed in options["seeds"]:
            for way in options["ways"] or ways:
                if (way, seed) in {(run[self.way], run["seed"]) for run in result["runs"]}:
                    continue
                given, recipe = self.given(data, way, seed, options)
                with TemporaryDirectory() as scratch:
                    trained = train(given, Path(scratch) / "run", model=options["model"], config=recipe)
                run = {self.way: way, "seed": seed, **self.figures(trained.metrics)}
                result["runs"].append(run | {"recipe": trained.details["recipe"]})
                result_io.write(result, options["output"], self.page(result))
                heading, place = next(iter(self.columns.items()))
                click.echo(f"{way}, seed {seed}: {heading} {_at(run, place):.4f}")
        result_io.write(result, options["output"], self.page(result))

    def rows(self, runs: Sequence[Result], ways: Sequence[str]) -> Iterator[list[str]]:
        """The table's rows, one a way: means over seeds with the standard deviation."""
        for way in ways:
            of_way = [run for run in runs if run[self.way] == way]
            if of_way:
                figures = [result_io.spread([_at(run, place) for run in of_way]) for place in self.columns.values()]
                yield [way, *figures, ", ".join(str(run["seed"]) for run in of_way)]

    def page(self, result: Result) -> str:
        """The table with what it was measured on and by."""
        head = [self.way, *self.columns, "seeds"]
        return "\n".join(
            [
                f"# {result['title']}",
                "",
                f"`{self._again(result)}`",
                "",
                self.note(result["texts"]),
                "",
                *tables.to_markdown([head, *self.rows(result["runs"], result[self.ways])]),
                "",
                *(line for said in self._missing(result) for line in (said, "")),
                result_io.machine_line(result["machine"]),
                "",
            ]
        )

    def _again(self, result: Result) -> str:
        """What measures again all that has been measured."""
        options = {"data": result["data"], "output": "FOLDER", "title": result["title"], "cut": result["cut"]}
        options |= {"epochs": result["epochs"]}
        measured = [way for way in result[self.ways] if way in {run[self.way] for run in result["runs"]}]
        several = {"seed": sorted({run["seed"] for run in result["runs"]})}
        several |= {self.way: measured} if measured != result[self.ways] else {}
        return result_io.command(self.module, [result["setting"]], options, several)

    def _missing(self, result: Result) -> Iterator[str]:
        """What there was no time for, said plainly."""
        seeds = {way: [run["seed"] for run in result["runs"] if run[self.way] == way] for way in result[self.ways]}
        none = [way for way, measured in seeds.items() if not measured]
        if none:
            yield f"**Not measured yet: {'; '.join(none)}.**"
        if any(0 < len(measured) < WANTED for measured in seeds.values()):
            yield f"**Fewer than {WANTED} seeds: differences of a point may be chance.**"


def cut(data: Dataset, rows: int) -> Dataset:
    """The same `rows` of the training rows whatever the seed of the run, and all others."""
    training = np.flatnonzero(np.array(data.split) == "train")
    kept = np.random.default_rng(0).permutation(training)[:rows]
    others = np.flatnonzero(np.array(data.split) != "train")
    return data.take(np.sort(np.concatenate([kept, others])).tolist())


def _at(run: Mapping[str, Any], place: Sequence[str]) -> Any:
    found: Any = run
    for name in place:
        found = found[name]
    return found
