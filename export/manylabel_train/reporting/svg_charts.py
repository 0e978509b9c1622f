"""Pictures: numbers in, inline SVG out, drawn in the classes of report.css, so that they follow the page's colours.

What is said in a picture is said in a table beside it, too; to a screen reader a picture is one sentence.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from manylabel_train.reporting.label_figures import Bin, LabelFigures

Numbers = NDArray[np.float64]
Points = Sequence[tuple[float, float]]
LINE, LETTER = 13, 6.6
"""Height of a line and about the width of a letter of the notes, in a picture's own pixels."""


class Plot:
    """A chart with axes of its own: data coordinates in, SVG out.

    Args:
        size: Width and height of the whole picture, in its own pixels.
        x: Least and greatest value across.
        y: Least and greatest value upwards.
        margins: Left, top, right and bottom.
        said: What the picture shows, in a sentence.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        said: str,
        x: tuple[float, float] = (0, 1),
        y: tuple[float, float] = (0, 1),
        margins: tuple[int, int, int, int] = (40, 8, 8, 30),
    ) -> None:
        self._size, self._x, self._y, self._said = size, x, y, said
        self._left, self._top, right, bottom = margins
        self._right, self._bottom = size[0] - right, size[1] - bottom
        self._parts: list[Markup] = []

    def place(self, x: float, y: float) -> tuple[str, str]:
        """Where a point of the data lies in the picture."""
        across = (x - self._x[0]) / ((self._x[1] - self._x[0]) or 1)
        up = (y - self._y[0]) / ((self._y[1] - self._y[0]) or 1)
        return (
            _short(self._left + across * (self._right - self._left)),
            _short(self._bottom - up * (self._bottom - self._top)),
        )

    def axes(self, xs: dict[float, str], ys: dict[float, str], *, below: str = "", beside: str = "") -> "Plot":
        """Lines and marks at values of both axes, and what the axes are called."""
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
        """A line through points."""
        path = "L".join(" ".join(self.place(*point)) for point in points)
        if path:
            self._add('<path class="line {}" d="M{}"/>', kind, path)
        return self

    def steps(self, shares: Numbers, kind: str) -> "Plot":
        """A histogram over the whole of the x axis, filled down to the axis."""
        edges = np.linspace(*self._x, len(shares) + 1)
        floor = self.place(self._x[0], self._y[0])
        path = [f"M{floor[0]} {floor[1]}"]
        for left, right, share in zip(edges[:-1], edges[1:], shares, strict=True):
            (_, height), (end, _) = self.place(float(left), float(share)), self.place(float(right), 0)
            path.append(f"V{height}H{end}")
        self._add('<path class="area {}" d="{}V{}Z"/>', kind, "".join(path), floor[1])
        return self

    def dots(self, points: Points, kind: str, radius: float = 3.5) -> "Plot":
        """Points, each a circle."""
        for point in points:
            x, y = self.place(*point)
            self._add('<circle class="dot {}" cx="{}" cy="{}" r="{}"/>', kind, x, y, radius)
        return self

    def notes(self, words: Mapping[str, tuple[float, float]]) -> "Plot":
        """A word to the right of each point; where it would cover another it is moved, with a line to its point."""
        taken: list[tuple[float, float, float]] = []
        for word, point in words.items():
            across, down = map(float, self.place(*point))
            end = across + 12 + LETTER * len(word)
            free = (at for step in range(len(words) + 1) for at in (down + step * LINE, down - step * LINE))
            row = next(at for at in free if not any(_covers(at, across, end, other) for other in taken))
            taken.append((row, across, end))
            if row != down:
                self._add('<path class="lead" d="M{} {}L{} {}"/>', across, down, _short(across + 8), _short(row))
            self._add('<text class="note" x="{}" y="{}">{}</text>', _short(across + 10), _short(row + 4), word)
        return self

    def upright(self, x: float, kind: str) -> "Plot":
        """A line across the whole height."""
        return self.line([(x, self._y[0]), (x, self._y[1])], kind)

    def svg(self) -> Markup:
        """The picture."""
        return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            *self._size, self._said, Markup("").join(self._parts)
        )

    def _add(self, form: str, *values: object) -> None:
        self._parts.append(Markup(form).format(*values))  # noqa: S704 - the form is ours, what it is filled with is escaped


UNIT = {0.0: "0", 0.5: "0.5", 1.0: "1"}


def precision_recall(of: LabelFigures) -> Markup:
    """A label's curve, with the point where its threshold lies."""
    said = (
        f"Precision against recall of {of.label}: average precision {of.average_precision:.2f}; at the threshold "
        f"{of.threshold:.2f} precision {of.precision:.2f}, recall {of.recall:.2f}."
    )
    plot = Plot((220, 150), said=said).axes(UNIT, UNIT, below="recall", beside="precision")
    curve = list(zip(of.recalls.tolist(), of.precisions.tolist(), strict=True))
    return plot.line(curve, "a").dots([(of.recall, of.precision)], "b", 4.5).svg()


def histogram(of: LabelFigures) -> Markup:
    """Scores of the texts that have a label, and of those that lack it, with the threshold."""
    said = (
        f"Scores of {of.label}. Texts that have it: median {of.quantiles[0, 1]:.2f}; texts that lack it: median "
        f"{of.quantiles[1, 1]:.2f}; threshold {of.threshold:.2f}."
    )
    greatest = max(float(of.having.max()), float(of.lacking.max()), 1e-9)
    heights = [np.sqrt(shares / greatest) for shares in (of.lacking, of.having)]
    plot = Plot((220, 100), said=said, margins=(40, 6, 8, 28)).axes(UNIT, {0.0: ""}, below="score")
    return plot.steps(heights[0], "lacks").steps(heights[1], "has").upright(of.threshold, "b").svg()


def reliability_diagram(bins: Sequence[Bin]) -> Markup:
    """What probabilities said against what came true; the diagonal is perfect."""
    said = "Share of decisions that came true, by probability: " + "; ".join(
        f"said {one.said:.2f}, true {one.true:.2f}" for one in bins
    )
    plot = Plot((360, 280), said=said, margins=(46, 10, 12, 36))
    marks = {value: f"{value:g}" for value in (0, 0.2, 0.4, 0.6, 0.8, 1)}
    points = [(one.said, one.true) for one in bins]
    plot.axes(marks, marks, below="probability", beside="share that is true").line([(0, 0), (1, 1)], "guide")
    return plot.line(points, "a").dots(points, "a", 4).svg()


def learning_curve(series: Sequence[tuple[str, Points]], *, name: str, best: float | None = None) -> Markup:
    """Lines over epochs, in the order of their kinds a and b, and the epoch that was kept."""
    xs = [x for _, points in series for x, _ in points]
    ys = [y for _, points in series for _, y in points]
    ticks = _ticks(min(ys), max(ys))
    last = max(1, *(round(x) for x in xs))
    said = f"{name} by epoch. " + " ".join(
        f"{title}: from {points[0][1]:.3f} to {points[-1][1]:.3f}." for title, points in series if points
    )
    plot = Plot((360, 230), said=said, x=(0, last), y=(ticks[0], ticks[-1]), margins=(46, 10, 12, 36))
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


def score_bar(of: LabelFigures) -> Markup:
    """F1 as a bar with precision and recall as marks on it; the numbers stand beside it."""
    return Markup(
        '<svg viewBox="0 0 120 14" class="bar" aria-hidden="true"><path class="track" d="M0 7H120"/>'
        '<path class="fill" d="M0 7H{f}"/><path class="mark p" d="M{p} 1V13"/>'
        '<circle class="mark r" cx="{r}" cy="7" r="3.5"/></svg>'
    ).format(f=_short(120 * of.f1), p=_short(1 + 118 * of.precision), r=_short(4 + 112 * of.recall))


def heatmap(shares: Numbers, labels: Sequence[str], *, said: str) -> Markup:
    """A square of shares, one row and column a label; the diagonal stays empty."""
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
        said, Markup("").join(parts), s=_short(size), w=round(size * 1.15)
    )


def _covers(row: float, start: float, end: float, other: tuple[float, float, float]) -> bool:
    """Whether a word on a row, from start to end, would cover another."""
    return abs(row - other[0]) < LINE and start < other[2] and other[1] < end


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers that enclose the values."""
    room = max(high - low, 1e-3)
    power = 10.0 ** np.floor(np.log10(room))
    step = next(size * power for size in (0.2, 0.5, 1, 2) if room / (size * power) <= 5)
    first, last = int(np.floor(low / step)), int(np.ceil(high / step))
    return [round(at * step, 10) for at in range(first, max(last, first + 1) + 1)]


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
