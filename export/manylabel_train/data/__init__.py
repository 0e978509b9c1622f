"""Data: labelled texts, their splits, checks of both, and the manifest of a finished run.

Read in this order:

- `dataset`: `Dataset`, texts with a matrix of labels in which unknown entries are NaN; files of labelled texts
- `sanity_checks`: warnings about files that can be read and still look like a mistake
- `near_duplicates`: groups of texts that are equal or nearly equal (MinHash)
- `splits`: train, validation and test by iterative stratification, and the hold-out split for guarantees
- `leakage`: near-duplicates across splits
- `training_run`: `run.json`, the manifest of a run: what training writes, and reports, review and export read
- `label_review`: `review.json`, the suggestions of `manylabel review-labels`, which a report lists
"""
