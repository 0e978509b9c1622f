"""`report.html`: how good a model is and where it errs, on one page that needs nothing but itself.

Knows nothing of training or of bundles: `Material` in, HTML out.
"""

from manylabel_export.report.evidence import Scored, keep_evidence, read_evidence
from manylabel_export.report.page import REPORT_FILE, Material, render

__all__ = ["REPORT_FILE", "Material", "Scored", "keep_evidence", "read_evidence", "render"]
