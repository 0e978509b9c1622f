"""`manylabel explain`."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from manylabel.bundle.variants import Precision
from manylabel.classifier import Classifier
from manylabel.cli.main import loading_options
from manylabel.cli.rendering import printable, read_arguments, read_lines, write_utf8
from manylabel.errors import OutputExists
from manylabel.explain.occlusion import Explanation
from manylabel.inference.ort_session import Device
from manylabel.system.unicode import valid_unicode


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("text", required=False)
@click.option("--label", help="Which label.  [default: the most probable]")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page there, too.")
@click.option("--force", is_flag=True, help="Replace a page that is there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@loading_options
def explain(
    bundle: Path,
    text: str | None,
    label: str | None,
    html: Path | None,
    force: bool,
    as_json: bool,
    device: Device,
    precision: Precision,
    threads: int | None,
    verify_key: Path | None,
    digest: str | None,
) -> None:
    """Show which words of TEXT, or of standard input, a label's score hangs on.

    Each word is left out in turn; its effect is what the probability loses. Of a text that is read in several windows,
    the words of the one that carried the label are shown.
    """
    if html and html.exists() and not force:
        raise OutputExists(f"{html} is there already. Choose another output, or replace it with --force.")
    classifier = Classifier.load(
        bundle, device=device, precision=precision, threads=threads, verify_key=verify_key, digest=digest
    )
    (read,) = read_arguments([text]) if text is not None else ["\n".join(read_lines())]
    explanation = classifier.explain(read, label)
    write_utf8()
    if html:
        html.write_text(explanation.to_html(), encoding="utf-8")
    if as_json:
        click.echo(json.dumps({**asdict(explanation), "text": valid_unicode(read)}, ensure_ascii=False))
        return
    for line in _lines(explanation):
        click.echo(line)


def _lines(explanation: Explanation) -> Iterator[str]:
    yield f"{explanation.label}: {explanation.score:.3f}, threshold {explanation.threshold:.3f}"
    if len(explanation.passages) > 1:
        for at, passage in enumerate(explanation.passages):
            mark = "✓" if at == explanation.carried_by else " "
            yield f"  {mark} {passage.score:.3f}  {printable(explanation.text[passage.start : passage.end], 80)}"
        yield "  the words of the passage marked:"
    strongest = max((abs(word.effect) for word in explanation.words), default=0.0) or 1.0
    for word in explanation.ranked:
        bar = ("█" if word.effect >= 0 else "░") * round(20 * abs(word.effect) / strongest)
        yield f"  {word.effect:+.3f} {bar:<20} {printable(word.text, 40)}"
