"""The report of the load tests: `result.json`, and `README.md` drawn from it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from load_tests.slo import check_slos


def update_report(measured: dict[str, Any], folder: Path) -> None:
    """Write `result.json` and `README.md`; parts that were not measured now keep their results."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "result.json"
    result = {**(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}), **measured}
    result["promises"] = check_slos(result)
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text("\n".join([*_lines(result), ""]), encoding="utf-8")


def _lines(result: dict[str, Any]) -> Iterator[str]:
    yield from ("# The server", "")
    yield (
        "Server and load generator share the machine's cores. Each request holds one text of the test split. "
        "Open loop: the n-th request is due at n / rate, and its latency counts from that moment."
    )
    yield from ("", "## Service level objectives", "")
    for each in check_slos(result):
        yield f"- [{'x' if each['held'] else ' '}] {each['promise']}: {each['found']}"
    for name, lines in (("speed", _speed_lines), ("load", _load_lines)):
        if name in result:
            yield from lines(result[name])
            yield from ("", f"`{result[name]['command']}` on {_describe_machine(result[name]['machine'])}")


def _describe_machine(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cpu']} ({', '.join(machine['flags'])}), {machine['cores']} cores, "
        f"Python {machine['python']}, {versions}."
    )


def _speed_lines(speed: dict[str, Any]) -> Iterator[str]:
    one = speed["one_text"]
    yield from ("", "## Speed", "")
    yield (
        f"One text over a keep-alive connection: median {one['loopback_ms']:.2f} ms, in the process "
        f"{one['in_process_ms']:.2f} ms: {one['added_ms']:+.2f} ms ({one['texts']:,} texts each, in turns)."
    )
    yield from ("", "The highest rate at which the 99th percentile stays under 100 ms:", "")
    rates = speed["rates"]
    base = min(rates.values(), key=lambda each: each["requests_per_second"])["requests_per_second"]
    rows = []
    for name, each in rates.items():
        best = sorted(each["rounds"], key=lambda one: one.get("rate", 0))[len(each["rounds"]) // 2]
        scored = speed["accuracy"][name]
        rows.append(
            (
                name,
                f"{each['requests_per_second']:,.0f}",
                f"{each['requests_per_second'] / base:.1f}x" if base else "none",
                _ms(best.get("latency_ms", {}), "p50"),
                _ms(best.get("latency_ms", {}), "p99"),
                f"{scored['micro_f1']:.4f}",
                f"{scored['macro_f1']:.4f}",
            )
        )
    yield from _table(("", "requests/s", "", "p50 ms", "p99 ms", "micro-F1", "macro-F1"), rows)


def _load_lines(load: dict[str, Any]) -> Iterator[str]:
    yield from ("", "## Load", "")
    yield (
        f"Capacity, with 32 requests always in flight: {load['capacity_per_second']:,.0f} requests/s at first, "
        f"{_around(load['overload'])} before and after the surge to twice capacity, {_around(load['spike'])} before "
        "and after the spike of ten times the steady load. Every request has a deadline of "
        f"{load['deadline_ms']:,.0f} ms. Both surges are run {len(load['spike']['rounds'])} times: rates and times are "
        "medians, counts are sums. Before and after a surge the load is half of capacity; it is normal again at the "
        "first of three consecutive seconds in which every request is answered and the p99 is at most the highest of "
        "a second before the surge."
    )
    rows = []
    for name in ("steady", "overload", "spike"):
        phase = load[name]
        rows.append(
            (
                {"steady": "steady, 0.7 of capacity", "overload": "twice capacity", "spike": "tenfold spike"}[name],
                f"{phase['sent_per_second']:,.0f}",
                f"{phase['answered_per_second']:,.0f}",
                f"{phase['refused']:,}",
                f"{phase['lost_in_all' if 'lost_in_all' in phase else 'lost']:,}",
                _ms(phase["latency_ms"], "p50"),
                _ms(phase["latency_ms"], "p99"),
                _ms(phase["turned_away_ms"], "p99"),
                _ms(phase.get("live_ms", {}), "max"),
                _seconds(phase["normal_after_seconds"]) if "normal_after_seconds" in phase else "",
                f"{phase['memory_mb']:,.0f}" if "memory_mb" in phase else "",
            )
        )
    head = ("", "sent/s", "answered/s", "refused", "lost", "p50 ms", "p99 ms", "429 in, p99 ms", "liveness, max ms")
    yield from ("", *_table((*head, "normal after s", "MB"), rows))
    for name, of in (("overload", "At twice capacity"), ("spike", "In the spike")):
        if cores := load[name]["cores"]:
            yield from (
                "",
                f"{of}, the server keeps {cores['server']:.2f} cores busy and the generator {cores['generator']:.2f}.",
            )
    slow, memory = load["slow_sockets"], load["memory_mb"]
    control = f"{min(slow['control']):+.0%} to {max(slow['control']):+.0%}"
    rise = (
        f"{slow['rise']:+.0%}, the median of {len(slow['p99_ms']['with'])} slices, each compared with its neighbours "
        f"without. Control: between two neighbours without such sockets, the p99 differs by {control}. "
        f"{slow['lost']} requests lost"
    )
    memory_mb = ", ".join(f"{memory[name]:,.0f} MB {name}" for name in ("before", "after", "peak"))
    yield from (
        "",
        f"{slow['sockets']} sockets that send one byte per second change the p99 at half of capacity by {rise}.",
    )
    yield from ("", f"Memory: {memory_mb}.")


def _around(surge: dict[str, Any]) -> str:
    return f"{surge['capacity']['before']:,.0f} and {surge['capacity']['after']:,.0f}"


def _ms(latency: dict[str, float], name: str) -> str:
    return f"{latency[name]:,.1f}" if name in latency else ""


def _seconds(value: float | None) -> str:
    return "not" if value is None else f"{value:.0f}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
