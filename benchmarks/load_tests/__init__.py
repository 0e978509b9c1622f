"""How a server behaves under load, and how fast it is beside others.

In reading order: `openloop` sends requests at a constant rate, `servers` starts who is measured, `scenarios` load
manylabel's, `speed` compares, `report` writes it down. `python -m load_tests` runs all of it.
"""
