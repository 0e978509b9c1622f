"""What goes wrong, and whether it is found: a module for each promise of SECURITY.md, with a control that fails.

    python -m tests.fault_injection.bundle_corruption BUNDLE --output tests/fault_injection/results
    python -m tests.fault_injection.adversarial_texts BUNDLE --output tests/fault_injection/results
    python -m tests.fault_injection.process_kill --output tests/fault_injection/results
    python -m tests.fault_injection.fuzz_report --output tests/fault_injection/results
    make coverage mutation

Each writes a section, and `results` draws the page of all sections.
"""
