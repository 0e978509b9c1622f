"""Ask the vulnerability service about every version in the locks that are named; say so where it cannot be asked.

pip-audit reports a version that it could not ask about as skipped, and then that nothing is known against it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


def main(locks: Sequence[str]) -> int:
    """Print what is known against whom; 1 if anything is."""
    audited = [each for lock in locks for each in _ask(lock)]
    asked = [each for each in audited if "skip_reason" not in each]
    unsafe = {f"{each['name']} {each['version']}: {known['id']}" for each in asked for known in each["vulns"]}
    print("\n".join(sorted(unsafe)), end="\n" if unsafe else "")
    if not asked:
        print("Nothing was audited: the vulnerability service does not answer here. Run make audit where it does.")
    else:
        print(f"{len(asked)} of {len(audited)} locked versions were asked about; known against them: {len(unsafe)}.")
    return bool(unsafe)


def _ask(lock: str) -> Iterator[dict[str, object]]:
    command = [Path(sys.executable).parent / "pip-audit", "--disable-pip", "--require-hashes", "--format", "json"]
    # What is run is this environment's pip-audit, on a lock of ours.
    done = subprocess.run([*command, "--requirement", lock], capture_output=True, text=True, check=False)  # noqa: S603
    if not done.stdout.strip():  # offline
        print(f"{lock}: {(done.stderr.strip() or 'no answer').splitlines()[-1]}", file=sys.stderr)
        return
    yield from json.loads(done.stdout)["dependencies"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
