"""A result as a page: tables with what they were measured on and by, and pictures beside them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from manylabel_bench.results import plots, tables
from manylabel_bench.results.document import write as write_result

SCALING = (
    ("Threads: texts/s", tables.scaling("threads", "texts_per_second", "{:,.0f}")),
    ("Length in tokens: texts/s in bulk", tables.scaling("length", "texts_per_second", "{:,.0f}")),
    ("Length in tokens: tokens/s in bulk", tables.scaling("length", "tokens_per_second", "{:,.0f}")),
    ("Length in tokens: share of the peak in bulk", tables.scaling("length", "share_of_peak", "{:.0%}")),
    ("Length in tokens: one text, p50 ms", tables.scaling("length", "single_p50_ms", "{:.2f}")),
    ("Length in tokens: one text, p99 ms", tables.scaling("length", "single_p99_ms", "{:.2f}")),
    ("Texts in a call: texts/s", tables.scaling("call", "texts_per_second", "{:,.0f}")),
)


def plain(result: Mapping[str, Any]) -> str:
    """The tables for a terminal."""
    parts = [tables.render(columns, result) for columns in (tables.SPEED, tables.WORK, tables.FOOTPRINT)]
    shown = [tables.plain(part) for part in parts if len(part) > 1]
    for title, columns in SCALING:
        if len(part := tables.render(columns(result), result)) > 1:
            shown.append(f"{title}\n{tables.plain(part)}")
    shown += [f"not measured: {name}: {why}" for name, why in result["skipped"].items()]
    return "\n\n".join([*shown, *_server(result)])


def write(result: dict[str, Any], folder: Path, *, title: str) -> None:
    """Write `result.json`, `README.md` and the pictures."""
    write_result(result, folder)
    pictures = plots.pictures(result)
    for name, svg in pictures.items():
        (folder / name).write_text(svg, encoding="utf-8")
    lines = list(_lines(result, title, list(pictures)))
    (folder / "README.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def _lines(result: Mapping[str, Any], title: str, pictures: list[str]) -> Iterator[str]:
    workload = result["workload"]
    yield from (f"# {title}", "")
    yield from (f"    {command}" for command in dict.fromkeys(piece["command"] for piece in result["pieces"]))
    yield ""
    sources = ", ".join(f"{number:,} of {name}" for name, number in workload["sources"].items())
    yield (
        f"{result['texts']:,} texts that neither the model nor its thresholds have seen ({sources}); "
        f"{result['threads']} threads for everyone; medians of {result['rounds']} rounds, taking turns. "
        f"{_judged(workload['labelled'])} Texts beyond {workload['max_length']} tokens are read in windows by "
        "manylabel and truncated by everyone else."
    )
    yield from _section("Speed", tables.SPEED, result)
    yield from _work(result)
    yield from _section("Start, memory and disk", tables.FOOTPRINT, result)
    for name, columns in SCALING:
        yield from _section(name, columns(result), result)
    yield from (line for block in _server(result) for line in ("", "## Server", "", *block.split("\n")))
    if pictures:
        yield from ("", "## Pictures", "")
        yield from (f"![{name.removesuffix('.svg').replace('-', ' ')}]({name})\n" for name in pictures)
    yield from ("", "## Measured on", "", *_measured_on(result))


def _judged(labelled: int) -> str:
    if labelled:
        return f"Labels are known of {labelled:,} texts, and F1 is measured on these."
    return "Speed only: the texts' labels are not looked at."


def _work(result: Mapping[str, Any]) -> Iterator[str]:
    if section := list(_section("Work", tables.WORK, result)):
        yield from (*section, "")
        yield (
            "Stages are shares of one pass in which they follow each other, ours on one thread; in the rates above "
            "ours are at work at once."
        )
        if peak := result.get("peak"):
            yield (
                f"The peak is that of onnxruntime's matrix products on {result['threads']} threads: "
                f"{peak['fp32']:,.0f} GFLOP/s fp32, {peak['int8']:,.0f} GOP/s int8. A token costs "
                f"{(result['operations_per_token'] or 0) / 1e6:,.1f} million operations in the model's linear layers."
            )


def _server(result: Mapping[str, Any]) -> Iterator[str]:
    for one in result["contenders"]:
        if "server" in one:
            head = [f"{one['name']}, requests/s", "answered/s", "p50 ms", "p90 ms", "p99 ms", "max ms"]
            rows = [
                [f"{at['sent_per_second']:,.0f}", f"{at['answered_per_second']:,.0f}"]
                + [f"{at['latency_ms'].get(name, float('nan')):,.1f}" for name in ("p50", "p90", "p99", "max")]
                for at in one["server"]
            ]
            yield "\n".join(tables.markdown([head, *rows]))


def _measured_on(result: Mapping[str, Any]) -> Iterator[str]:
    machine, workload = result["machine"], result["workload"]
    same = [name for name, equal in result["same_alone_and_in_company"].items() if equal]
    loads = ", ".join(f"{piece['when']} (load {piece['load_1min']:.1f})" for piece in result["pieces"])
    histogram = ", ".join(f"{number:,} of {name}" for name, number in workload["histogram"].items() if number)
    clock = f"{min(machine['mhz']):,} to {max(machine['mhz']):,} MHz, " if machine.get("mhz") else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield f"- A text's scores are the same bits alone and among others: {', '.join(same) or 'in no variant'}."
    yield f"- Lengths in tokens: {histogram}; {workload['tokens']:,} in all."
    yield from (f"- Not measured: {name}: {why}." for name, why in result["skipped"].items())
    yield f"- Bundle {result['bundle']['digest'][:12]}, texts {workload['digest'][:12]}, measured {loads}."
    yield (
        f"- {machine['cpu']} ({', '.join(machine['flags'])}), {machine['cores']} cores, {clock}"
        f"Python {machine['python']}, {versions}."
    )


def _section(title: str, columns: tuple[tables.Column, ...], result: Mapping[str, Any]) -> Iterator[str]:
    """A table under its title, where something of it was measured."""
    if len(table := tables.render(columns, result)) > 1:
        yield from ("", f"## {title}", "", *tables.markdown(table))
