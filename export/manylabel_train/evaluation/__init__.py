"""Evaluation: multi-label metrics of scores and true labels. Independent of models.

- `metrics`: F1 and ranking metrics over all labels and per label, and the expected calibration error
"""

from manylabel.errors import require_extra

require_extra("export", "sklearn")
