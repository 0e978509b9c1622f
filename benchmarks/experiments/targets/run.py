"""How far we meant to reach, and how far we did: `python -m experiments.targets.run benchmarks/results`.

Reads each model's results on short texts and on a mix, and writes `reach.md` beside them. `reach.toml`, there too, has
for what falls short why, and what was tried.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from manylabel_bench.results import document as result
from manylabel_bench.results import tables

PAGE, NOTES, GPU = "reach.md", "reach.toml", "gpu"
OURS, EXACT = "manylabel int8", "pytorch"
EQUAL = 0.005
"""Macro-F1 that a rival may lose and still decides equally."""

One = Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """A model's documents."""

    short: One
    mix: One


@dataclass(frozen=True)
class Model:
    """What is measured, and the folders of its results.

    Attributes:
        name: Heads its table.
        short: The result on short texts.
        mix: On short and long ones.
        texts: What these are.
    """

    name: str
    short: str
    mix: str
    texts: str

    def results(self, folder: Path) -> Results | None:
        """Both documents, where there are both."""
        if all((folder / each / result.RESULT).exists() for each in (self.short, self.mix)):
            return Results(result.read(folder / self.short), result.read(folder / self.mix))
        return None


MODELS = (
    Model("MiniLM-L6", "goemotions-minilm", "mix-minilm", "GoEmotions, and those with game reviews"),
    Model("multilingual-e5-small", "mobasa-e5", "mix-e5", "MobASA, and those with game reviews"),
    Model("BERT-base, untrained", "bert-base", "mix-bert-base", "GoEmotions, and those with game reviews"),
)


@dataclass(frozen=True)
class Aim:
    """A figure that was aimed at.

    Attributes:
        what: In words.
        least: What was to be reached.
        stretch: What would be better still.
        measured: From the results.
        form: How the figures are written.
        most: Whether less is better.
        rivals: Whom it is held against, where their decisions matter.
    """

    what: str
    least: float
    stretch: float
    measured: Callable[[Results], float]
    form: str = "{:.2f}x"
    most: bool = False
    rivals: tuple[str, ...] = ()

    def row(self, results: Results) -> list[str]:
        """The aim as a row of the table."""
        names = [self.form.format(each) for each in (self.least, self.stretch)]
        found = self.found(results)
        if found is None:
            return [self.what, *names, tables.ABSENT, ""]
        return [self.what, *names, self.form.format(found), self._verdict(found) + self._unequal(results)]

    def found(self, results: Results) -> float | None:
        """What was measured, or None."""
        try:
            return self.measured(results)
        except (KeyError, TypeError):
            return None

    def falls_short(self, results: Results) -> bool:
        """Whether it was measured, and is not reached."""
        found = self.found(results)
        return found is not None and self._against(found, self.least) < 1

    def _verdict(self, found: float) -> str:
        if self._against(found, self.stretch) >= 1:
            return "stretch"
        least = self._against(found, self.least)
        return "reached" if least >= 1 else f"{1 - least:.0%} short"

    def _against(self, found: float, limit: float) -> float:
        """Of two figures the better one is the greater, unless less is better."""
        return limit / found if self.most else found / limit

    def _unequal(self, results: Results) -> str:
        """Of rivals whose decisions are worse, by how much."""
        try:
            exact = _one(results.short, EXACT)["macro_f1"]
            lost = {name: exact - _one(results.short, name)["macro_f1"] for name in self.rivals}
        except KeyError:
            return ""
        return "".join(f"; {name} loses {by:.3f} of macro-F1" for name, by in lost.items() if by > EQUAL)


def _one(document: One, name: str) -> One:
    return tables.contender(document, name)


def _faster(document: One, names: tuple[str, ...]) -> float:
    """Our texts a second over those of the fastest of some."""
    return tables.rate(_one(document, OURS)) / max(tables.rate(_one(document, name)) for name in names)


def _bulk(what: str, rivals: tuple[str, ...], short: tuple[float, float], mix: tuple[float, float]) -> tuple[Aim, Aim]:
    """An aim for short texts, and one for the mix."""
    return (
        Aim(f"bulk, {what}: short texts", *short, lambda results: _faster(results.short, rivals), rivals=rivals),
        Aim(f"bulk, {what}: mix", *mix, lambda results: _faster(results.mix, rivals), rivals=rivals),
    )


def _peak(name: str) -> Callable[[Results], float]:
    """Somebody's greatest memory over the mix, over ours."""
    return lambda results: _passes(results, name) / _passes(results, OURS)


def _passes(results: Results, name: str) -> float:
    return float(max(_one(results.mix, name)["memory"]["passes_mb"]))


def _start(results: Results, name: str) -> float:
    return float(_one(results.short, name)["start_warm_seconds"]["median"])


def _length(results: Results, tokens: int) -> Mapping[str, float]:
    found: Mapping[str, float] = _one(results.short, OURS)["scaling"]["length"][str(tokens)]
    return found


def _share(tokens: int) -> Callable[[Results], float]:
    return lambda results: _length(results, tokens)["share_of_peak"]


def _size(results: Results, name: str) -> float:
    return float(_one(results.short, name)["size"]["environment_mb"])


def _p50(results: Results, name: str) -> float:
    return float(_one(results.short, name)["single_text_ms"]["p50"])


def _fastest(document: One, who: str) -> float:
    """Texts a second of the fastest way, on a GPU, whose name begins so."""
    ways: Mapping[str, One] = document["ways"]
    return max(float(each["texts_per_second"]["median"]) for name, each in ways.items() if name.startswith(who))


TUNED = ("pytorch bf16", "pytorch compile", "pytorch bf16 compile")

AIMS = (
    *_bulk("against the pipeline", ("pipeline",), (6, 9), (12, 18)),
    *_bulk("against PyTorch in fp32, sorted", ("pytorch",), (3.4, 5), (4.2, 6)),
    *_bulk("against PyTorch, best of bf16 and compile", TUNED, (1.8, 2.5), (2.1, 3)),
    *_bulk("against OpenVINO in int8", ("openvino int8",), (1.1, 1.4), (1.1, 1.4)),
    *_bulk("against Optimum's int8, sorted", ("optimum int8",), (1.15, 1.6), (1.8, 2.5)),
    Aim("p50 of one text, PyTorch's over ours", 5, 7, lambda r: _p50(r, "pytorch") / _p50(r, OURS)),
    Aim(
        "p99 over p50, texts of 16 tokens",
        2,
        1.5,
        lambda r: _length(r, 16)["single_p99_ms"] / _length(r, 16)["single_p50_ms"],
        most=True,
    ),
    Aim("start to first answer, the pipeline's over ours", 18, 25, lambda r: _start(r, "pipeline") / _start(r, OURS)),
    Aim("start to first answer, seconds", 0.4, 0.4, lambda r: _start(r, OURS), "{:.2f}", most=True),
    Aim("peak memory over the mix, the pipeline's over ours", 4, 6, _peak("pipeline")),
    Aim("peak memory over the mix, OpenVINO's in int8 over ours", 5, 8, _peak("openvino int8")),
    Aim("environment on disk, PyTorch's over ours", 6, 8, lambda r: _size(r, "pytorch") / _size(r, OURS)),
    Aim("share of the int8 peak in bulk at 16 tokens", 0.4, 0.6, _share(16), "{:.0%}"),
    Aim("share of the int8 peak in bulk at 64 tokens", 0.5, 0.6, _share(64), "{:.0%}"),
    Aim("share of the int8 peak in bulk at 256 tokens", 0.45, 0.6, _share(256), "{:.0%}"),
    Aim(
        "time per token in bulk, 512 tokens over 16",
        2.4,
        2,
        lambda r: _length(r, 16)["tokens_per_second"] / _length(r, 512)["tokens_per_second"],
        most=True,
    ),
)


ON_A_GPU = Aim(
    "bulk, against PyTorch in fp16 with SDPA, sorted",
    1.5,
    3,
    lambda r: _fastest(r.short, "manylabel") / _fastest(r.short, "PyTorch"),
)


def page(folder: Path) -> str:
    """A table for each model whose results lie in a folder, with the notes on what falls short."""
    return "\n".join([*_lines(folder, notes(folder)), ""])


def notes(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """By model and aim, why it falls short."""
    return tomllib.loads((folder / NOTES).read_text(encoding="utf-8")) if (folder / NOTES).exists() else {}


def _lines(folder: Path, said: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    yield from ("# How far it reaches", "")
    yield (
        f"Ours in int8, everyone on the same two cores. Equal decisions are a macro-F1 within {EQUAL}; where a rival's "
        "are not, the last column says so."
    )
    head = ["", "at least", "stretch", "measured", ""]
    for model in MODELS:
        if results := model.results(folder):
            yield from ("", f"## {model.name}", "")
            places = f"[Short texts]({model.short}/README.md) and [mix]({model.mix}/README.md)"
            yield f"{places}: {model.texts}. On {_processors(results)}."
            yield from ("", *tables.markdown([head, *(aim.row(results) for aim in AIMS)]))
            yield from _notes(results, said.get(model.name, {}))
    yield from ("", "## On a GPU", "", *tables.markdown([head, _gpu(folder / GPU)]))


def _processors(results: Results) -> str:
    """What both were measured on: where matrix units make products cheap, all else weighs more."""
    machines = [each["machine"] for each in (results.short, results.mix)]
    return " and ".join(dict.fromkeys(f"{each['cpu']} ({', '.join(each['flags'])})" for each in machines))


def _gpu(folder: Path) -> list[str]:
    """The row of what `make results-gpu` measures, once it has run."""
    if not (folder / result.RESULT).exists():
        return [*ON_A_GPU.row(Results({}, {}))[:-1], "`make results-gpu` has not run on one yet"]
    document = result.read(folder)
    *row, verdict = ON_A_GPU.row(Results(document, {}))
    return [*row, f"{verdict}; on {document['device']}"]


def _notes(results: Results, said: Mapping[str, str]) -> Iterator[str]:
    short = [aim.what for aim in AIMS if aim.falls_short(results)]
    if short:
        yield from ("", "What falls short, why, and what was tried:", "")
        yield from (f"- {what}: {said.get(what, 'not looked into.')}" for what in short)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write the page of the results in FOLDER."""
    (folder / PAGE).write_text(page(folder), encoding="utf-8")


if __name__ == "__main__":
    main()
