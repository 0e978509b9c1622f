"""Tables of a result, one row per contender: for the terminal, for Markdown pages and for the README."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

ResultRow = Mapping[str, Any]
"""One contender of a result document."""
Column = tuple[str, Callable[[ResultRow, Mapping[str, Any]], str]]
"""A heading, and a function from a contender and the document to the cell."""
ABSENT = "not measured"


def build_table(columns: Sequence[Column], result: Mapping[str, Any]) -> list[list[str]]:
    """Return the heading and the rows, without contenders and columns for which nothing was measured."""
    body = []
    for row in result["contenders"]:
        cells = [_format_cell(read, row, result) for _, read in columns]
        if any(cell is not None for cell in cells):
            body.append([row["name"], *(cell or ABSENT for cell in cells)])
    kept = [0] + [at for at in range(1, len(columns) + 1) if any(row[at] != ABSENT for row in body)]
    return [[row[at] for at in kept] for row in (["", *(head for head, _ in columns)], *body)]


def to_markdown(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; the first row is its heading."""
    head, *body = table
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]


def to_text(table: Sequence[Sequence[str]]) -> str:
    """Return a table aligned for a terminal."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    )


def _format_cell(
    read: Callable[[ResultRow, Mapping[str, Any]], str], row: ResultRow, result: Mapping[str, Any]
) -> str | None:
    """Return the text of a cell, or None if its scenario was not measured."""
    try:
        return read(row, result)
    except (KeyError, TypeError, ValueError):  # no such figure, or nothing to compare it with
        return None


def median_rate(row: ResultRow) -> float:
    """Return a contender's texts per second."""
    return float(row["texts_per_second"]["median"])


def find_row(result: Mapping[str, Any], name: str) -> ResultRow:
    """Return a contender's row.

    Raises:
        KeyError: It was not measured.
    """
    rows: dict[str, ResultRow] = {row["name"]: row for row in result["contenders"]}
    return rows[name]


def fastest_variant(result: Mapping[str, Any]) -> ResultRow:
    """Return the variant of the bundle that scores the most texts per second."""
    timed = [row for row in result["contenders"] if "texts_per_second" in row]
    return max((row for row in timed if row["name"].startswith("manylabel ")), key=median_rate)


def _rate_with_interval(row: ResultRow) -> str:
    figure = row["texts_per_second"]
    ends = f" ({figure['low']:,.0f} to {figure['high']:,.0f})" if "low" in figure else ""
    return f"{figure['median']:,.0f}{ends}"


RATE: Column = ("texts/s", lambda row, _: f"{median_rate(row):,.0f}")
RATIO_TO_PIPELINE: Column = (
    "vs. pipeline",
    lambda row, result: f"{median_rate(row) / median_rate(find_row(result, 'pipeline')):.1f}x",
)
P50: Column = ("one text, p50 ms", lambda row, _: f"{row['single_text_ms']['p50']:.1f}")
PEAK_MEMORY: Column = ("peak MB", lambda row, _: f"{row['peak_rss_mb']:,.0f}")
MICRO: Column = ("micro-F1", lambda row, _: f"{row['micro_f1']:.4f}")
MACRO: Column = ("macro-F1", lambda row, _: f"{row['macro_f1']:.4f}")

README = (RATE, RATIO_TO_PIPELINE, P50, PEAK_MEMORY, MICRO, MACRO)
"""The columns of the tables in the project's README."""

SPEED: tuple[Column, ...] = (
    ("texts/s (95 % interval)", lambda row, _: _rate_with_interval(row)),
    RATIO_TO_PIPELINE,
    ("our fastest vs. this", lambda row, result: f"{median_rate(fastest_variant(result)) / median_rate(row):.2f}x"),
    P50,
    ("p90 ms", lambda row, _: f"{row['single_text_ms']['p90']:.1f}"),
    ("p99 ms", lambda row, _: f"{row['single_text_ms']['p99']:.1f}"),
    ("max ms", lambda row, _: f"{row['single_text_ms']['max']:.1f}"),
    PEAK_MEMORY,
    MICRO,
    MACRO,
    ("same decisions as PyTorch", lambda row, _: f"{row['decisions_as_pytorch']:.2%}"),
    ("max. difference", lambda row, _: f"{row['max_difference']:.1e}"),
)

WORK: tuple[Column, ...] = (
    ("batches", lambda row, _: row["batching"]),
    ("padding", lambda row, _: f"{row['padding_share']:.0%}"),
    ("tokens/s", lambda row, _: f"{row['tokens_per_second']:,.0f}"),
    ("share of the peak", lambda row, _: f"{row['share_of_peak']:.0%}"),
    ("tokenise", lambda row, _: _stage_share(row, "tokenise")),
    ("run", lambda row, _: _stage_share(row, "run")),
    ("decide", lambda row, _: _stage_share(row, "decide")),
)

FOOTPRINT: tuple[Column, ...] = (
    ("warm start s", lambda row, _: f"{row['start_warm_seconds']['median']:.2f}"),
    ("cold start s", lambda row, _: f"{row['start_cold_seconds']['median']:.2f}"),
    ("loaded MB", lambda row, _: f"{row['memory']['loaded_mb']:,.0f}"),
    ("peak after 1, 2, 3 passes MB", lambda row, _: ", ".join(f"{mb:,.0f}" for mb in row["memory"]["passes_mb"])),
    ("environment MB on disk", lambda row, _: f"{row['size']['environment_mb']:,.0f}"),
    ("packages", lambda row, _: f"{row['size']['packages']}"),
    ("model MB", lambda row, _: f"{row['size']['model_mb']:,.0f}"),
)


def _stage_share(row: ResultRow, name: str) -> str:
    return f"{row['stages'][name] / sum(row['stages'].values()):.1%}"


def scaling_columns(by: str, figure: str, form: str) -> Callable[[Mapping[str, Any]], tuple[Column, ...]]:
    """Return a function from a result to one column per thread count, text length or call size.

    Args:
        by: `"threads"`, `"length"` or `"call"`.
        figure: The figure in the cells.
        form: Its format.
    """

    def columns(result: Mapping[str, Any]) -> tuple[Column, ...]:
        measured = {at for row in result["contenders"] for at in row.get("scaling", {}).get(by, {})}
        return tuple(
            (at, lambda row, _, at=at: form.format(row["scaling"][by][at][figure])) for at in sorted(measured, key=int)
        )

    return columns
