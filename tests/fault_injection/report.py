"""The page of results: one JSON file per section, and a `README.md` drawn from all sections."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common import result_io
from manylabel_bench.hardware import describe_hardware

HEAD = """# Fault injection: is every fault detected?

Each table has the command that measured it and a control: the same fault without the protection, which must have an
effect for the figures to mean anything. [SECURITY.md](../../../SECURITY.md) has the guarantees."""


def write_section(
    folder: Path, name: str, *, title: str, command: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> str:
    """Write a section, and draw the page again.

    Args:
        folder: The folder of the results.
        name: The name of the section's file.
        title: The title of the section.
        command: The command that repeats the measurement.
        rows: The rows of the table, each a mapping from column to cell, all with the same columns.
        notes: Paragraphs below the table.

    Returns:
        The section in Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    section = {
        "title": title,
        "command": command,
        "rows": list(rows),
        "notes": list(notes),
        "machine": describe_hardware(),
    }
    (folder / f"{name}.json").write_text(json.dumps(section, indent=1) + "\n", encoding="utf-8")
    draw_page(folder)
    return _render_section(section)


def draw_page(folder: Path) -> None:
    """Draw the page of all sections in the folder."""
    sections = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    (folder / "README.md").write_text("\n\n".join([HEAD, *map(_render_section, sections)]) + "\n", encoding="utf-8")


def _render_section(section: Mapping[str, Any]) -> str:
    columns = list(section["rows"][0])
    table = [columns, ["---"] * len(columns), *([str(row[column]) for column in columns] for row in section["rows"])]
    return "\n\n".join(
        [
            f"## {section['title']}",
            f"`{section['command']}`",
            "\n".join("| " + " | ".join(cells) + " |" for cells in table),
            *section["notes"],
            result_io.format_machine(section["machine"]),
        ]
    )
