"""Sections of one page: a JSON file each, and a `README.md` drawn from all that are there."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common import result_io
from manylabel_bench.hardware import describe_hardware

HEAD = """# What goes wrong, and whether it is found

Each table has the command that measured it, and a control: the same damage without the defence, which must go unnoticed
for the figures to say anything. The promises are those of [SECURITY.md](../../../SECURITY.md)."""


def write(
    folder: Path, name: str, *, title: str, command: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> str:
    """Write a section and the page anew.

    Args:
        folder: Of the results.
        name: Of the section's file.
        title: Heads the section.
        command: What measures it again.
        rows: The table, a mapping from column to cell each, all with the same columns.
        notes: What a reader should know.

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
    draw(folder)
    return _markdown(section)


def draw(folder: Path) -> None:
    """The page of all sections that are there."""
    sections = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    (folder / "README.md").write_text("\n\n".join([HEAD, *map(_markdown, sections)]) + "\n", encoding="utf-8")


def _markdown(section: Mapping[str, Any]) -> str:
    columns = list(section["rows"][0])
    table = [columns, ["---"] * len(columns), *([str(row[column]) for column in columns] for row in section["rows"])]
    return "\n\n".join(
        [
            f"## {section['title']}",
            f"`{section['command']}`",
            "\n".join("| " + " | ".join(cells) + " |" for cells in table),
            *section["notes"],
            result_io.machine_line(section["machine"]),
        ]
    )
