"""Reports: `report.html` shows how good a model is and where it errs, on one self-contained page.

In the order in which to read it:

- `heldout_scores`: the scores of validation and test texts, which a run keeps for its report;
- `report_data`: what the charts and tables show: metrics by label, calibration, errors, learning curves;
- `svg_charts`: draws the charts;
- `html_report`: arranges all of it for `templates/report.html`;
- `run_report`: writes the report of a run.

It is independent of training and bundles: `html_report.ReportContent` in, HTML out.
"""

from manylabel.errors import require_extra

require_extra("export", "jinja2", "sklearn")
