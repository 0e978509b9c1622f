"""The report of a result: tables with the machine and commands they were measured with, and plots."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from manylabel_bench.results import plots, tables
from manylabel_bench.results.document import write_document

SCALING_TABLES = (
    ("Threads: texts/s", tables.scaling_columns("threads", "texts_per_second", "{:,.0f}")),
    ("Length in tokens: texts/s in bulk", tables.scaling_columns("length", "texts_per_second", "{:,.0f}")),
    ("Length in tokens: tokens/s in bulk", tables.scaling_columns("length", "tokens_per_second", "{:,.0f}")),
    ("Length in tokens: share of the peak in bulk", tables.scaling_columns("length", "share_of_peak", "{:.0%}")),
    ("Length in tokens: one text, p50 ms", tables.scaling_columns("length", "single_p50_ms", "{:.2f}")),
    ("Length in tokens: one text, p99 ms", tables.scaling_columns("length", "single_p99_ms", "{:.2f}")),
    ("Texts in a call: texts/s", tables.scaling_columns("call", "texts_per_second", "{:,.0f}")),
)


def render_text(result: Mapping[str, Any]) -> str:
    """Return the tables for a terminal."""
    parts = [tables.build_table(columns, result) for columns in (tables.SPEED, tables.WORK, tables.FOOTPRINT)]
    blocks = [tables.to_text(part) for part in parts if len(part) > 1]
    for title, columns in SCALING_TABLES:
        if len(part := tables.build_table(columns(result), result)) > 1:
            blocks.append(f"{title}\n{tables.to_text(part)}")
    blocks += [f"not measured: {name}: {reason}" for name, reason in result["skipped"].items()]
    return "\n\n".join([*blocks, *_server_tables(result)])


def write_result_folder(result: dict[str, Any], folder: Path, *, title: str) -> None:
    """Write `result.json`, `README.md` and the plots."""
    write_document(result, folder)
    drawn = plots.draw_plots(result)
    for name, svg in drawn.items():
        (folder / name).write_text(svg, encoding="utf-8")
    page = render_readme(result, title=title, plot_names=list(drawn))
    (folder / "README.md").write_text(page, encoding="utf-8")


def render_readme(result: Mapping[str, Any], *, title: str, plot_names: Sequence[str]) -> str:
    """Return the page of a result in Markdown."""
    return "\n".join([*_page_lines(result, title, plot_names), ""])


def _page_lines(result: Mapping[str, Any], title: str, plot_names: Sequence[str]) -> Iterator[str]:
    workload = result["workload"]
    yield from (f"# {title}", "")
    yield from (f"    {command}" for command in dict.fromkeys(piece["command"] for piece in result["pieces"]))
    yield ""
    sources = ", ".join(f"{number:,} of {name}" for name, number in workload["sources"].items())
    yield (
        f"{result['texts']:,} texts that neither the model nor its thresholds have seen ({sources}); "
        f"{result['threads']} threads for each contender; {_describe_rounds(result['rounds'])}. "
        f"{_describe_labels(workload['labelled'])} Texts longer than {workload['max_length']} tokens are read in "
        "windows by manylabel and truncated by all others."
    )
    yield from _section("Speed", tables.SPEED, result)
    yield from _work_section(result)
    yield from _section("Start, memory and disk", tables.FOOTPRINT, result)
    for name, columns in SCALING_TABLES:
        yield from _section(name, columns(result), result)
    yield from (line for block in _server_tables(result) for line in ("", "## Server", "", *block.split("\n")))
    if plot_names:
        yield from ("", "## Plots", "")
        yield from (f"![{name.removesuffix('.svg').replace('-', ' ')}]({name})\n" for name in plot_names)
    yield from ("", "## Measured on", "", *_machine_section(result))


def _describe_rounds(rounds: int) -> str:
    return f"medians of {rounds} rounds, in turns" if rounds > 1 else "one round, in turns"


def _describe_labels(labelled: int) -> str:
    if labelled:
        return f"F1 is measured on the {labelled:,} texts with known labels."
    return "Speed only: labels are ignored."


def _work_section(result: Mapping[str, Any]) -> Iterator[str]:
    if section := list(_section("Work", tables.WORK, result)):
        yield from (*section, "")
        yield (
            "Stages are shares of one pass in which they run one after the other (manylabel on one thread); in the "
            "rates above, manylabel runs its stages concurrently."
        )
        if peak := result.get("peak"):
            yield (
                f"The peak is that of matrix multiplications in onnxruntime on {result['threads']} threads: "
                f"{peak['fp32']:,.0f} GFLOP/s fp32, {peak['int8']:,.0f} GOP/s int8. A token takes "
                f"{(result['operations_per_token'] or 0) / 1e6:,.1f} million operations in the model's linear layers."
            )


def _server_tables(result: Mapping[str, Any]) -> Iterator[str]:
    for row in result["contenders"]:
        if "server" in row:
            head = [f"{row['name']}, requests/s", "answered/s", "p50 ms", "p90 ms", "p99 ms", "max ms"]
            rows = [
                [f"{at['sent_per_second']:,.0f}", f"{at['answered_per_second']:,.0f}"]
                + [f"{at['latency_ms'].get(name, float('nan')):,.1f}" for name in ("p50", "p90", "p99", "max")]
                for at in row["server"]
            ]
            yield "\n".join(tables.to_markdown([head, *rows]))


def _machine_section(result: Mapping[str, Any]) -> Iterator[str]:
    machine, workload = result["machine"], result["workload"]
    invariant = [name for name, equal in result["same_alone_and_in_company"].items() if equal]
    loads = ", ".join(f"{piece['when']} (load {piece['load_1min']:.1f})" for piece in result["pieces"])
    histogram = ", ".join(f"{number:,} of {name}" for name, number in workload["histogram"].items() if number)
    clock = f"{min(machine['mhz']):,} to {max(machine['mhz']):,} MHz, " if machine.get("mhz") else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield f"- Batch-invariant, bit for bit: {', '.join(invariant) or 'no variant'}."
    yield f"- Lengths in tokens: {histogram}; {workload['tokens']:,} in total."
    yield from (f"- Not measured: {name}: {reason}." for name, reason in result["skipped"].items())
    yield f"- Bundle {result['bundle']['digest'][:12]}, texts {workload['digest'][:12]}, measured {loads}."
    yield (
        f"- {machine['cpu']} ({', '.join(machine['flags'])}), {machine['cores']} cores, {clock}"
        f"Python {machine['python']}, {versions}."
    )


def _section(title: str, columns: tuple[tables.Column, ...], result: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table under its title, if anything in it was measured."""
    if len(table := tables.build_table(columns, result)) > 1:
        yield from ("", f"## {title}", "", *tables.to_markdown(table))
