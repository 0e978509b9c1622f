"""Experiment: how often the drift monitor reports the same and other texts. `README.md` has the result."""
