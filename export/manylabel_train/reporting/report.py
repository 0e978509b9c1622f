"""`report.html`: how good a model is and where it errs, on one page that needs nothing but itself.

Knows nothing of training or of bundles: `Material` in, HTML out.
"""

from manylabel_train.reporting.heldout_scores import Scored, keep_evidence, read_evidence
from manylabel_train.reporting.html_report import REPORT_FILE, Material, render

__all__ = ["REPORT_FILE", "Material", "Scored", "keep_evidence", "read_evidence", "render"]
