"""Tables of a result: columns that read one contender each, for the terminal, for Markdown and for the README."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

One = Mapping[str, Any]
Column = tuple[str, Callable[[One, Mapping[str, Any]], str]]
ABSENT = "not measured"


def render(columns: Sequence[Column], result: Mapping[str, Any]) -> list[list[str]]:
    """Head and rows; contenders and columns of which nothing was measured are left out."""
    body = []
    for one in result["contenders"]:
        cells = [_cell(read, one, result) for _, read in columns]
        if any(cell is not None for cell in cells):
            body.append([one["name"], *(cell or ABSENT for cell in cells)])
    kept = [0] + [at for at in range(1, len(columns) + 1) if any(row[at] != ABSENT for row in body)]
    return [[row[at] for at in kept] for row in (["", *(head for head, _ in columns)], *body)]


def markdown(table: Sequence[Sequence[str]]) -> list[str]:
    """A table's lines; the first row is its head."""
    head, *body = table
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]


def plain(table: Sequence[Sequence[str]]) -> str:
    """A table for a terminal."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    )


def _cell(read: Callable[[One, Mapping[str, Any]], str], one: One, result: Mapping[str, Any]) -> str | None:
    """What a column says of a contender, or None where its scenario was not measured."""
    try:
        return read(one, result)
    except (KeyError, TypeError, ValueError):  # no such figure, or none to hold it against
        return None


def rate(one: One) -> float:
    """Texts a second."""
    return float(one["texts_per_second"]["median"])


def contender(result: Mapping[str, Any], name: str) -> One:
    """A contender's row.

    Raises:
        KeyError: It was not measured.
    """
    found: dict[str, One] = {one["name"]: one for one in result["contenders"]}
    return found[name]


def fastest_of_ours(result: Mapping[str, Any]) -> One:
    """The variant of the bundle that answers most texts a second."""
    mine = [one for one in result["contenders"] if one["name"].startswith("manylabel ") and "texts_per_second" in one]
    return max(mine, key=rate)


def _spread(one: One) -> str:
    figure = one["texts_per_second"]
    ends = f" ({figure['low']:,.0f} to {figure['high']:,.0f})" if "low" in figure else ""
    return f"{figure['median']:,.0f}{ends}"


RATE: Column = ("texts/s", lambda one, _: f"{rate(one):,.0f}")
AGAINST_PIPELINE: Column = (
    "against pipeline",
    lambda one, result: f"{rate(one) / rate(contender(result, 'pipeline')):.1f}x",
)
P50: Column = ("one text, p50 ms", lambda one, _: f"{one['single_text_ms']['p50']:.1f}")
PEAK_MB: Column = ("peak MB", lambda one, _: f"{one['peak_rss_mb']:,.0f}")
MICRO: Column = ("micro-F1", lambda one, _: f"{one['micro_f1']:.4f}")
MACRO: Column = ("macro-F1", lambda one, _: f"{one['macro_f1']:.4f}")

README = (RATE, AGAINST_PIPELINE, P50, PEAK_MB, MICRO, MACRO)
"""The README's table."""

SPEED: tuple[Column, ...] = (
    ("texts/s (95 % interval)", lambda one, _: _spread(one)),
    AGAINST_PIPELINE,
    ("our fastest against it", lambda one, result: f"{rate(fastest_of_ours(result)) / rate(one):.2f}x"),
    P50,
    ("p90 ms", lambda one, _: f"{one['single_text_ms']['p90']:.1f}"),
    ("p99 ms", lambda one, _: f"{one['single_text_ms']['p99']:.1f}"),
    ("max ms", lambda one, _: f"{one['single_text_ms']['max']:.1f}"),
    PEAK_MB,
    MICRO,
    MACRO,
    ("decided as PyTorch", lambda one, _: f"{one['decisions_as_pytorch']:.2%}"),
    ("greatest difference", lambda one, _: f"{one['max_difference']:.1e}"),
)

WORK: tuple[Column, ...] = (
    ("batches", lambda one, _: one["batching"]),
    ("padding", lambda one, _: f"{one['padding_share']:.0%}"),
    ("tokens/s", lambda one, _: f"{one['tokens_per_second']:,.0f}"),
    ("share of the peak", lambda one, _: f"{one['share_of_peak']:.0%}"),
    ("tokenise", lambda one, _: _stage(one, "tokenise")),
    ("run", lambda one, _: _stage(one, "run")),
    ("decide", lambda one, _: _stage(one, "decide")),
)

FOOTPRINT: tuple[Column, ...] = (
    ("start to answer s", lambda one, _: f"{one['start_warm_seconds']['median']:.2f}"),
    ("nothing cached s", lambda one, _: f"{one['start_cold_seconds']['median']:.2f}"),
    ("loaded MB", lambda one, _: f"{one['memory']['loaded_mb']:,.0f}"),
    ("peak after 1, 2, 3 passes MB", lambda one, _: ", ".join(f"{mb:,.0f}" for mb in one["memory"]["passes_mb"])),
    ("environment MB on disk", lambda one, _: f"{one['size']['environment_mb']:,.0f}"),
    ("packages", lambda one, _: f"{one['size']['packages']}"),
    ("model MB", lambda one, _: f"{one['size']['model_mb']:,.0f}"),
)


def _stage(one: One, name: str) -> str:
    return f"{one['stages'][name] / sum(one['stages'].values()):.1%}"


def scaling(by: str, figure: str, form: str) -> Callable[[Mapping[str, Any]], tuple[Column, ...]]:
    """Columns of what was measured at several numbers of threads, lengths or sizes of a call."""

    def columns(result: Mapping[str, Any]) -> tuple[Column, ...]:
        measured = {at for one in result["contenders"] for at in one.get("scaling", {}).get(by, {})}
        return tuple(
            (at, lambda one, _, at=at: form.format(one["scaling"][by][at][figure])) for at in sorted(measured, key=int)
        )

    return columns
