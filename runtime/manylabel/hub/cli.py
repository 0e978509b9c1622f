"""`manylabel push`."""

import json
from pathlib import Path

import click

from manylabel.bundle.bundle import Bundle
from manylabel.hub.hub_ref import Reference
from manylabel.hub.upload import push as push_bundle


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("repository", metavar="USER/MODEL[@BRANCH]")
@click.option("--public", is_flag=True, help="Let everybody read a repository that is made.  [default: private]")
@click.option("--message", default="", help="Of the commit.  [default: the bundle's digest]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def push(bundle: Path, repository: str, public: bool, message: str, as_json: bool) -> None:
    """Push BUNDLE, and its signature if there is one, to USER/MODEL on the Hugging Face hub, as one commit.

    Log in before: hf auth login, or the environment's HF_TOKEN. A repository or branch that is not there is made.
    """
    target = Reference.parse(repository)
    opened = Bundle.open(bundle)
    commit = push_bundle(opened, target, public=public, message=message)
    if as_json:
        click.echo(json.dumps({"reference": str(commit), "digest": opened.digest}))
        return
    click.echo(f"pushed: {commit}")
    click.echo(f"digest {opened.digest}")
