"""Which lines and branches of the runtime do its tests cover? Draws the section from the data of coverage.py.

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
MINIMUM = 95.0
"""Required percentage of lines and branches together."""
TESTED_ELSEWHERE = {"engines", "server/observability/tracing.py"}
"""Tested in other environments: by test-engines, and by test-clients, which has OpenTelemetry."""
TOTAL = "all but engines and tracing"
ROOT = "package root"


@click.command()
@click.argument("measured", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(measured: Path, output: Path) -> None:
    """Draw the section from MEASURED, and fail below 95 %."""
    folders: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, file in json.loads(measured.read_text(encoding="utf-8"))["files"].items():
        place = Path(name.partition(f"{PACKAGE}/")[2]).parts
        counted = Counter({key: value for key, value in file["summary"].items() if isinstance(value, int)})
        folders[place[0] if len(place) > 1 else ROOT] += counted
        if not TESTED_ELSEWHERE & {place[0], "/".join(place)}:
            folders[TOTAL] += counted
    rows = [_row(folder, folders[folder]) for folder in sorted(folders, key=lambda name: (name == TOTAL, name))]
    section = report.write_section(
        output,
        "coverage",
        title="Coverage: lines and branches of the runtime that its tests cover",
        command="make coverage",
        rows=rows,
        notes=[
            "`tests/runtime` without slow tests, in an environment without PyTorch, including processes that the tests "
            "start and do not kill. Lines and branches are counted together, as coverage.py does. Engines and tracing "
            "are tested in other environments (`make test-engines`, `make test-clients`) and not counted."
        ],
    )
    click.echo(section)
    if (share := _share(folders[TOTAL])) < MINIMUM:
        raise click.ClickException(f"The tests cover {share:.1f} %; at least {MINIMUM:.0f} % are required.")


def _row(folder: str, counted: Mapping[str, int]) -> dict[str, str]:
    return {
        "folder": folder,
        "lines": f"{counted['num_statements']:,}",
        "covered": f"{counted['covered_lines']:,}",
        "branches": f"{counted['num_branches']:,}",
        "branches covered": f"{counted['covered_branches']:,}",
        "together": f"{_share(counted):.1f} %",
    }


def _share(counted: Mapping[str, int]) -> float:
    covered = counted["covered_lines"] + counted["covered_branches"]
    return 100 * covered / max(counted["num_statements"] + counted["num_branches"], 1)


if __name__ == "__main__":
    main()
