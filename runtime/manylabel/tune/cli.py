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

from manylabel.classifier import Classifier
from manylabel.cli.options import device_option
from manylabel.cli.rendering import write_utf8
from manylabel.data.cell_validation import check_text, quote_names
from manylabel.data.labeled_data import DEFAULT_COLUMNS
from manylabel.data.readers.open_table import read_rows
from manylabel.errors import DataError, DeviceUnavailable
from manylabel.hub import open_bundle
from manylabel.inference.ort_loader import Device, resolve_device
from manylabel.load_options import HardwareFingerprint, LoadConfig, default_config
from manylabel.system.hardware_info import available_cores
from manylabel.tune.benchmark import find_over_budget, list_candidates, make_timer, measure_configs
from manylabel.tune.plan import write_plan
from manylabel.tune.selection import ConfigMetrics, Selection, select_config

LIMIT_MISSED = 1
"""Exit code if no configuration keeps the limit."""


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """Seconds, from `20ms` or `0.5s`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds, or fail with a usage error."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", str(value))
        if not match or not float(match[1]):
            self.fail(f"{value!r} is not a duration; expected a value such as 20ms or 0.5s.", param, ctx)
        return float(match[1]) / (1e3 if match[2] == "ms" else 1)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Texts: CSV, TSV, JSONL or Parquet.")
@click.option("--text-column", default=DEFAULT_COLUMNS.text, show_default=True)
@click.option("--p99", type=Duration(), help="Latency limit for 99 % of single texts, such as 20ms.")
@click.option("--price-per-hour", type=click.FloatRange(0, min_open=True), help="Of this machine; to show costs.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="Number of texts to sample.")
@click.option("--singles", type=click.IntRange(min=1), default=100, show_default=True, help="Single texts per round.")
@click.option("--rounds", type=click.IntRange(min=3), default=5, show_default=True, help="Number of rounds.")
@device_option
@click.option(
    "--verify-key",
    type=click.Path(path_type=Path),
    help="A public key: tune the bundle only if it is signed with it (requires the extra sign).",
)
@click.option("--dry-run", is_flag=True, help="Do not write a plan.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
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
    """Find the fastest precision, threads and batch size for BUNDLE on this machine.

    The result is written to BUNDLE.plan.json beside the bundle, and used whenever the bundle is loaded on this machine.
    Do not run anything else meanwhile. Exit codes: 0; 1 if no configuration keeps --p99 (no plan is written); 2 for
    wrong usage or input; 3 for a damaged bundle.
    """
    opened, on = open_bundle(bundle, verify_key=verify_key), resolve_device(device)
    texts = _sample_texts(data, text_column, limit)
    default = default_config(opened, on)
    refused = find_over_budget(opened)

    def load(config: LoadConfig) -> Classifier:
        return Classifier.load(bundle, device=on, verify_key=verify_key, **vars(config))

    no_graphs = _why_no_cuda_graphs(load, default) if on == "cuda" else None
    candidates = list_candidates(opened, on, available_cores(), refused, cuda_graphs=on == "cuda" and not no_graphs)
    configs = list(dict.fromkeys([default, *candidates]))
    total = rounds * (len(configs) + 1)
    with tqdm(total=total, desc="measuring", unit=" runs", disable=not sys.stderr.isatty(), file=sys.stderr) as bar:
        measurements = measure_configs(
            configs, default, texts, make_timer(load), rounds=rounds, singles=singles, progress=bar.update
        )
    selection = select_config(measurements, default, p99=p99, refused=refused)
    plan = None
    if selection.chosen and not dry_run:
        context = {"texts": len(texts), "rounds": rounds, "p99_limit_ms": _to_ms(p99)}
        plan = write_plan(opened, on, selection.chosen, {**context, **_chosen_metrics(selection)})
    write_utf8()
    report = _Report(selection, refused, no_graphs, plan, _to_ms(p99), price_per_hour)
    if as_json:
        machine = asdict(HardwareFingerprint.current())
        document = {"bundle": opened.digest, "device": on, "machine": machine, **report.as_document()}
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        for line in report.format_lines():
            click.echo(line)
    if not selection.chosen:
        sys.exit(LIMIT_MISSED)


def _sample_texts(data: Path, column: str, limit: int) -> list[str]:
    """Return the texts of a file; a reproducible random sample if there are more than the limit."""
    rows = read_rows(data)
    columns = list(rows[0][1])
    if column not in columns:
        raise DataError(f"{data} has no column {column!r}; it has {quote_names(columns)}. Name one with --text-column.")
    texts = [check_text(row.get(column), where) for where, row in rows]
    return random.Random(0).sample(texts, min(limit, len(texts)))  # noqa: S311  # a sample, not a secret


def _why_no_cuda_graphs(load: Callable[[LoadConfig], Classifier], default: LoadConfig) -> str | None:
    """Return why CUDA graphs cannot be captured; `None` if they can."""
    try:
        load(replace(default, cuda_graphs=True))
    except DeviceUnavailable as exc:
        return str(exc)
    return None


def _to_ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _chosen_metrics(selection: Selection) -> dict[str, Any]:
    chosen = next(each for each in selection.metrics if each.setting == selection.chosen)
    return {name: value for name, value in vars(chosen).items() if isinstance(value, float)}


@dataclass(frozen=True)
class _Report:
    """The result of tuning, as text and as JSON."""

    selection: Selection
    refused: Mapping[str, str]
    no_graphs: str | None
    plan: Path | None
    limit_ms: float | None
    price: float | None

    def as_document(self) -> dict[str, Any]:
        selection = self.selection
        return {
            "chosen": selection.chosen and asdict(selection.chosen),
            "usual": asdict(selection.usual),
            "plan": self.plan and str(self.plan),
            "p99_limit_ms": self.limit_ms,
            "noise": selection.noise,
            "refused": self.refused,
            "cuda_graphs_refused": self.no_graphs,
            "settings": [
                {**asdict(each), "cost_per_million": self.price and each.cost_per_million(self.price)}
                for each in selection.metrics
            ],
        }

    def format_lines(self) -> Iterator[str]:
        cost = f"{'per million':>13}" if self.price else ""
        yield f"  {'':<45}{'texts/s':>10}{'vs. default':>15}{'p50 ms':>9}{'p99 ms':>9}{'bound':>9}{cost}"
        for each in self.selection.metrics:
            yield self._format_row(each)
        yield ""
        for precision, reason in self.refused.items():
            yield f"{precision} is not selected, it exceeds the bundle's budget: {reason}."
        if self.no_graphs:
            yield f"CUDA graphs were not measured: {self.no_graphs}"
        yield f"Noise: two timings of the default differ by up to {self.selection.noise:.1%}."
        yield from self._format_conclusion()

    def _format_row(self, each: ConfigMetrics) -> str:
        mark = "✓" if each.setting == self.selection.chosen else "✗" if not each.keeps_limit else " "
        cost = f"{each.cost_per_million(self.price):>13.4f}" if self.price else ""
        return (
            f"{mark} {each.setting!s:<45}{each.texts_per_second:>10,.0f}{each.against_usual:>14.2f}x{each.p50_ms:>9.2f}"
            f"{each.p99_ms:>9.2f}{each.p99_bound_ms:>9.2f}{cost}"
        )

    def _format_conclusion(self) -> Iterator[str]:
        selection = self.selection
        if selection.chosen is None:
            best = min(each.p99_bound_ms for each in selection.metrics)
            yield f"No configuration keeps {self.limit_ms:g} ms: the lowest bound of the p99 is {best:.2f} ms."
            yield "No plan is written."
            yield "Raise the limit, shorten the texts, or use a smaller model."
            return
        if selection.chosen == selection.usual:
            yield f"The default stays, nothing is faster by more than noise: {selection.usual}."
        else:
            yield f"Selected: {selection.chosen}; the default is {selection.usual}."
        yield f"plan: {self.plan}" if self.plan else "No plan is written."
