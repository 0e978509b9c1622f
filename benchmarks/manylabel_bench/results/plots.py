"""Plots of a result as standalone SVG files, drawn by the training report's chart writer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from manylabel_train.reporting.svg_charts import Plot

STYLE = """svg{background:#fff}
text{fill:#5c6570;font:12px system-ui,sans-serif}
.middle{text-anchor:middle}
.end{text-anchor:end}
.name{font-weight:600}
.grid{stroke:#e3e6ea}
.dot{stroke:#fff}
.a{fill:#1a5fb4}
.b{fill:#c64600}
.c{fill:#9aa3ad}
.line{fill:none;stroke-width:2}
.line.a{stroke:#1a5fb4}
.line.b{stroke:#c64600}
.line.c{stroke:#9aa3ad}
.note{fill:#1b1f24}
.lead{stroke:#9aa3ad}
"""
SIZE = (760, 430)
MARGINS = (56, 44, 150, 42)


def draw_plots(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw what was measured; return SVG texts by file name."""
    plots = {
        "latency-throughput.svg": _latency_throughput(result),
        "speed-f1.svg": _speed_f1(result),
        "latency-by-length.svg": _latency_by_length(result),
        "server.svg": _server(result),
    }
    return {name: svg for name, svg in plots.items() if svg}


def _latency_throughput(result: Mapping[str, Any]) -> str:
    points = {
        one["name"]: (one["texts_per_second"]["median"], one["single_text_ms"]["p50"])
        for one in result["contenders"]
        if "texts_per_second" in one and "single_text_ms" in one
    }
    title = "Latency of one text against throughput in bulk; fast is down and to the right. "
    return _draw_scatter(points, title, "texts/s in bulk (log)", "one text, p50 ms (log)", log_y=True)


def _speed_f1(result: Mapping[str, Any]) -> str:
    points = {
        one["name"]: (one["texts_per_second"]["median"], one["macro_f1"])
        for one in result["contenders"]
        if "texts_per_second" in one and "macro_f1" in one
    }
    title = "Macro-F1 against throughput in bulk; good is up, fast is right. "
    return _draw_scatter(points, title, "texts/s in bulk (log)", "macro-F1", log_y=False)


def _latency_by_length(result: Mapping[str, Any]) -> str:
    series = {
        one["name"]: [(int(at), found["single_p50_ms"]) for at, found in one["scaling"]["length"].items()]
        for one in result["contenders"]
        if "length" in one.get("scaling", {})
    }
    return _draw_lines(series, "Latency of one text by its length. ", "tokens (log)", "p50 ms (log)")


def _server(result: Mapping[str, Any]) -> str:
    series = {
        f"{one['name']}, {name}": [
            (at["sent_per_second"], at["latency_ms"][name]) for at in one["server"] if name in at["latency_ms"]
        ]
        for one in result["contenders"]
        if "server" in one
        for name in ("p50", "p99")
    }
    return _draw_lines(series, "Latency of the server by the rate of arrivals. ", "requests/s (log)", "ms (log)")


def _draw_scatter(
    points: Mapping[str, tuple[float, float]], title: str, below: str, beside: str, *, log_y: bool
) -> str:
    if not points:
        return ""
    xs, ys = zip(*points.values(), strict=True)
    x, y = Axis.over(xs, log=True), Axis.over(ys, log=log_y)
    plot = _new_plot(title + _list_points(points), x, y, below, beside)
    placed = {name: (x.at(across), y.at(up)) for name, (across, up) in points.items()}
    for name, at in placed.items():
        plot.dots([at], _css_class(name), 6)
    return _to_file(plot.notes(placed))


def _draw_lines(series: Mapping[str, Sequence[tuple[float, float]]], title: str, below: str, beside: str) -> str:
    series = {name: points for name, points in series.items() if points}
    if not series:
        return ""
    all_points = [point for points in series.values() for point in points]
    x, y = (Axis.over([point[axis] for point in all_points], log=True) for axis in (0, 1))
    ends = {name: points[-1] for name, points in series.items()}
    plot = _new_plot(title + _list_points(ends), x, y, below, beside)
    for name, points in series.items():
        placed = [(x.at(across), y.at(up)) for across, up in points]
        plot.line(placed, _css_class(name)).dots(placed, _css_class(name), 3)
    return _to_file(plot.notes({name: (x.at(across), y.at(up)) for name, (across, up) in ends.items()}))


class Axis:
    """An axis with round tick marks, linear or logarithmic."""

    def __init__(self, marks: Sequence[float], *, log: bool) -> None:
        self._log = log
        self.marks = {self.at(value): f"{value:,g}" for value in marks}

    @classmethod
    def over(cls, values: Sequence[float], *, log: bool) -> "Axis":
        """Return an axis with round marks that encloses the values."""
        low, high = min(values), max(values)
        if log:
            steps = [lead * 10.0**power for power in range(-4, 8) for lead in (1, 2, 5)]
        else:
            step = 10.0 ** math.floor(math.log10(max(high - low, 0.02)))
            steps = [round(step * at, 6) for at in range(math.floor(low / step) - 1, math.ceil(high / step) + 2)]
        first = max((at for at, step in enumerate(steps) if step <= low), default=0)
        last = min((at for at, step in enumerate(steps) if step >= high), default=len(steps) - 1)
        return cls(steps[first : max(last, first + 1) + 1], log=log)

    def at(self, value: float) -> float:
        """Return the place of a value in the plot's coordinates."""
        return math.log10(value) if self._log else value

    @property
    def ends(self) -> tuple[float, float]:
        """The places of the first and the last mark."""
        return min(self.marks), max(self.marks)


def _new_plot(description: str, x: Axis, y: Axis, below: str, beside: str) -> Plot:
    plot = Plot(SIZE, description=description, x=x.ends, y=y.ends, margins=MARGINS)
    return plot.axes(x.marks, y.marks, below=below, beside=beside)


def _css_class(name: str) -> str:
    """Return the colour class: ours, PyTorch's, or any other."""
    if name.startswith("manylabel"):
        return "a"
    return "b" if name.startswith(("pytorch", "pipeline")) else "c"


def _list_points(points: Mapping[str, tuple[float, float]]) -> str:
    return "; ".join(f"{name}: {x:,.4g}, {y:,.4g}" for name, (x, y) in points.items()) + "."


def _to_file(plot: Plot) -> str:
    head, _, rest = str(plot.svg()).partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>{rest}\n'
