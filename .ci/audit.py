"""Audit the named lock files for known vulnerabilities, and say so where the vulnerability service cannot be reached.

pip-audit reports a version that it could not look up as skipped, and then reports no known vulnerabilities.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


def main(locks: Sequence[str]) -> int:
    """Print every known vulnerability, and return 1 if there is one."""
    packages = [package for lock in locks for package in _audit(lock)]
    audited = [package for package in packages if "skip_reason" not in package]
    unsafe = {f"{each['name']} {each['version']}: {found['id']}" for each in audited for found in each["vulns"]}
    print("\n".join(sorted(unsafe)), end="\n" if unsafe else "")
    if not audited:
        print("Nothing was audited: the vulnerability service cannot be reached. Run make audit where it can.")
    else:
        print(f"Audited {len(audited)} of {len(packages)} locked versions; known vulnerabilities: {len(unsafe)}.")
    return bool(unsafe)


def _audit(lock: str) -> Iterator[dict[str, object]]:
    """Yield pip-audit's entry for each package of a lock file; yield nothing if the service cannot be reached."""
    command = [Path(sys.executable).parent / "pip-audit", "--disable-pip", "--require-hashes", "--format", "json"]
    completed = subprocess.run([*command, "--requirement", lock], capture_output=True, text=True, check=False)
    if not completed.stdout.strip():
        print(f"{lock}: {(completed.stderr.strip() or 'no output').splitlines()[-1]}", file=sys.stderr)
        return
    yield from json.loads(completed.stdout)["dependencies"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
