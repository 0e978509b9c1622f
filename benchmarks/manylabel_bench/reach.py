"""How far we meant to reach, and how far we did: `python -m manylabel_bench.reach benchmarks/results`.

Reads the results of GoEmotions and of the mix, and writes `reach.md` beside them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from manylabel_bench import result, tables

GOEMOTIONS, MIX, PAGE = "goemotions-minilm", "mix-minilm", "reach.md"
OURS = "manylabel int8"
Results = Mapping[str, Mapping[str, Any]]


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
    """

    what: str
    least: float
    stretch: float
    measured: Callable[[Results], float]
    form: str = "{:.2f}x"
    most: bool = False

    def row(self, results: Results) -> list[str]:
        """The aim as a row of the table."""
        names = [self.form.format(each) for each in (self.least, self.stretch)]
        try:
            found = self.measured(results)
        except (KeyError, StopIteration):
            return [self.what, *names, tables.ABSENT, ""]
        return [self.what, *names, self.form.format(found), self._verdict(found)]

    def _verdict(self, found: float) -> str:
        """Of two figures the better one is the greater, unless less is better."""
        against = [(limit / found if self.most else found / limit) for limit in (self.stretch, self.least)]
        if against[0] >= 1:
            return "stretch"
        return "reached" if against[1] >= 1 else f"{1 - against[1]:.0%} short"


def _one(results: Results, of: str, name: str) -> Mapping[str, Any]:
    return tables.contender(results[of], name)


def _faster(of: str, *names: str) -> Callable[[Results], float]:
    """Our texts a second over those of the fastest of some."""
    return lambda results: (
        tables.rate(_one(results, of, OURS)) / max(tables.rate(_one(results, of, name)) for name in names)
    )


def _peak(name: str) -> Callable[[Results], float]:
    """Somebody's greatest memory over the mix, over ours."""
    return lambda results: _passes(results, name) / _passes(results, OURS)


def _passes(results: Results, name: str) -> float:
    return float(max(_one(results, MIX, name)["memory"]["passes_mb"]))


def _start(results: Results, name: str) -> float:
    return float(_one(results, GOEMOTIONS, name)["start_warm_seconds"]["median"])


def _length(results: Results, tokens: int) -> Mapping[str, float]:
    found: Mapping[str, float] = _one(results, GOEMOTIONS, OURS)["scaling"]["length"][str(tokens)]
    return found


def _share(tokens: int) -> Callable[[Results], float]:
    return lambda results: _length(results, tokens)["share_of_peak"]


def _size(results: Results, name: str) -> float:
    return float(_one(results, GOEMOTIONS, name)["size"]["environment_mb"])


def _p50(results: Results, name: str) -> float:
    return float(_one(results, GOEMOTIONS, name)["single_text_ms"]["p50"])


BF16_OR_COMPILED = ("pytorch bf16", "pytorch compile", "pytorch bf16 compile")

AIMS = (
    Aim("bulk, against the pipeline: GoEmotions", 6, 9, _faster(GOEMOTIONS, "pipeline")),
    Aim("the same: mix", 12, 18, _faster(MIX, "pipeline")),
    Aim("bulk, against PyTorch in fp32, sorted: GoEmotions", 3.4, 5, _faster(GOEMOTIONS, "pytorch")),
    Aim("the same: mix", 4.2, 6, _faster(MIX, "pytorch")),
    Aim("bulk, against the best of bf16 and compile: GoEmotions", 1.8, 2.5, _faster(GOEMOTIONS, *BF16_OR_COMPILED)),
    Aim("against bf16: mix", 2.1, 3, _faster(MIX, "pytorch bf16")),
    Aim("bulk, against OpenVINO in int8: GoEmotions", 1.1, 1.4, _faster(GOEMOTIONS, "openvino int8")),
    Aim("the same: mix", 1.1, 1.4, _faster(MIX, "openvino int8")),
    Aim("bulk, against Optimum's int8, sorted: GoEmotions", 1.15, 1.6, _faster(GOEMOTIONS, "optimum int8")),
    Aim("the same: mix", 1.8, 2.5, _faster(MIX, "optimum int8")),
    Aim("p50 of one text, PyTorch's over ours", 5, 7, lambda r: _p50(r, "pytorch") / _p50(r, OURS)),
    Aim(
        "p99 over p50, texts of 16 tokens",
        2,
        1.5,
        lambda r: _length(r, 16)["single_p99_ms"] / _length(r, 16)["single_p50_ms"],
        most=True,
    ),
    Aim(
        "start to first answer, the pipeline's over ours",
        18,
        25,
        lambda r: _start(r, "pipeline") / _start(r, OURS),
    ),
    Aim("start to first answer, seconds", 0.4, 0.4, lambda r: _start(r, OURS), "{:.2f}", most=True),
    Aim("peak memory over the mix, the pipeline's over ours", 4, 6, _peak("pipeline")),
    Aim("peak memory over the mix, OpenVINO's in int8 over ours", 5, 8, _peak("openvino int8")),
    Aim("environment on disk, PyTorch's over ours", 6, 8, lambda r: _size(r, "pytorch") / _size(r, OURS)),
    Aim("share of the int8 peak in bulk at 16 tokens", 0.4, 0.6, _share(16), "{:.0%}"),
    Aim("at 64 tokens", 0.5, 0.6, _share(64), "{:.0%}"),
    Aim("at 256 tokens", 0.45, 0.6, _share(256), "{:.0%}"),
    Aim(
        "time per token in bulk, 512 tokens over 16",
        2.4,
        2,
        lambda r: _length(r, 16)["tokens_per_second"] / _length(r, 512)["tokens_per_second"],
        most=True,
    ),
)


def page(results: Results) -> str:
    """The table."""
    return "\n".join([*_lines(results), ""])


def _lines(results: Results) -> Iterator[str]:
    yield from ("# How far it reaches", "")
    yield (
        f"MiniLM-L6 in int8, from [GoEmotions]({GOEMOTIONS}/README.md) and a [mix of short and long texts]"
        f"({MIX}/README.md), two cores. What falls short, why, and what was tried: "
        "[docs/benchmarks.md](../../docs/benchmarks.md#where-it-falls-short)."
    )
    head = ["", "at least", "stretch", "measured", ""]
    yield from ("", *tables.markdown([head, *(aim.row(results) for aim in AIMS)]))


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write the page of the results in FOLDER."""
    (folder / PAGE).write_text(page({name: result.read(folder / name) for name in (GOEMOTIONS, MIX)}), encoding="utf-8")


if __name__ == "__main__":
    main()
