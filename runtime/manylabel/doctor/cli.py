"""`manylabel doctor`."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from manylabel.bundle.bundle import Bundle
from manylabel.cli.rendering import printable, write_utf8
from manylabel.doctor import cpu, packages, providers
from manylabel.doctor.activation_diagnosis import KINDS, Comparison, compare
from manylabel.doctor.endpoint_client import Client, ask
from manylabel.doctor.finding import Finding
from manylabel.errors import InputError

FOUND = 1
"""Exit code where something is wrong with what was looked at."""

SHOWN = 10
"""Decisions that come out otherwise, in a table."""

KEY = "MANYLABEL_API_KEY"


@click.command()
@click.option("--endpoint", metavar="URL", help="Check a running server: text-embeddings-inference, KServe, ours.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Whose probes the endpoint is to answer.")
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"Holds the endpoint's key.  [default: the environment's {KEY}, or none]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def doctor(endpoint: str | None, bundle: Path | None, api_key_file: Path | None, as_json: bool) -> None:
    """Look at this machine, or at a running endpoint, and say what to type next.

    Exit codes: 0 where all is well, 1 where something is wrong, 2 for wrong usage or an endpoint that does not answer.
    """
    write_utf8()
    if endpoint and bundle:
        key = api_key_file.read_text(encoding="utf-8") if api_key_file else os.environ.get(KEY, "")
        sound = _endpoint(Client(endpoint, key.strip()), Bundle.open(bundle), as_json=as_json)
    elif endpoint or bundle:
        raise InputError(
            "--endpoint and --bundle go together: the endpoint is asked for the bundle's probes. "
            "To check a bundle on this machine: manylabel verify BUNDLE"
        )
    else:
        sound = _machine(as_json=as_json)
    if not sound:
        sys.exit(FOUND)


def _machine(*, as_json: bool) -> bool:
    findings = [*packages.look(), *providers.look(), *cpu.look()]
    faults = [each for each in findings if each.status == "fault"]
    if as_json:
        click.echo(
            json.dumps({"sound": not faults, "findings": [asdict(each) for each in findings]}, ensure_ascii=False)
        )
    else:
        for line in _table(findings):
            click.echo(line)
    return not faults


def _table(findings: Sequence[Finding]) -> Iterator[str]:
    width = max(len(each.name) for each in findings)
    for each in findings:
        yield f"{each.status:<6}{each.name:<{width}}  {each.says}"
        if each.next:
            yield f"{'':<6}{'':<{width}}  -> {each.next}"
    first = next((each.next for each in findings if each.status == "fault" and each.next), "")
    yield ""
    yield f"Next: {first}" if first else "Next: manylabel verify BUNDLE, which checks a bundle on this machine"


def _endpoint(client: Client, bundle: Bundle, *, as_json: bool) -> bool:
    scores = ask(client, [probe.text for probe in bundle.manifest.probes], bundle.labels)
    found = compare(bundle, scores.values)
    right = found.kind == "right"
    if as_json:
        whole: dict[str, Any] = {"sound": right, "protocol": scores.protocol, "bundle": bundle.digest, **asdict(found)}
        click.echo(json.dumps(whole, ensure_ascii=False))
        return right
    click.echo(f"{len(bundle.manifest.probes)} texts, {len(bundle.labels)} labels, asked by {scores.protocol}")
    for line in _comparison(found):
        click.echo(line)
    return right


def _comparison(found: Comparison) -> Iterator[str]:
    kind = KINDS.get(found.kind)
    what = kind.says if kind else "none that are known: another checkpoint, other labels, another tokenizer?"
    yield f"The scores are {what}."
    yield f"Difference from PyTorch's: greatest {found.greatest:.3f}, mean {found.mean:.4f}."
    yield f"{len(found.turned)} of {found.decisions} decisions come out otherwise."
    for each in found.turned[:SHOWN]:
        yield (
            f"  {each['label']:<24} right {each['right']:.3f}  here {each['found']:.3f}  threshold "
            f"{each['threshold']:.3f}  {printable(each['text'], 50)}"
        )
    if kind and kind.next:
        yield f"Next: {kind.next}"
    elif not kind:
        yield "Next: compare the checkpoint that is served with the bundle's source: manylabel inspect BUNDLE --json"
