"""Experiment: the single file compared with tokenizer and bundle. `README.md` has the result."""
