"""The group `manylabel`: loads commands when they are named, and turns errors into one line and an exit code."""

import errno
import os
import sys
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from manylabel.errors import InputError, ManylabelError, MissingDependency, OutOfMemory
from manylabel.system.did_you_mean import suggest_name
from manylabel.system.resource_errors import DISK_FULL, is_lack_of_memory, out_of_memory

ENTRY_POINTS = "manylabel.commands"


class LazyGroup(click.Group):
    """A group of its own commands and of those in the entry-point group `manylabel.commands`.

    An entry point is imported only when its command is named, so that a command whose dependencies are missing does not
    break the others.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({point.name for point in entry_points(group=ENTRY_POINTS)} | self.commands.keys())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, imported if it is an entry point; `None` if there is none."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        return next((_load_command(point) for point in entry_points(group=ENTRY_POINTS, name=cmd_name)), None)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for a name that does not exist."""
        names = self.list_commands(ctx)
        suggestion = "" if args[0] in names else suggest_name(args[0], names)
        if suggestion and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {suggestion!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; print an error that the user can fix as one line instead of a traceback."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as exc:
            # Checked first: other code may have reported a lack of memory as damage or as an internal error.
            error = out_of_memory(exc) if is_lack_of_memory(exc) else exc
            if isinstance(error, ManylabelError):
                click.echo(f"{type(error).__name__}: {error}".replace("\n", " "), err=True)
                ctx.exit(error.exit_code)
            if not isinstance(exc, OSError) or exc.errno == errno.EPIPE:  # the reader has gone: click exits quietly
                raise
            click.echo(_describe_os_error(exc), err=True)
            _drop_unwritten_output()
            ctx.exit(InputError.exit_code)


def _load_command(point: EntryPoint) -> click.Command:
    """Return the command of an entry point; if its import fails, a command that raises this error when it is run."""
    try:
        command: click.Command = point.load()
    except (ImportError, MissingDependency, OutOfMemory) as exc:
        error = (
            exc
            if isinstance(exc, ManylabelError) or is_lack_of_memory(exc)
            else MissingDependency(
                f"manylabel {point.name} cannot be loaded: {exc}. Install the dependencies of {point.value}."
            )
        )
        command = click.Command(
            point.name,
            callback=lambda: _raise(error),
            short_help="(cannot be loaded)",
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )
    return command


def _raise(exc: Exception) -> None:
    raise exc


def _describe_os_error(exc: OSError) -> str:
    """Return the system's error as one line, with the next step if it is known."""
    if exc.errno in DISK_FULL:
        path = exc.filename or "the output"
        return f"CannotWrite: there is no space left for {path} ({exc.strerror}). Free some space, or write elsewhere."
    return f"{type(exc).__name__}: {exc}"


def _drop_unwritten_output() -> None:
    """Keep Python from writing again, at exit, what standard output did not accept."""
    with suppress(OSError, ValueError, AttributeError):  # standard output is closed, or it is not a file
        sys.stdout.flush()
        return
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
