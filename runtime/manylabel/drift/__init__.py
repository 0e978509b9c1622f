"""Do the texts of today look to the model as those did that it was validated on?

    reference    the bundle's scores.json: histograms and positives of the validation texts, by label
    monitor      counts the same of texts that are answered, in bounded memory
    statistics   what the two must differ by before it is more than chance
    report       what is told of it, by label

Scores alone are looked at: no labels are needed, and no text is kept. A label whose scores are as before may be wrong
all the same, so that drift is a reason to look and its absence no proof.
"""

from manylabel.drift.baseline import Histogram, Reference
from manylabel.drift.monitor import DriftMonitor
from manylabel.drift.report import DriftReport, LabelDrift

__all__ = ["DriftMonitor", "DriftReport", "Histogram", "LabelDrift", "Reference"]
