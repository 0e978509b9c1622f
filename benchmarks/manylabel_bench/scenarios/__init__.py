"""The scenarios: one function each, which returns the samples of every contender.

`throughput` times all texts at once, and other thread counts, lengths and call sizes; `latency` times single texts, in
the process and over HTTP; `cold_start` times the start of a process; `footprint` measures memory and disk. To add a
scenario, add a function here and its figures in `results.metrics`.

A function takes the `BenchContext`, and the loaded contenders if they take turns. Samples are lists: measuring again
appends to them, and every figure is computed from them afterwards.
"""

LOADED = ("bulk", "single", "scaling")
"""Scenarios in which loaded contenders take turns."""
STANDALONE = ("cold", "memory", "size", "server")
"""Scenarios that start the contenders themselves."""

FUNCTIONS = {
    "bulk": "throughput.measure_throughput",
    "single": "latency.measure_latency",
    "scaling": "throughput.measure_scaling",
    "cold": "cold_start.measure_cold_start",
    "memory": "footprint.measure_memory",
    "size": "footprint.measure_disk_size",
    "server": "latency.measure_server_latency",
}
"""The module and function of each scenario, imported only when it runs."""
