"""Results: from samples to figures, tables and pages.

In reading order: `metrics` computes figures from samples; `document` is `result.json`, to which later measurements add;
`tables` and `plots` show it; `report` writes the page.
"""

from manylabel.errors import require_extra

require_extra("bench", "scipy", "jinja2")
