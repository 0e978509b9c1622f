"""Experiment: the cold start of a serverless function. `run` measures, `README.md` has the result."""
