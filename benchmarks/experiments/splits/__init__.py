"""Experiment: random and stratified splits. `run` measures, `README.md` has the result."""
