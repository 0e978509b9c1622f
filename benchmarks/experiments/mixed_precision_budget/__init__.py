"""Experiment: the cost of tighter int8 budgets. `run` measures, `README.md` has the result."""
