"""Calibration: make probabilities match observed frequencies, at no cost at run time.

Read in this order:

- `platt`: Platt scaling and temperature scaling: scales and shifts of logits with the lowest log-loss
- `fit`: which labels are calibrated, decided on held-out folds; and the calibration of a model, folded into its weights
"""

from manylabel.errors import require_extra

require_extra("export", "torch", "transformers")
