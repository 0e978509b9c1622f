"""Running contenders side by side.

In reading order: `workload` gathers the texts and counts their tokens; `worker` is the program of a contender's
process; `process` starts such processes and lets them take turns.
"""
