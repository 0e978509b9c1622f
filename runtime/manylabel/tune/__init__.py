"""Which setting answers best on this machine, by measurement.

    candidates   precisions within their budgets, threads, batches      -> settings
    measuring    every setting a turn a round, the usual one two        -> times
    choosing     the fastest that keeps the limit, beyond the noise     -> one setting, which becomes the plan

`choosing` knows nothing of clocks: times in, a choice out.
"""
