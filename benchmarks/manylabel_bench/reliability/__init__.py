"""What goes wrong, and whether it is found: a module for each promise of SECURITY.md, with a control that fails.

    python -m manylabel_bench.reliability.corruption BUNDLE --output benchmarks/results/reliability
    python -m manylabel_bench.reliability.texts BUNDLE --output benchmarks/results/reliability
    python -m manylabel_bench.reliability.kills --output benchmarks/results/reliability
    python -m manylabel_bench.reliability.fuzzing --output benchmarks/results/reliability
    make coverage mutation

Each writes a section, and `results` draws the page of all sections.
"""
