"""Search for bytes that a target fails on, guided by the branches they reach: `make fuzz`.

    python tests/fuzz/run.py TARGET --seconds 60

Keeps what reaches new branches in `build/fuzz/TARGET`, beside what is committed in `tests/fuzz/corpus/TARGET`. What
fails is written to `build/fuzz/TARGET-crash-...`; once it is mended, it belongs in the committed corpus.
"""

import argparse
import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main() -> None:
    """Fuzz one target until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    asked = parser.parse_args()
    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["manylabel"], enable_loader_override=False):
        from targets import TARGETS
    found, committed = ROOT / "build" / "fuzz" / asked.target, HERE / "corpus" / asked.target
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={asked.seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=16384"]
    options += [f"-artifact_prefix={found.parent}/{asked.target}-", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], str(found), str(committed), *options], TARGETS[asked.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
