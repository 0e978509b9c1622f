"""`manylabel doctor`."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from manylabel.bundle.bundle import Bundle
from manylabel.cli.options import api_key_file_option, read_api_key
from manylabel.cli.rendering import truncate, write_utf8
from manylabel.doctor.activation_diagnosis import ACTIVATIONS, Diagnosis, diagnose
from manylabel.doctor.endpoint_client import EndpointClient, request_scores
from manylabel.doctor.environment import Finding, check_environment
from manylabel.doctor.providers import check_providers
from manylabel.errors import InputError
from manylabel.hub import open_bundle

PROBLEM = 1
"""Exit code if a check finds a problem."""

MAX_DECISIONS = 10
"""Number of differing decisions in the table."""


@click.command()
@click.option("--endpoint", metavar="URL", help="Check a running server: text-embeddings-inference, KServe, manylabel.")
@click.option("--bundle", type=click.Path(path_type=Path), help="The bundle whose probes are sent to the endpoint.")
@api_key_file_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(endpoint: str | None, bundle: Path | None, api_key_file: Path | None, as_json: bool) -> None:
    """Check this machine or a running endpoint, and print the next command to run.

    Exit codes: 0 if no problem was found, 1 if one was found, 2 for wrong usage or an endpoint that cannot be checked.
    """
    write_utf8()
    if endpoint and bundle:
        sound = _check_endpoint(
            EndpointClient(endpoint, read_api_key(api_key_file)), open_bundle(bundle), as_json=as_json
        )
    elif endpoint or bundle:
        raise InputError(
            "--endpoint and --bundle go together: the bundle's probes are sent to the endpoint. "
            "To check a bundle on this machine: manylabel verify BUNDLE"
        )
    else:
        sound = _check_machine(as_json=as_json)
    if not sound:
        sys.exit(PROBLEM)


def _check_machine(*, as_json: bool) -> bool:
    findings = [*check_environment(), *check_providers()]
    sound = all(finding.status != "fault" for finding in findings)
    if as_json:
        document = {"sound": sound, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        for line in _format_findings(findings):
            click.echo(line)
    return sound


def _format_findings(findings: Sequence[Finding]) -> Iterator[str]:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        yield f"{finding.status:<6}{finding.name:<{width}}  {finding.says}"
        if finding.next:
            yield f"{'':<6}{'':<{width}}  -> {finding.next}"
    first = next((finding.next for finding in findings if finding.status == "fault" and finding.next), "")
    yield ""
    yield f"Next: {first}" if first else "Next: manylabel verify BUNDLE, to check a bundle on this machine"


def _check_endpoint(client: EndpointClient, bundle: Bundle, *, as_json: bool) -> bool:
    scores = request_scores(client, [probe.text for probe in bundle.manifest.probes], bundle.labels)
    diagnosis = diagnose(bundle, scores.values)
    sound = diagnosis.kind == "right"
    if as_json:
        document: dict[str, Any] = {"sound": sound, "protocol": scores.protocol, "bundle": bundle.digest}
        click.echo(json.dumps({**document, **asdict(diagnosis)}, ensure_ascii=False))
        return sound
    click.echo(f"{len(bundle.manifest.probes)} texts, {len(bundle.labels)} labels, sent with {scores.protocol}")
    for line in _format_diagnosis(diagnosis):
        click.echo(line)
    return sound


def _format_diagnosis(diagnosis: Diagnosis) -> Iterator[str]:
    activation = ACTIVATIONS.get(diagnosis.kind)
    unknown = "of no known kind: is it another checkpoint, are the labels in another order, is it another tokenizer?"
    yield f"The scores are {activation.description}." if activation else f"The scores are {unknown}"
    yield f"Difference from PyTorch: {diagnosis.greatest:.3f} at most, {diagnosis.mean:.4f} on average."
    yield f"{len(diagnosis.turned)} of {diagnosis.decisions} decisions differ."
    for each in diagnosis.turned[:MAX_DECISIONS]:
        yield (
            f"  {each['label']:<24} right {each['right']:.3f}  here {each['found']:.3f}  threshold "
            f"{each['threshold']:.3f}  {truncate(each['text'], 50)}"
        )
    if activation and activation.next:
        yield f"Next: {activation.next}"
    elif not activation:
        yield "Next: compare the checkpoint on the server with the bundle's source: manylabel inspect BUNDLE --json"
