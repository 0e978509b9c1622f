"""The tables in the project's README, filled from the committed results.

Run `python -m experiments.common.readme_tables README.md`.

A block between `<!-- bench NAME -->` and `<!-- end -->` holds the table of `benchmarks/results/NAME/result.json`.
"""

import re
from pathlib import Path

import click

from manylabel_bench.results import tables
from manylabel_bench.results.document import read_document

BLOCK = re.compile(r"(<!-- bench (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill_tables(text: str, results: Path) -> str:
    """Return the text with the table of every block replaced by that of its result.

    Raises:
        DataError: A block names a result that does not exist.
    """

    def render(block: re.Match[str]) -> str:
        table = tables.build_table(tables.README, read_document(results / block["name"]))
        return f"{block[1]}\n" + "\n".join(tables.to_markdown(table)) + f"\n\n{block[3]}"

    return BLOCK.sub(render, text)


@click.command()
@click.argument("page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(page: Path) -> None:
    """Fill the tables of PAGE."""
    results = page.parent / "benchmarks" / "results"
    page.write_text(fill_tables(page.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
