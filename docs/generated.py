"""Generated parts of the site: the command reference from `--help`, and the lists of pages in a folder."""

import inspect
import re
from collections.abc import Iterator
from textwrap import indent

import click
from sphinx.application import Sphinx

from manylabel.cli.main import main

PAGES = "```{toctree}\n:glob:\n:maxdepth: 1\n\n"


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the generated part of a page."""
    if page == "docs/commands":
        source[0] += "\n".join(_reference())
    elif page == "docs/decisions/README":
        source[0] += f"\n{PAGES}[0-9]*\n```\n"
    elif page == "docs/results":
        source[0] += f"\n{PAGES}../benchmarks/**\n../tests/fault_injection/results/**\n```\n"


def keep_drawings(app: Sphinx, what: str, name: str, subject: object, options: object, lines: list[str]) -> None:
    """Keep fenced and indented diagrams in the docstrings of modules as they are."""
    if what == "module":
        text = re.sub(r"^```\n(.*?)^```$", lambda match: indent(match[1], "    "), "\n".join(lines), flags=re.M | re.S)
        lines[:] = text.replace("\n\n    ", "\n\n::\n\n    ").split("\n")


def _reference() -> Iterator[str]:
    """Yield every command in Markdown: its help, its arguments and its options."""
    context = click.Context(main, info_name="manylabel")
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        if command.short_help == "(cannot be loaded)":
            raise click.UsageError(f"manylabel {name} cannot be loaded; build the site in the environment of make docs")
        here = click.Context(command, info_name=name, parent=context)
        yield f"\n## {name}\n\n```text\n{here.command_path} {' '.join(command.collect_usage_pieces(here))}\n```\n"
        yield _markdown(inspect.cleandoc(command.help or ""))
        yield f"\n```{{program}} manylabel {name}\n```\n"
        for parameter in command.get_params(here):
            record = parameter.get_help_record(here)
            if record and parameter.name != "help":
                option, text = record
                yield f"````{{option}} {option}\n{_markdown(text)}\n````\n"


def _markdown(text: str) -> str:
    """Return click's text as Markdown: only backticks are markup, and lines after a backspace stay separate."""
    blocks = []
    for block in text.split("\n\n"):
        verbatim = block.startswith("\b")
        escaped = re.sub(r"([\\*_\[\]<>#$|])", r"\\\1", block.lstrip("\b\n"))
        blocks.append(escaped.replace("\n", "\\\n") if verbatim else escaped)
    return "\n\n".join(blocks)
