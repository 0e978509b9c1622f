"""Experiment: how file scoring scales. `run` measures, `README.md` has the result."""
