"""The README's tables, drawn from the committed results: `python -m manylabel_bench.results.readme README.md`.

A block between `<!-- bench NAME -->` and `<!-- end -->` holds the table of `benchmarks/results/NAME/result.json`.
"""

import re
from pathlib import Path

import click

from manylabel_bench.results import document, tables

BLOCK = re.compile(r"(<!-- bench (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, results: Path) -> str:
    """The text with every block's table as its result has it.

    Raises:
        DataError: A block names a result that is not there.
    """

    def table(block: re.Match[str]) -> str:
        drawn = tables.markdown(tables.render(tables.README, document.read(results / block["name"])))
        return f"{block[1]}\n" + "\n".join(drawn) + f"\n\n{block[3]}"

    return BLOCK.sub(table, text)


@click.command()
@click.argument("page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(page: Path) -> None:
    """Draw the tables of PAGE anew."""
    page.write_text(filled(page.read_text(encoding="utf-8"), page.parent / "benchmarks" / "results"), encoding="utf-8")


if __name__ == "__main__":
    main()
