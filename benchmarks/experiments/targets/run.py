"""Which performance targets do the committed results reach? `python -m experiments.targets.run benchmarks/results`.

Compares the results of each model on short texts and on a mix with the targets in `targets.toml`, and draws
`README.md`.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from manylabel_bench.results import tables
from manylabel_bench.results.document import RESULT, read_document

HERE = Path(__file__).parent
OURS, REFERENCE = "manylabel int8", "pytorch"
EQUAL_F1 = 0.005
"""Macro-F1 that a baseline may lose compared with PyTorch and still count as equally accurate."""
TEXTS = "GoEmotions, and those with game reviews"
MODELS = (
    ("MiniLM-L6", "goemotions-minilm", "mix-minilm", TEXTS),
    ("multilingual-e5-small", "mobasa-e5", "mix-e5", "MobASA, and those with game reviews"),
    ("BERT-base, untrained", "bert-base", "mix-bert-base", TEXTS),
)
"""Name, results on short texts and on a mix with long ones, and a description of the texts."""

Results = Mapping[str, Mapping[str, Any]]
"""The result documents `short` and `mix` of a model."""


def measured_value(target: Mapping[str, Any], results: Results) -> float | None:
    """Return the measured value of a target, or None if it was not measured."""
    document = results[target.get("result", "short")]
    baseline_figure = target.get("over_figure", target["figure"])
    try:
        value = _read_figure(document, target.get("of", OURS), target["figure"])
        baselines = [_read_figure(document, name, baseline_figure) for name in target.get("over", ())]
    except (KeyError, TypeError):
        return None
    return value / max(baselines) if baselines else value


def table_row(target: Mapping[str, Any], results: Results) -> list[str]:
    """Return the row of a target: its limits, the measured value and the verdict."""
    form = target.get("format", "{:.2f}x")
    limits = [form.format(target[limit]) for limit in ("at_least", "stretch")]
    value = measured_value(target, results)
    if value is None:
        return [target["name"], *limits, tables.ABSENT, ""]
    if _ratio_to_limit(target, value, "stretch") >= 1:
        verdict = "stretch"
    else:
        reached = _ratio_to_limit(target, value, "at_least")
        verdict = "reached" if reached >= 1 else f"{1 - reached:.0%} short"
    return [target["name"], *limits, form.format(value), verdict + _describe_lost_f1(target, results)]


def render_readme(folder: Path, targets: Mapping[str, Any]) -> str:
    """Return the page: a table per model, and notes on the targets that were missed."""
    return "\n".join([*_page_lines(folder, targets), ""])


def _page_lines(folder: Path, targets: Mapping[str, Any]) -> Iterator[str]:
    yield from ("# Which performance targets are reached", "", "`make readme`", "")
    yield (
        "manylabel in int8; all contenders on the same two cores. The last column names baselines whose macro-F1 is "
        f"more than {EQUAL_F1} below PyTorch's."
    )
    for model, short, mix, texts in MODELS:
        if not all((folder / name / RESULT).exists() for name in (short, mix)):
            continue
        results = {"short": read_document(folder / short), "mix": read_document(folder / mix)}
        machines = dict.fromkeys(_describe_processor(results[name]["machine"]) for name in ("short", "mix"))
        short_link, mix_link = (f"{os.path.relpath(folder, HERE)}/{name}/README.md" for name in (short, mix))
        yield from ("", f"## {model}", "")
        yield f"[Short texts]({short_link}) and [mix]({mix_link}): {texts}. On {' and '.join(machines)}."
        rows = [table_row(target, results) for target in targets["targets"]]
        yield from ("", *tables.to_markdown([["", "at least", "stretch", "measured", ""], *rows]))
        if missed := [row[0] for row in rows if " short" in row[-1]]:
            yield from ("", "Targets that were missed, why, and what was tried:", "")
            notes = targets["notes"].get(model, {})
            yield from (f"- {name}: {notes.get(name, 'not investigated.')}" for name in missed)


def _read_figure(document: Mapping[str, Any], contender: str, path: str) -> float:
    """Return a figure by its dotted path; of a list the maximum."""
    value: Any = tables.find_row(document, contender)
    for key in path.split("."):
        value = value[key]
    return float(max(value) if isinstance(value, list) else value)


def _ratio_to_limit(target: Mapping[str, Any], value: float, limit: str) -> float:
    """Return how much of a limit is reached: at least 1 if it is met."""
    ratio = float(value / target[limit])
    return 1 / ratio if target.get("lower_is_better") else ratio


def _describe_lost_f1(target: Mapping[str, Any], results: Results) -> str:
    """Return the macro-F1 that a target's baselines lose, for those that are not equally accurate."""
    baselines = target.get("over", ()) if target["figure"].startswith("texts_per_second") else ()
    try:
        reference = _read_figure(results["short"], REFERENCE, "macro_f1")
        lost = {name: reference - _read_figure(results["short"], name, "macro_f1") for name in baselines}
    except KeyError:
        return ""
    return "".join(f"; {name} loses {by:.3f} of macro-F1" for name, by in lost.items() if by > EQUAL_F1)


def _describe_processor(machine: Mapping[str, Any]) -> str:
    return f"{machine['cpu']} ({', '.join(machine['flags'])})"


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Draw README.md from the results in FOLDER."""
    targets = tomllib.loads((HERE / "targets.toml").read_text(encoding="utf-8"))
    (HERE / "README.md").write_text(render_readme(folder.absolute(), targets), encoding="utf-8")


if __name__ == "__main__":
    main()
