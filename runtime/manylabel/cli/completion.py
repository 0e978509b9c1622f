"""`manylabel completion`: what a shell needs to complete commands and options."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_MANYLABEL_COMPLETE"
"""By which the shell's script asks; click derives it from the name of the command."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes manylabel's commands and options.

    For bash and zsh: eval "$(manylabel completion bash)" in ~/.bashrc, or zsh in ~/.zshrc. For fish: manylabel
    completion fish > ~/.config/fish/completions/manylabel.fish
    """
    kind = get_completion_class(shell)
    if kind is None:  # click knows the three
        raise click.UsageError(f"this click completes nothing in {shell}.")
    click.echo(kind(ctx.find_root().command, {}, "manylabel", VARIABLE).source())
