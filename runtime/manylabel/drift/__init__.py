"""Drift: whether the scores of current texts differ from those of the validation texts.

In the order in which to read it:

- `baseline`: a bundle's `scores.json`, with a histogram of the validation texts' scores for each label;
- `monitor`: `DriftMonitor` counts the scores of current texts in bounded memory;
- `report`: compares both by the population stability index (PSI) and by rates, and reports what chance cannot explain;
- `cli`: `manylabel drift`, for files that `manylabel score` wrote.

Drift is detected from scores alone: no labels are needed, and no text is kept. A label can be wrong with unchanged
scores, so drift is a reason to look, and its absence proves nothing.
"""

from manylabel.drift.baseline import Histogram, ScoreBaseline
from manylabel.drift.monitor import DriftMonitor
from manylabel.drift.report import DriftReport, LabelDrift

__all__ = ["DriftMonitor", "DriftReport", "Histogram", "LabelDrift", "ScoreBaseline"]
