"""Which lines and branches of the runtime do its tests reach? Draws the section from what coverage.py measured.

coverage run -m pytest tests/runtime; coverage combine; coverage json -o FILE
python -m tests.fault_injection.coverage_table FILE --output tests/fault_injection/results
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import click
from tests.fault_injection import report

PACKAGE = "runtime/manylabel"
LIMIT = 95.0
"""Percent of lines and branches together, at least."""
ELSEWHERE = {"engines", "server/tracing.py"}
"""What is tested in environments of their own: test-engines, and test-clients, which has OpenTelemetry."""
ALL = "all but engines and tracing"


@click.command()
@click.argument("measured", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(measured: Path, output: Path) -> None:
    """Draw the section from MEASURED, and fail below 95 %."""
    folders: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, found in json.loads(measured.read_text(encoding="utf-8"))["files"].items():
        place = Path(name.partition(f"{PACKAGE}/")[2]).parts
        counted = Counter({key: its for key, its in found["summary"].items() if isinstance(its, int)})
        folders[place[0] if len(place) > 1 else "itself"] += counted
        if not ELSEWHERE & {place[0], "/".join(place)}:
            folders[ALL] += counted
    rows = [_row(folder, folders[folder]) for folder in sorted(folders, key=lambda name: (name == ALL, name))]
    found = report.write(
        output,
        "coverage",
        title="Coverage: lines and branches that the runtime's tests reach",
        command="make coverage",
        rows=rows,
        notes=[
            "`tests/runtime` without the slow ones, in an environment without PyTorch, with the processes that the "
            "tests start and do not kill. Lines and branches are counted together, as coverage.py does. Engines and "
            "traces are tested in environments of their own (`make test-engines`, `make test-clients`), not counted."
        ],
    )
    click.echo(found)
    if (share := _share(folders[ALL])) < LIMIT:
        raise click.ClickException(f"The tests reach {share:.1f} %, and {LIMIT:.0f} % are asked for.")


def _row(folder: str, counted: Mapping[str, int]) -> dict[str, str]:
    return {
        "folder": folder,
        "lines": f"{counted['num_statements']:,}",
        "reached": f"{counted['covered_lines']:,}",
        "branches": f"{counted['num_branches']:,}",
        "taken": f"{counted['covered_branches']:,}",
        "together": f"{_share(counted):.1f} %",
    }


def _share(counted: Mapping[str, int]) -> float:
    reached = counted["covered_lines"] + counted["covered_branches"]
    return 100 * reached / max(counted["num_statements"] + counted["num_branches"], 1)


if __name__ == "__main__":
    main()
