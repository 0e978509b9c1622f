"""`manylabel tune`: find the fastest way to load a bundle on one machine, by measurement.

In the order in which to read it:

- `benchmark`: the configurations to try, and their measurement in interleaved rounds;
- `selection`: chooses the fastest configuration that keeps the latency limit, unless the difference is noise;
- `plan`: writes it beside the bundle, where `manylabel.load_options` finds it;
- `cli`: the command.

`selection` does not measure anything: timings in, a configuration out.
"""
