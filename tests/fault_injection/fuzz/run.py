"""Search for bytes that a target fails on, guided by the branches they reach: `make fuzz`.

    python tests/fault_injection/fuzz/run.py TARGET --seconds 60

Keeps what reaches new branches in `build/fuzz/TARGET`, beside what is committed in `corpus/TARGET`. What
fails is written to `build/fuzz/TARGET-crash-...`; once it is mended, it belongs in the committed corpus.
"""

import argparse
import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def main() -> None:
    """Fuzz one target until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--verbose", action="store_true", help="Tell of every find, and at last of the branches.")
    parser.add_argument("--replay", type=Path, help="Read this file, once, in place of a search.")
    asked = parser.parse_args()
    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["manylabel"], enable_loader_override=False):
        from targets import CONTROLS, TARGETS
    if asked.replay:
        (TARGETS | CONTROLS)[asked.target](asked.replay.read_bytes())
        return
    found, committed = ROOT / "build" / "fuzz" / asked.target, HERE / "corpus" / asked.target
    for folder in (found, committed):
        folder.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={asked.seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=16384"]
    options += [
        f"-artifact_prefix={found.parent}/{asked.target}-",
        "-print_final_stats=1",
        f"-verbosity={int(asked.verbose)}",
    ]
    atheris.Setup([sys.argv[0], str(found), str(committed), *options], (TARGETS | CONTROLS)[asked.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
