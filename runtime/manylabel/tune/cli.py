"""`manylabel tune`."""

import json
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from manylabel.bundle.signing import open_signed
from manylabel.bundle.variants import choose_variant
from manylabel.classifier import Classifier
from manylabel.cli.rendering import write_utf8
from manylabel.data.cell_validation import check_text, listed
from manylabel.data.labeled_data import USUAL
from manylabel.data.readers.tables import read_rows
from manylabel.errors import DataError, DeviceUnavailable
from manylabel.inference.length_batching import USUAL_TOKENS
from manylabel.inference.ort_session import Device, resolve_device
from manylabel.load_options import Host, Plan, Setting, plan_of
from manylabel.system.cpu_quota import available_cores
from manylabel.tune.benchmark import measure_all, measuring
from manylabel.tune.search_space import beyond_budget, candidates
from manylabel.tune.selection import Choice, Figures, choose

MISSED = 1
"""Exit code where no setting keeps the limit."""


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """Seconds, from `20ms` or `0.5s`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it, or fail with a sentence."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", str(value))
        if not found or not float(found[1]):
            self.fail(f"{value!r} is no time; expected such as 20ms or 0.5s.", param, ctx)
        return float(found[1]) / (1e3 if found[2] == "ms" else 1)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Texts: CSV, TSV, JSONL, Parquet.")
@click.option("--text-column", default=USUAL.text, show_default=True)
@click.option("--p99", type=Duration(), help="Choose only what answers 99 % of single texts within it, such as 20ms.")
@click.option("--price-per-hour", type=click.FloatRange(0, min_open=True), help="Of this machine: shows costs.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="Texts drawn from the data.")
@click.option("--singles", type=click.IntRange(min=1), default=100, show_default=True, help="Single texts a round.")
@click.option("--rounds", type=click.IntRange(min=3), default=5, show_default=True, help="Turns of every setting.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--verify-key", type=click.Path(path_type=Path), help="A public key: tune only a bundle signed by it.")
@click.option("--dry-run", is_flag=True, help="Write no plan.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def tune(
    bundle: Path,
    data: Path,
    text_column: str,
    p99: float | None,
    price_per_hour: float | None,
    limit: int,
    singles: int,
    rounds: int,
    device: Device,
    verify_key: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Find the precision, threads and batches that BUNDLE answers best with on this machine.

    What is found goes into BUNDLE.plan.json beside the bundle, which is used wherever the bundle is loaded here. Leave
    the machine to it meanwhile. Exit codes: 0, 1 where nothing keeps --p99 (no plan is written), 2 for wrong usage or
    input, 3 for a damaged bundle.
    """
    opened, on = open_signed(bundle, verify_key), resolve_device(device)
    texts = _texts(data, text_column, limit)
    usual = Setting(choose_variant(opened, on, "auto").precision, available_cores(), USUAL_TOKENS[on])
    refused = beyond_budget(opened)

    def load(setting: Setting) -> Classifier:
        return Classifier.load(bundle, device=on, verify_key=verify_key, **vars(setting))

    unrecorded = _why_unrecorded(load, usual) if on == "cuda" else None
    tried = candidates(opened, on, available_cores(), refused, cuda_graphs=on == "cuda" and not unrecorded)
    settings = list(dict.fromkeys([usual, *tried]))
    turns = rounds * (len(settings) + 1)
    with tqdm(total=turns, desc="measuring", unit=" turns", disable=not sys.stderr.isatty(), file=sys.stderr) as bar:
        measured = measure_all(settings, usual, texts, measuring(load), rounds=rounds, singles=singles, done=bar.update)
    choice = choose(measured, usual, p99=p99, refused=refused)
    written = None
    if choice.chosen and not dry_run:
        written = plan_of(opened.path)
        said = {"texts": len(texts), "rounds": rounds, "p99_limit_ms": _ms(p99), **_figures(choice)}
        Plan(opened.digest, on, Host.here(), choice.chosen, said).write(written)
    write_utf8()
    report = _Report(choice, refused, unrecorded, written, _ms(p99), price_per_hour)
    if as_json:
        whole = {"bundle": opened.digest, "device": on, "machine": asdict(Host.here()), **report.document()}
        click.echo(json.dumps(whole, ensure_ascii=False))
    else:
        for line in report.lines():
            click.echo(line)
    if not choice.chosen:
        sys.exit(MISSED)


def _texts(data: Path, column: str, limit: int) -> list[str]:
    """Texts of a file, drawn at random where there are more than the limit; the same ones every time."""
    rows = read_rows(data)
    if column not in rows[0][1]:
        raise DataError(f"{data} has no column {column!r}; it has {listed(list(rows[0][1]))}. Name one: --text-column.")
    texts = [check_text(row.get(column), where) for where, row in rows]
    return random.Random(0).sample(texts, min(limit, len(texts)))  # noqa: S311  # a sample, not a secret


def _why_unrecorded(load: Callable[[Setting], Classifier], usual: Setting) -> str | None:
    """Why CUDA graphs are not to be measured; None where they can be recorded."""
    try:
        load(replace(usual, cuda_graphs=True))
    except DeviceUnavailable as exc:
        return str(exc)
    return None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _figures(choice: Choice) -> dict[str, Any]:
    """Those of the setting that was chosen."""
    chosen = next(each for each in choice.figures if each.setting == choice.chosen)
    return {name: value for name, value in vars(chosen).items() if isinstance(value, float)}


@dataclass(frozen=True)
class _Report:
    """What was found, for people and for programs."""

    choice: Choice
    refused: Mapping[str, str]
    unrecorded: str | None
    written: Path | None
    limit: float | None
    price: float | None

    def document(self) -> dict[str, Any]:
        choice = self.choice
        return {
            "chosen": choice.chosen and asdict(choice.chosen),
            "usual": asdict(choice.usual),
            "plan": self.written and str(self.written),
            "p99_limit_ms": self.limit,
            "noise": choice.noise,
            "refused": self.refused,
            "cuda_graphs_refused": self.unrecorded,
            "settings": [
                {**asdict(each), "cost_per_million": self.price and each.cost_per_million(self.price)}
                for each in choice.figures
            ],
        }

    def lines(self) -> Iterator[str]:
        cost = f"{'per million':>13}" if self.price else ""
        yield f"  {'':<45}{'texts/s':>10}{'against usual':>15}{'p50 ms':>9}{'p99 ms':>9}{'at most':>9}{cost}"
        for each in self.choice.figures:
            yield self._line(each)
        yield ""
        for precision, said in self.refused.items():
            yield f"{precision} is not to be chosen, it is beyond the bundle's budget: {said}."
        if self.unrecorded:
            yield f"CUDA graphs are not measured: {self.unrecorded}"
        yield f"Noise: the usual setting differs from itself by up to {self.choice.noise:.1%}."
        yield from self._conclusion()

    def _line(self, each: Figures) -> str:
        mark = "✓" if each.setting == self.choice.chosen else "✗" if not each.keeps_limit else " "
        cost = f"{each.cost_per_million(self.price):>13.4f}" if self.price else ""
        return (
            f"{mark} {each.setting!s:<45}{each.texts_per_second:>10,.0f}{each.against_usual:>14.2f}x{each.p50_ms:>9.2f}"
            f"{each.p99_ms:>9.2f}{each.p99_bound_ms:>9.2f}{cost}"
        )

    def _conclusion(self) -> Iterator[str]:
        choice = self.choice
        if choice.chosen is None:
            least = min(each.p99_bound_ms for each in choice.figures)
            yield f"No setting keeps {self.limit:g} ms: the best p99 is {least:.2f} ms at most. No plan is written."
            yield "Ask for less, shorten the texts, or take a smaller model."
            return
        if choice.chosen == choice.usual:
            yield f"The usual setting stays, nothing is faster beyond noise: {choice.usual}."
        else:
            yield f"Chosen: {choice.chosen}; usual is {choice.usual}."
        yield f"plan: {self.written}" if self.written else "No plan is written."
