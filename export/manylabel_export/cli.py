"""`manylabel export`. Light to import: PyTorch is loaded when the command runs."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

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
    help="Labelled texts not trained on, for thresholds and parity. A run brings its own.",
)
@data_options
@click.option(
    "--engine",
    type=click.Choice(["auto", "optimum", "torch"]),
    default="auto",
    show_default=True,
    help="What traces.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["fp32", "int8", "fp16"]),
    multiple=True,
    help="Variants to write; may be repeated. fp32 is made and proved in any case.  [default: all]",
)
@click.option(
    "--long-text",
    type=click.Choice(["window", "truncate", "error"]),
    help="What happens beyond max_length.  [default: what the run was trained for, else window]",
)
@click.option(
    "--trim-vocabulary",
    metavar="CORPUS",
    type=click.Path(path_type=Path),
    help="Keep the pieces that the texts of this file use, and single characters; a line a text (.txt), or a table.",
)
@click.option(
    "--single-file",
    is_flag=True,
    help="Also write text_to_labels.onnx: text in, labels out, in any ONNX Runtime. For tokenizers of BERT's kind.",
)
@objective_options
@calibration_option("none")
@click.option(
    "--max-f1-drop",
    type=click.FloatRange(0, 1),
    default=0.005,
    show_default=True,
    help="Of micro- and of macro-F1, from PyTorch to a variant on the validation texts.",
)
@click.option(
    "--max-flips",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="Of the texts that get a label, the share that may get other labels than from PyTorch.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the certificate as one JSON document.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@require_export_extra
def export(**options: Any) -> None:
    """Turn RUN, or any multi-label checkpoint of Hugging Face, into a bundle with proved answers.

    A variant beyond --max-f1-drop or --max-flips, or off on one of the bundle's probes, keeps in fp32 what does most
    harm; where that is not enough, it is left out, and the exit code is 3.
    """
    from manylabel.system.atomic_write import check_output_free
    from manylabel.system.resource_errors import more_memory
    from manylabel_export.pipeline import export as run_export
    from manylabel_train.training.resource_errors import explain_shortage

    goals = parse_objective_options(options)
    check_output_free(options["output"], force=options["force"])
    short = f"while the bundle was made. {more_memory()} Or name fewer variants with --precision."
    kept = "Nothing was written; the same command begins anew."
    with _told(), explain_shortage(options["output"], "the bundle", short=short, kept=lambda: kept):
        bundle = run_export(
            options["run"],
            options["output"],
            validation=_validation(options),
            engine=options["engine"],
            precisions=options["precisions"] or ("fp32", "int8", "fp16"),
            policy=options["long_text"],
            goals=goals,
            calibration=options["calibrate"],
            budget=_budget(options),
            corpus=_corpus(options),
            single_file=options["single_file"],
            force=options["force"],
        )
    _report_vocabulary(bundle, as_json=options["as_json"])
    _report_certificate(bundle, as_json=options["as_json"])
    if not bundle.manifest.thresholds_tuned:
        click.echo(
            "No validation texts were given: every threshold is 0.5. Tune them with --validation DATA.", err=True
        )
    click.echo(f'{bundle.path} is ready: manylabel predict {bundle.path} "a text"', err=options["as_json"])
    if refused := bundle.manifest.certificate.refused:
        raise BudgetExceeded(
            f"{bundle.path} is written without {' and '.join(refused)}, for the reason above. Allow more with "
            "--max-f1-drop or --max-flips, or name what you need with --precision."
        )


def _validation(options: dict[str, Any]) -> Any:
    """The rows for validation: those that say so, or all where none says anything.

    Held to the checkpoint's labels, so that a rare one need not occur among them.
    """
    from manylabel_export.source import labels_of

    if options["validation"] is None:
        return None
    data = read_data(options["validation"], options, labels=labels_of(options["run"]))
    return data.part("validation") if "validation" in data.split else data


def _corpus(options: dict[str, Any]) -> Any:
    """The texts that a vocabulary is trimmed to, if it is."""
    from manylabel_export.vocabulary_pruning.model import read_corpus

    path = options["trim_vocabulary"]
    return read_corpus(path, options["text_column"]) if path else ()


def _budget(options: dict[str, Any]) -> Any:
    from manylabel.bundle.certificate import Budget

    return Budget(options["max_f1_drop"], options["max_flips"])


def _report_vocabulary(bundle: Any, *, as_json: bool) -> None:
    if found := bundle.manifest.source.get("vocabulary"):
        click.echo(
            f"vocabulary: {found['pieces']:,} of {found['pieces_before']:,} pieces; the corpus is tokenised as before, "
            f"and so will be {found['identical_left_out']:.1%} of texts like it",
            err=as_json,
        )


def _report_certificate(bundle: Any, *, as_json: bool) -> None:
    from dataclasses import asdict

    from manylabel.cli.rendering import describe_certificate

    if as_json:
        click.echo(json.dumps(asdict(bundle.manifest.certificate), indent=2, ensure_ascii=False))
        return
    for line in describe_certificate(bundle.manifest.certificate):
        click.echo(line)


@contextmanager
def _told() -> Iterator[None]:
    """What an export says of its work, line by line on standard error."""
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
