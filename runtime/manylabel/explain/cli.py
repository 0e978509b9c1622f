"""`manylabel explain`."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Unpack

import click

from manylabel.classifier import Classifier
from manylabel.cli.options import LoadOptions, loading_options
from manylabel.cli.rendering import decode_arguments, read_lines, truncate, write_utf8
from manylabel.errors import OutputExists
from manylabel.explain.occlusion import Explanation
from manylabel.system.unicode import valid_unicode


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("text", required=False)
@click.option("--label", help="The label to explain.  [default: the most probable one]")
@click.option("--html", type=click.Path(path_type=Path), help="Also write an HTML page to this file.")
@click.option("--force", is_flag=True, help="Replace an existing page.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@loading_options
def explain(
    bundle: Path,
    text: str | None,
    label: str | None,
    html: Path | None,
    force: bool,
    as_json: bool,
    **load_options: Unpack[LoadOptions],
) -> None:
    """Show which words of TEXT, or of standard input, a label's score depends on.

    Each word is left out in turn; its effect is how much the probability drops without it. If the text has several
    windows, the words of the window with the highest probability are shown.
    """
    if html and html.exists() and not force:
        raise OutputExists(f"{html} already exists. Choose another output, or replace it with --force.")
    classifier = Classifier.load(bundle, **load_options)
    (content,) = decode_arguments([text]) if text is not None else ["\n".join(read_lines())]
    explanation = classifier.explain(content, label)
    write_utf8()
    if html:
        html.write_text(explanation.to_html(), encoding="utf-8")
    if as_json:
        click.echo(json.dumps({**asdict(explanation), "text": valid_unicode(content)}, ensure_ascii=False))
        return
    for line in _format_lines(explanation):
        click.echo(line)


def _format_lines(explanation: Explanation) -> Iterator[str]:
    yield f"{explanation.label}: {explanation.score:.3f}, threshold {explanation.threshold:.3f}"
    if len(explanation.passages) > 1:
        for index, passage in enumerate(explanation.passages):
            mark = "✓" if index == explanation.carried_by else " "
            yield f"  {mark} {passage.score:.3f}  {truncate(explanation.text[passage.start : passage.end], 80)}"
        yield "  words of the marked passage:"
    strongest = max((abs(word.effect) for word in explanation.words), default=0.0) or 1.0
    for word in explanation.ranked:
        bar = ("█" if word.effect >= 0 else "░") * round(20 * abs(word.effect) / strongest)
        yield f"  {word.effect:+.3f} {bar:<20} {truncate(word.text, 40)}"
