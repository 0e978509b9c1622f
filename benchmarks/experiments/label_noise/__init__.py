"""Experiment: precision of `review-labels`. `run` measures, `README.md` has the result."""
