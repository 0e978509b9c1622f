"""Label review: find rows whose labels are likely missing or wrong.

In the order in which to read it:

- `review`: `review_labels`, from a run and its data to suggestions;
- `out_of_sample_scores`: scores each row with models that were not trained on it;
- `frozen_encoder_probe`: the fast way to such scores, logistic regressions on a frozen encoder;
- `confident_learning`: compares the given labels with the scores;
- `suggestions`: a suggestion for each row, and the table for a spreadsheet.

`manylabel_train.data.label_review` has the type of a suggestion and the file `review.json`, which the report reads.
"""

from manylabel.errors import require_extra

require_extra("export", "torch", "scipy")
