"""Experiment: losses for positives only and for imbalanced labels. `run` measures, `README.md` has the result."""
