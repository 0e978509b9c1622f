"""Code blocks of the README and the documentation, and checks that need not run them.

A block that is not run has a comment with the reason above it: `<!-- not run: needs a Docker engine -->`.
"""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from manylabel.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^(?:<!-- not run: ([^\n]+) -->\n\n?)?```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\bmanylabel ([a-z][\w-]*)(( +('[^']*'|\"[^\"]*\"|[^\s|&;)'`]+))*)")

CONTENDERS = {"fp32", "int8"}
"""`manylabel fp32` is a contender of `manylabel bench`, not a command."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Its file, relative to the repository.
        line: The first line of its code, from 1.
        language: The word after the opening fence.
        code: Its content.
        reason: Why it is not run; empty if it is run.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block without comments; continued lines are joined."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


def blocks(page: Path) -> list[Block]:
    """Return all blocks of a page except the site's directives."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page.relative_to(ROOT).as_posix(), text.count("\n", 0, match.start(3)) + 1, language, code, reason or "")
        for match in BLOCK.finditer(text)
        for reason, language, code in [match.groups()]
        if not language.startswith("{")
    ]


def check_command_lines(text: str) -> int:
    """Check every `manylabel COMMAND ...` of a text against the real commands and options, and return their number.

    Raises:
        click.UsageError: A command or option does not exist, or the value of an option is missing or invalid.
    """
    count = 0
    for match in COMMAND.finditer(text):
        name, arguments = match[1], shlex.split(match[2], comments=True)
        if name in CONTENDERS:
            continue
        command = main.get_command(click.Context(main), name)
        if command is None:
            raise click.UsageError(f"there is no command {name!r}: {match[0]}")
        context = click.Context(command, info_name=name)
        values, _, parameters = command.make_parser(context).parse_args(arguments)
        for parameter in parameters:
            value = values.get(parameter.name or "")
            if isinstance(parameter.type, click.Choice) and isinstance(value, str) and value.islower():
                parameter.type.convert(value, parameter, context)
        count += 1
    return count


def check_python(block: Block) -> None:
    """Check that the names which a block imports from this project exist, without importing them."""
    for node in ast.walk(ast.parse(block.code, block.place)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("manylabel"):
            spec = importlib.util.find_spec(node.module or "")
            assert spec, f"{block.place}: there is no module {node.module}"
            assert spec.origin
            source = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
            missing = {alias.name for alias in node.names} - set(_defined_names(source))
            assert not missing, f"{block.place}: {node.module} has no {missing}"


def _defined_names(module: ast.Module | ast.With) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.With):
            yield from _defined_names(node)
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from ast.literal_eval(node.value) if names == ["__all__"] else names
