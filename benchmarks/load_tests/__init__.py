"""Load tests of `manylabel serve`: how it behaves under load, and how fast it is beside other servers.

In reading order: `throughput` compares servers; `scenarios` puts the server under steady load, overload, spikes and
slow clients (`slowloris`); `slo` says which service level objectives were met; `report` writes the page; `baselines`
describes the other servers, one of which is `fastapi_pipeline_baseline`. `python -m load_tests` runs all of it. The
load generator itself is `manylabel_bench.load.open_loop`.
"""
