"""Experiment: speed and memory of file scoring. `run` measures, `README.md` has the result."""
