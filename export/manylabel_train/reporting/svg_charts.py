"""Charts as inline SVG, styled by the classes of report.css so that they follow the page's colour scheme.

A table beside each chart has the same numbers; a screen reader reads a chart as one sentence.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from manylabel_train.reporting.report_data import CalibrationBin, LabelMetrics, Numbers, Points

LINE_HEIGHT, LETTER_WIDTH = 13, 6.6
"""Height of a line and approximate width of a letter of the annotations, in the chart's own pixels."""


class Plot:
    """A chart with axes: data coordinates in, SVG out.

    Args:
        size: Width and height of the whole chart, in its own pixels.
        description: What the chart shows, in a sentence for screen readers.
        x: Lowest and highest value of the x axis.
        y: Lowest and highest value of the y axis.
        margins: Left, top, right and bottom.

    Example:
        >>> plot = Plot((100, 80), description="A line.").line([(0, 0), (1, 1)], "a")
        >>> str(plot.svg())[:26]
        '<svg viewBox="0 0 100 80" '
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        description: str,
        x: tuple[float, float] = (0, 1),
        y: tuple[float, float] = (0, 1),
        margins: tuple[int, int, int, int] = (40, 8, 8, 30),
    ) -> None:
        self._size, self._x, self._y, self._description = size, x, y, description
        self._left, self._top, right, bottom = margins
        self._right, self._bottom = size[0] - right, size[1] - bottom
        self._parts: list[Markup] = []

    def place(self, x: float, y: float) -> tuple[str, str]:
        """Return the position of a data point in the chart."""
        across = (x - self._x[0]) / ((self._x[1] - self._x[0]) or 1)
        up = (y - self._y[0]) / ((self._y[1] - self._y[0]) or 1)
        return (
            _short(self._left + across * (self._right - self._left)),
            _short(self._bottom - up * (self._bottom - self._top)),
        )

    def axes(self, xs: dict[float, str], ys: dict[float, str], *, below: str = "", beside: str = "") -> "Plot":
        """Draw grid lines and tick labels at values of both axes, and the axes' names."""
        for value, mark in ys.items():
            start, end = self.place(self._x[0], value), self.place(self._x[1], value)
            self._add('<path class="grid" d="M{} {}H{}"/>', *start, end[0])
            self._add('<text x="{}" y="{}" class="end">{}</text>', self._left - 5, _short(float(start[1]) + 3.5), mark)
        for value, mark in xs.items():
            at = self.place(value, self._y[0])[0]
            self._add('<text x="{}" y="{}" class="middle">{}</text>', at, self._bottom + 13, mark)
        if below:
            middle = (self._left + self._right) / 2
            self._add('<text x="{}" y="{}" class="middle name">{}</text>', _short(middle), self._size[1] - 3, below)
        if beside:
            middle = (self._top + self._bottom) / 2
            self._add(
                '<text transform="translate(10 {}) rotate(-90)" class="middle name">{}</text>', _short(middle), beside
            )
        return self

    def line(self, points: Points, kind: str) -> "Plot":
        """Draw a line through points."""
        path = "L".join(" ".join(self.place(*point)) for point in points)
        if path:
            self._add('<path class="line {}" d="M{}"/>', kind, path)
        return self

    def steps(self, shares: Numbers, kind: str) -> "Plot":
        """Draw a histogram over the whole x axis, filled down to the axis."""
        edges = np.linspace(*self._x, len(shares) + 1)
        floor = self.place(self._x[0], self._y[0])
        path = [f"M{floor[0]} {floor[1]}"]
        for left, right, share in zip(edges[:-1], edges[1:], shares, strict=True):
            (_, height), (end, _) = self.place(float(left), float(share)), self.place(float(right), 0)
            path.append(f"V{height}H{end}")
        self._add('<path class="area {}" d="{}V{}Z"/>', kind, "".join(path), floor[1])
        return self

    def dots(self, points: Points, kind: str, radius: float = 3.5) -> "Plot":
        """Draw points as circles."""
        for point in points:
            x, y = self.place(*point)
            self._add('<circle class="dot {}" cx="{}" cy="{}" r="{}"/>', kind, x, y, radius)
        return self

    def notes(self, words: Mapping[str, tuple[float, float]]) -> "Plot":
        """Draw an annotation to the right of each point; move it, with a leader line, if it would cover another."""
        taken: list[tuple[float, float, float]] = []
        for word, point in words.items():
            across, down = map(float, self.place(*point))
            end = across + 12 + LETTER_WIDTH * len(word)
            free = (
                at for step in range(len(words) + 1) for at in (down + step * LINE_HEIGHT, down - step * LINE_HEIGHT)
            )
            row = next(at for at in free if not any(_covers(at, across, end, other) for other in taken))
            taken.append((row, across, end))
            if row != down:
                self._add('<path class="lead" d="M{} {}L{} {}"/>', across, down, _short(across + 8), _short(row))
            self._add('<text class="note" x="{}" y="{}">{}</text>', _short(across + 10), _short(row + 4), word)
        return self

    def upright(self, x: float, kind: str) -> "Plot":
        """Draw a vertical line over the whole height."""
        return self.line([(x, self._y[0]), (x, self._y[1])], kind)

    def svg(self) -> Markup:
        """Return the chart."""
        return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            *self._size, self._description, Markup("").join(self._parts)
        )

    def _add(self, template: str, *values: object) -> None:
        self._parts.append(Markup(template).format(*values))  # noqa: S704  # the template is a constant, and its values are escaped


UNIT = {0.0: "0", 0.5: "0.5", 1.0: "1"}


def draw_precision_recall(label: LabelMetrics) -> Markup:
    """Draw a label's precision-recall curve, with a dot at its threshold."""
    description = (
        f"Precision-recall curve of {label.label}: average precision {label.average_precision:.2f}; at the threshold "
        f"{label.threshold:.2f} precision {label.precision:.2f}, recall {label.recall:.2f}."
    )
    plot = Plot((220, 150), description=description).axes(UNIT, UNIT, below="recall", beside="precision")
    curve = list(zip(label.recalls.tolist(), label.precisions.tolist(), strict=True))
    return plot.line(curve, "a").dots([(label.recall, label.precision)], "b", 4.5).svg()


def draw_histogram(label: LabelMetrics) -> Markup:
    """Draw the histograms of the scores of texts with and without a label, with its threshold."""
    description = (
        f"Scores of {label.label}. Texts with the label: median {label.quantiles[0, 1]:.2f}; texts without it: median "
        f"{label.quantiles[1, 1]:.2f}; threshold {label.threshold:.2f}."
    )
    highest = max(float(label.positive_scores.max()), float(label.negative_scores.max()), 1e-9)
    heights = [np.sqrt(shares / highest) for shares in (label.negative_scores, label.positive_scores)]
    plot = Plot((220, 100), description=description, margins=(40, 6, 8, 28)).axes(UNIT, {0.0: ""}, below="score")
    return plot.steps(heights[0], "lacks").steps(heights[1], "has").upright(label.threshold, "b").svg()


def draw_reliability(bins: Sequence[CalibrationBin]) -> Markup:
    """Draw the observed frequency by predicted probability; the diagonal is perfect calibration."""
    description = "Share of decisions that are true, by probability: " + "; ".join(
        f"predicted {each.predicted:.2f}, true {each.observed:.2f}" for each in bins
    )
    plot = Plot((360, 280), description=description, margins=(46, 10, 12, 36))
    marks = {value: f"{value:g}" for value in (0, 0.2, 0.4, 0.6, 0.8, 1)}
    points = [(each.predicted, each.observed) for each in bins]
    plot.axes(marks, marks, below="probability", beside="share that is true").line([(0, 0), (1, 1)], "guide")
    return plot.line(points, "a").dots(points, "a", 4).svg()


def draw_learning_curves(series: Sequence[tuple[str, Points]], *, name: str, best: float | None = None) -> Markup:
    """Draw one or two lines over epochs, with a mark at the best epoch."""
    xs = [x for _, points in series for x, _ in points]
    ys = [y for _, points in series for _, y in points]
    ticks = round_ticks(min(ys), max(ys))
    last = max(1, *(round(x) for x in xs))
    description = f"{name} by epoch. " + " ".join(
        f"{title}: from {points[0][1]:.3f} to {points[-1][1]:.3f}." for title, points in series if points
    )
    plot = Plot((360, 230), description=description, x=(0, last), y=(ticks[0], ticks[-1]), margins=(46, 10, 12, 36))
    every = max(1, -(-last // 8))
    marks = {float(epoch): str(epoch) for epoch in range(0, last + 1, every)}
    plot.axes(marks, {value: f"{value:g}" for value in ticks}, below="epoch")
    if best is not None:
        plot.upright(best, "guide")
    for (_, points), kind in zip(series, "ab", strict=False):
        plot.line(points, kind)
        if len(points) <= 30:
            plot.dots(points, kind, 3)
    return plot.svg()


def draw_score_bar(label: LabelMetrics) -> Markup:
    """Draw F1 as a bar, with precision and recall as marks on it."""
    return Markup(
        '<svg viewBox="0 0 120 14" class="bar" aria-hidden="true"><path class="track" d="M0 7H120"/>'
        '<path class="fill" d="M0 7H{f}"/><path class="mark p" d="M{p} 1V13"/>'
        '<circle class="mark r" cx="{r}" cy="7" r="3.5"/></svg>'
    ).format(f=_short(120 * label.f1), p=_short(1 + 118 * label.precision), r=_short(4 + 112 * label.recall))


def draw_heatmap(shares: Numbers, labels: Sequence[str], *, description: str) -> Markup:
    """Draw a square of shares with one row and one column per label; the diagonal is empty."""
    n, cell = len(labels), 30 if len(labels) <= 10 else 22
    longest = max(len(label) for label in labels)
    left = min(150, 12 + 6 * longest)
    size = left + n * cell + 4
    parts = [
        Markup('<text x="{}" y="{}" class="end">{}</text>').format(left - 5, top + cell / 2 + 3.5, label)
        + Markup('<text transform="translate({} {}) rotate(-90)">{}</text>').format(
            left + row * cell + cell / 2 + 3.5, left - 5, label
        )
        for row, label in enumerate(labels)
        for top in (left + row * cell,)
    ]
    for row, column in np.ndindex(n, n):
        if row == column:
            continue
        share, x, y = float(shares[row, column]), left + column * cell, left + row * cell
        parts.append(
            Markup('<rect x="{}" y="{}" width="{w}" height="{w}" class="cell" fill-opacity="{}"/>').format(
                x, y, _short(0.06 + 0.5 * share), w=cell - 2
            )
        )
        if share >= 0.005:
            parts.append(
                Markup('<text x="{}" y="{}" class="middle small">{}</text>').format(
                    x + cell / 2 - 1, y + cell / 2 + 2.5, f"{100 * share:.0f}"
                )
            )
    return Markup('<svg viewBox="0 0 {s} {s}" role="img" aria-label="{}" style="max-width:{w}px">{}</svg>').format(
        description, Markup("").join(parts), s=_short(size), w=round(size * 1.15)
    )


def _covers(row: float, start: float, end: float, other: tuple[float, float, float]) -> bool:
    """Return whether an annotation on a row, from start to end, would cover another."""
    return abs(row - other[0]) < LINE_HEIGHT and start < other[2] and other[1] < end


def round_ticks(low: float, high: float) -> list[float]:
    """Return a few round numbers that enclose the values.

    Example:
        >>> round_ticks(0.394, 0.602)
        [0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65]
    """
    room = max(high - low, 1e-3)
    power = 10.0 ** np.floor(np.log10(room))
    step = next(size * power for size in (0.2, 0.5, 1, 2) if room / (size * power) <= 5)
    first, last = int(np.floor(low / step)), int(np.ceil(high / step))
    return [round(float(number * step), 10) for number in range(first, max(last, first + 1) + 1)]


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
