"""Evaluation: multi-label metrics of scores and true labels. Knows no model.

- `metrics`: F1 and ranking metrics over all labels and per label, and the expected calibration error
"""

from manylabel.errors import require_extra

require_extra("export", "sklearn")
