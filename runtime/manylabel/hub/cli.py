"""`manylabel push`."""

import json
from pathlib import Path

import click

from manylabel.bundle.bundle import Bundle
from manylabel.hub import upload
from manylabel.hub.client import HubReference


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("repository", metavar="USER/MODEL[@BRANCH]")
@click.option("--public", is_flag=True, help="Make a repository that is created public.  [default: private]")
@click.option("--message", default="", help="The commit's message.  [default: the bundle's digest]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def push(bundle: Path, repository: str, public: bool, message: str, as_json: bool) -> None:
    """Push BUNDLE, and its signature if there is one, to USER/MODEL on the Hugging Face Hub, as one commit.

    Log in first: hf auth login, or set HF_TOKEN. A repository or branch that does not exist is created.
    """
    target = HubReference.parse(repository)
    opened = Bundle.open(bundle)
    commit = upload.push(opened, target, public=public, message=message)
    if as_json:
        click.echo(json.dumps({"reference": str(commit), "digest": opened.digest}))
        return
    click.echo(f"pushed: {commit}")
    click.echo(f"digest {opened.digest}")
