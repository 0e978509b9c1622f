"""Coverage-guided fuzzing: search for bytes on which a target fails, `make fuzz`.

    python tests/fault_injection/fuzz/run.py TARGET --seconds 60

Inputs that cover new branches are kept in `build/fuzz/TARGET`, beside the committed ones in `corpus/TARGET`. An input
that fails is written to `build/fuzz/TARGET-crash-...`; once the fault is fixed, it belongs in the committed corpus.
"""

import argparse
import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def main() -> None:
    """Fuzz one target for the given time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument(
        "--verbose", action="store_true", help="Print every new input, and the covered branches at the end."
    )
    parser.add_argument("--replay", type=Path, help="Run the target once on this file, without a search.")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["manylabel"], enable_loader_override=False):
        from targets import CONTROLS, TARGETS
    if options.replay:
        (TARGETS | CONTROLS)[options.target](options.replay.read_bytes())
        return
    discovered, committed = ROOT / "build" / "fuzz" / options.target, HERE / "corpus" / options.target
    for folder in (discovered, committed):
        folder.mkdir(parents=True, exist_ok=True)
    arguments = [f"-max_total_time={options.seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=16384"]
    arguments += [
        f"-artifact_prefix={discovered.parent}/{options.target}-",
        "-print_final_stats=1",
        f"-verbosity={int(options.verbose)}",
    ]
    atheris.Setup([sys.argv[0], str(discovered), str(committed), *arguments], (TARGETS | CONTROLS)[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
