"""Markdown that shows names as they are, whatever they hold."""

MARKDOWN = ("\\", "|", "`", "*", "_", "<", "[", "]")
"""Characters that would format a table's cell or end it; the backslash first."""


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A table's lines."""
    cells = [[_cell(cell) for cell in row] for row in (head, ["---"] * len(head), *rows)]
    return ["| " + " | ".join(row) + " |" for row in cells]


def _cell(text: str) -> str:
    """Text that stays in its cell and is shown as it is, whatever a label is called."""
    for mark in MARKDOWN:
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def code(text: str) -> str:
    """Text as code."""
    return f"`{text.replace('`', chr(39))}`"
