"""What the site adds to pages when it is built: every command from its `--help`, and lists of pages of a folder."""

import inspect
import re
from collections.abc import Iterator
from textwrap import indent

import click
from sphinx.application import Sphinx

from manylabel.cli.main import main

PAGES = "```{toctree}\n:glob:\n:maxdepth: 1\n\n"


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Adds to a page what belongs at its end."""
    if page == "docs/commands":
        source[0] += "\n".join(_reference())
    elif page == "docs/decisions/README":
        source[0] += f"\n{PAGES}[0-9]*\n```\n"
    elif page == "docs/results":
        source[0] += f"\n{PAGES}../benchmarks/results/**\n```\n"


def keep_drawings(app: Sphinx, what: str, name: str, subject: object, options: object, lines: list[str]) -> None:
    """A module's docstring may draw: what is fenced or indented there is kept as it stands."""
    if what == "module":
        text = re.sub(
            r"^```\n(.*?)^```$", lambda fenced: indent(fenced[1], "    "), "\n".join(lines), flags=re.M | re.S
        )
        lines[:] = text.replace("\n\n    ", "\n\n::\n\n    ").split("\n")


def _reference() -> Iterator[str]:
    """Every command in Markdown: what it does, its arguments and its options."""
    context = click.Context(main, info_name="manylabel")
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        if command.short_help == "(cannot be loaded)":
            raise click.UsageError(f"manylabel {name} cannot be loaded here: build the site in the workbench")
        own = click.Context(command, info_name=name, parent=context)
        yield f"\n## {name}\n\n```text\n{own.command_path} {' '.join(command.collect_usage_pieces(own))}\n```\n"
        yield _markdown(inspect.cleandoc(command.help or ""))
        yield f"\n```{{program}} manylabel {name}\n```\n"
        for parameter in command.get_params(own):
            record = parameter.get_help_record(own)
            if record and parameter.name != "help":
                said, what = record
                yield f"````{{option}} {said}\n{_markdown(what)}\n````\n"


def _markdown(text: str) -> str:
    """Click's text as Markdown: nothing in it is markup but backticks, and lines after a backspace stay apart."""
    blocks = []
    for block in text.split("\n\n"):
        kept = block.startswith("\b")
        escaped = re.sub(r"([\\*_\[\]<>#$|])", r"\\\1", block.lstrip("\b\n"))
        blocks.append(escaped.replace("\n", "\\\n") if kept else escaped)
    return "\n\n".join(blocks)
