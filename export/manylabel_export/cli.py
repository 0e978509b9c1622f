"""The command `manylabel export`. Importing it is quick: PyTorch is imported when the command runs."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from manylabel.bundle.manifest import PRECISIONS
from manylabel.errors import BudgetExceeded
from manylabel_train.cli.command_setup import require_export_extra
from manylabel_train.cli.data_options import data_options, read_data
from manylabel_train.cli.objective_options import calibration_option, objective_options, parse_objective_options


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The bundle's folder.")
@click.option(
    "--validation",
    type=click.Path(path_type=Path),
    help="Labelled texts that were not trained on, for thresholds and parity. A run brings its own.",
)
@data_options
@click.option(
    "--engine",
    type=click.Choice(["auto", "optimum", "torch"]),
    default="auto",
    show_default=True,
    help="The tracing engine; auto is optimum if it is installed.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    help="A variant to write; repeat for several. fp32 is always built and checked.  [default: all]",
)
@click.option(
    "--long-text",
    type=click.Choice(["window", "truncate", "error"]),
    help="What happens to texts beyond max_length.  [default: what the run was trained for, else window]",
)
@click.option(
    "--trim-vocabulary",
    metavar="CORPUS",
    type=click.Path(path_type=Path),
    help="Prune the vocabulary to single characters and the tokens of the texts in this file (.txt with one text "
    "per line, or a table).",
)
@click.option(
    "--single-file",
    is_flag=True,
    help="Also write text_to_labels.onnx: text in, labels out, in any ONNX Runtime. For BERT's WordPiece tokenizer.",
)
@objective_options
@calibration_option("none")
@click.option(
    "--max-f1-drop",
    type=click.FloatRange(0, 1),
    default=0.005,
    show_default=True,
    help="Largest drop of micro-F1 and of macro-F1 from PyTorch to a variant on the validation texts.",
)
@click.option(
    "--max-flips",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="Largest share of the texts with at least one label that may get other labels than from PyTorch.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the certificate as one JSON document.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@require_export_extra
def export(**options: Any) -> None:
    """Export RUN, or any multi-label checkpoint of Hugging Face, as a bundle, after checking it against PyTorch.

    A variant that exceeds --max-f1-drop or --max-flips, or fails one of the bundle's probes, keeps its most harmful
    layers in fp32. If that does not suffice, the variant is left out, and the exit code is 3.
    """
    from manylabel.system.atomic_write import check_output_free
    from manylabel.system.resource_errors import memory_advice
    from manylabel_export.pipeline import export as run_export
    from manylabel_train.training.resource_errors import explain_shortage

    objectives = parse_objective_options(options)
    check_output_free(options["output"], force=options["force"])
    short = f"while the bundle was made. {memory_advice()} Or name fewer variants with --precision."
    kept = "Nothing was written; the same command starts over."
    with _log_to_stderr(), explain_shortage(options["output"], "the bundle", short=short, kept=lambda: kept):
        bundle = run_export(
            options["run"],
            options["output"],
            validation=_read_validation(options),
            engine=options["engine"],
            precisions=options["precisions"] or PRECISIONS,
            policy=options["long_text"],
            objectives=objectives,
            calibration=options["calibrate"],
            budget=_budget(options),
            corpus=_read_corpus(options),
            single_file=options["single_file"],
            force=options["force"],
        )
    _print_vocabulary(bundle, as_json=options["as_json"])
    _print_certificate(bundle, as_json=options["as_json"])
    if not bundle.manifest.thresholds_tuned:
        click.echo(
            "There were no validation texts, so every threshold is 0.5. Tune them with --validation DATA.", err=True
        )
    click.echo(f'{bundle.path} is ready: manylabel predict {bundle.path} "a text"', err=options["as_json"])
    if rejected := bundle.manifest.certificate.refused:
        raise BudgetExceeded(
            f"{bundle.path} was written without {' and '.join(rejected)}, for the reason above. Allow more with "
            "--max-f1-drop or --max-flips, or name the variants that you need with --precision."
        )


def _read_validation(options: dict[str, Any]) -> Any:
    """Read the validation texts: the rows of the validation split, or all rows of a file without one.

    The checkpoint's labels are expected, because a rare label need not occur in the file.
    """
    from manylabel_export.source import read_checkpoint_labels

    if options["validation"] is None:
        return None
    data = read_data(options["validation"], options, labels=read_checkpoint_labels(options["run"]))
    return data.part("validation") if "validation" in data.split else data


def _read_corpus(options: dict[str, Any]) -> Any:
    """Read the texts that the vocabulary is pruned to; none without the option."""
    from manylabel_export.vocabulary_pruning.model import read_corpus

    path = options["trim_vocabulary"]
    return read_corpus(path, options["text_column"]) if path else ()


def _budget(options: dict[str, Any]) -> Any:
    from manylabel.bundle.certificate import Budget

    return Budget(options["max_f1_drop"], options["max_flips"])


def _print_vocabulary(bundle: Any, *, as_json: bool) -> None:
    if vocabulary := bundle.manifest.source.get("vocabulary"):
        click.echo(
            f"vocabulary: {vocabulary['pieces']:,} of {vocabulary['pieces_before']:,} tokens; the texts of the corpus "
            f"keep their tokens, and an estimated {vocabulary['identical_left_out']:.1%} of similar texts do",
            err=as_json,
        )


def _print_certificate(bundle: Any, *, as_json: bool) -> None:
    from dataclasses import asdict

    from manylabel.cli.rendering import describe_certificate

    if as_json:
        click.echo(json.dumps(asdict(bundle.manifest.certificate), indent=2, ensure_ascii=False))
        return
    for line in describe_certificate(bundle.manifest.certificate):
        click.echo(line)


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Print the log of the export on standard error."""
    handler = logging.StreamHandler()
    logger = logging.getLogger("manylabel.export")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
