"""`manylabel bench`: how fast and how accurate a bundle is on this machine, beside what a user would run instead.

In reading order: `cli` is the command; `compare` runs the scenarios and computes accuracy; `contenders` has the models
that are compared and `scenarios` what is measured; `runner` starts the contenders' processes; `load` generates HTTP
load; `results` turns samples into figures, tables and pages; `hardware` describes the machine.
"""
