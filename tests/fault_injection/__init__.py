"""Fault injection: one module per guarantee of SECURITY.md, each with a control that must fail.

    python -m tests.fault_injection.bundle_corruption BUNDLE --output tests/fault_injection/results
    python -m tests.fault_injection.adversarial_texts BUNDLE --output tests/fault_injection/results
    python -m tests.fault_injection.process_kill --output tests/fault_injection/results
    python -m tests.fault_injection.fuzz_report --output tests/fault_injection/results
    make coverage mutation

Each writes a section with `report`, which draws the page of all sections. `soak` puts a server under requests for hours
(its control is `leaky_server`); `engines_kill` kills Ray and Spark; `workloads` and `forkserver` serve `process_kill`;
`fuzz` holds the fuzz targets and their corpus; `mutation` and `coverage_table` measure the tests themselves.
"""
