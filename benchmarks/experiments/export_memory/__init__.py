"""Experiment: peak memory of an export. `run` measures, `README.md` has the result."""
