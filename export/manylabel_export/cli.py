"""`manylabel train` and `manylabel export`. Light to import: PyTorch is loaded when a command runs."""

import csv
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from manylabel.errors import BudgetExceeded, MissingDependency
from manylabel_export.goal_options import calibration_option, goal_options, goals_of
from manylabel_export.interruption import interruptible

WORKBENCH = ("torch", "transformers", "accelerate", "onnx", "sklearn", "pyarrow")
DEFAULT_MODEL = "all-MiniLM-L6-v2"  # checkpoint.DEFAULT_MODEL, which is not imported before a command runs


def needs_workbench(command: Callable[..., None]) -> Callable[..., None]:
    """Say the line to type where PyTorch and friends are absent."""

    @wraps(command)
    def guarded(**options: Any) -> None:
        try:
            for name in WORKBENCH:
                import_module(name)
        except ImportError as exc:
            raise MissingDependency(
                f'{exc.name} is required to train and export. pip install "manylabel[export,cpu]"'
            ) from exc
        with _quiet():
            command(**options)

    return guarded


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where a file of labelled texts keeps what."""
    options = (
        click.option("--text-column", default="text", show_default=True, help="Holds the texts."),
        click.option(
            "--labels-column", default="labels", show_default=True, help="Holds a separated string or a list."
        ),
        click.option("--label-columns", metavar="A,B,...", help="One 0/1 column a label, in place of a labels column."),
        click.option("--separator", default="|", show_default=True, help="Stands between labels in a string."),
        click.option(
            "--unlisted",
            type=click.Choice(["absent", "unknown"]),
            default="absent",
            show_default=True,
            help="What a label is that a row does not list; rows with a 'known' list say it themselves.",
        ),
        click.option(
            "--split-column",
            default="split",
            show_default=True,
            help="Says train, validation (dev) or test; may be absent.",
        ),
        click.option(
            "--labels",
            "label_names",
            metavar="A,B,...",
            help='The labels that may occur, in column order; "in, quotes" where one has a comma.  '
            "[default: those that occur]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The run's folder.")
@click.option(
    "--model",
    help=f"The encoder to start from: a folder, or a name on the hub.  [default: {DEFAULT_MODEL}]",
)
@click.option(
    "--from",
    "start_from",
    metavar="CHECKPOINT",
    help="A classifier, multi-class or multi-label, whose head is carried over by label name.",
)
@click.option(
    "--add-label",
    "add_labels",
    metavar="NAME",
    multiple=True,
    help="A label that the multi-label classifier of --from learns besides its own, which it keeps; may be repeated.",
)
@data_options
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Passes over the data.  [default: 3 to 15, more for small sets]"
)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Texts a step.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Of the encoder; the head's is ten times that.  [default: by its size]",
)
@click.option(
    "--max-length",
    type=click.IntRange(min=8),
    help="Tokens read at once.  [default: what the model reads, at most 512]",
)
@click.option(
    "--long-text",
    type=click.Choice(["window", "truncate"]),
    default="window",
    show_default=True,
    help="Beyond max-length: train on all of a text in windows (its first 8), or on its beginning alone. The export "
    "does the same.",
)
@click.option(
    "--pooling",
    type=click.Choice(["own", "first", "mean"]),
    default="own",
    show_default=True,
    help="What a fresh head reads: what the checkpoint's class reads, the first token, or the mean of all.",
)
@click.option(
    "--lora",
    metavar="RANK",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=8,
    help="Train adapters of this rank in place of a large encoder; merged before the run is written.  [8 if no RANK]",
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Epochs without improvement until training stops.",
)
@click.option(
    "--best-by",
    metavar="METRIC",
    default="macro_f1",
    show_default=True,
    help="The validation metric that picks the checkpoint.",
)
@click.option(
    "--train-precision",
    type=click.Choice(["bf16", "fp16", "fp32"]),
    help="What training computes in; fp16 on CUDA alone.  [default: bf16 where the machine does, else fp16 on CUDA]",
)
@click.option(
    "--loss",
    metavar="LOSS",
    default="auto",
    show_default=True,
    help="auto, bce, weighted-bce, focal or asymmetric; where only positives are known assume-negative, "
    "smoothed-negative, weak-negative, expected-positives or role.",
)
@click.option(
    "--labels-per-text",
    type=click.FloatRange(min=0, min_open=True),
    help="For expected-positives and role.  [default: from the validation split]",
)
@goal_options
@calibration_option("none")
@click.option("--seed", type=int, default=42, show_default=True, help="The same seed gives the same run.")
@click.option("--drop-leaked", is_flag=True, help="Do not train on texts that validation or test have too, or nearly.")
@click.option(
    "--search",
    metavar="N",
    type=click.IntRange(min=2),
    help="Try N recipes first, the default among them, and train by the best; each may take a run and a half.",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@interruptible
@needs_workbench
def train(**options: Any) -> None:
    """Fine-tune on DATA (CSV, TSV, JSONL or Parquet) a classifier that gives every label that applies."""
    from manylabel_export.goals import Goals
    from manylabel_export.training import train as run_training
    from manylabel_export.training.trials import table

    if options["model"] and options["start_from"]:
        raise click.UsageError("--model and --from exclude each other: --from carries a head over, --model starts one.")
    if options["add_labels"] and not options["start_from"]:
        raise click.UsageError("--add-label adds to a multi-label classifier. Name it with --from.")
    search = _search(options)
    recipe, goals = _recipe(options), goals_of(options) or Goals()  # before the data: their faults are quick to find
    run = run_training(
        read_data(options["data"], options),
        options["output"],
        model=options["model"] or DEFAULT_MODEL,
        start_from=options["start_from"],
        add_labels=options["add_labels"],
        recipe=recipe,
        goals=goals,
        calibration=options["calibrate"],
        resume=options["resume"],
        force=options["force"],
        drop_leaked=options["drop_leaked"],
        search=search,
    )
    _report_origin(run.details["origin"])
    if "search" in run.details:
        click.echo(table(run.details["search"]))
    if dropped := run.details["splits"]["dropped"]:
        click.echo(f"rows left out of training because validation or test have them too, or nearly: {dropped:,}")
    for split, figures in run.metrics.items():
        click.echo(
            f"{split} ({figures['texts']:,} texts): {_f1(figures['tuned'])} with tuned thresholds, "
            f"{_f1(figures['at_half'])} at 0.5"
        )
    click.echo(f"{options['output']} is ready: manylabel export {options['output']} --output BUNDLE")


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
@goal_options
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
@needs_workbench
def export(**options: Any) -> None:
    """Turn RUN, or any multi-label checkpoint of Hugging Face, into a bundle with proved answers.

    A variant beyond --max-f1-drop or --max-flips keeps in fp32 what does most harm; where that is not enough, it is
    left out, and the exit code is 3.
    """
    from manylabel.folders import check_free
    from manylabel_export.exporting import export as run_export
    from manylabel_export.shortage import explained

    goals = goals_of(options)
    check_free(options["output"], force=options["force"])
    short = "while the bundle was made. Make some free, or name fewer variants with --precision."
    kept = "Nothing was written; the same command begins anew."
    with _told(), explained(options["output"], "the bundle", short=short, kept=lambda: kept):
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
            f"{bundle.path} is written without {' and '.join(refused)}, which would be beyond the budget. Allow more "
            "with --max-f1-drop or --max-flips, or name what you need with --precision."
        )


def _recipe(options: dict[str, Any]) -> Any:
    from manylabel_export.training.recipe import Recipe

    return Recipe(
        epochs=options["epochs"],
        batch_size=options["batch_size"],
        learning_rate=options["learning_rate"],
        max_length=options["max_length"],
        patience=options["patience"],
        best_by=options["best_by"],
        precision=options["train_precision"],
        seed=options["seed"],
        loss=options["loss"],
        labels_per_text=options["labels_per_text"],
        long_text=options["long_text"],
        pooling=options["pooling"],
        lora=options["lora"],
    )


def _search(options: dict[str, Any]) -> Any:
    """What to search over: all that the command line leaves open."""
    from manylabel_export.training.search import Search
    from manylabel_export.training.trials import VALUES

    if not options["search"]:
        return None
    given = click.get_current_context().get_parameter_source
    return Search(options["search"], tuple(name for name in VALUES if given(name) is ParameterSource.DEFAULT))


def read_data(path: Path, options: dict[str, Any], *, labels: tuple[str, ...] = ()) -> Any:
    """The data that the options name; `labels` are the ones that may occur where the options do not say."""
    from manylabel_export.reading import Columns, read

    columns = Columns(
        text=options["text_column"],
        labels=options["labels_column"],
        indicators=_list(options["label_columns"]),
        separator=options["separator"],
        split=options["split_column"],
        unlisted=options["unlisted"],
    )
    return read(path, columns, labels=_list(options["label_names"]) or labels)


def _validation(options: dict[str, Any]) -> Any:
    """The rows for validation: those that say so, or all where none says anything.

    Held to the checkpoint's labels, so that a rare one need not occur among them.
    """
    from manylabel_export.subject import labels_of

    if options["validation"] is None:
        return None
    data = read_data(options["validation"], options, labels=labels_of(options["run"]))
    return data.part("validation") if "validation" in data.split else data


def _corpus(options: dict[str, Any]) -> Any:
    """The texts that a vocabulary is trimmed to, if it is."""
    from manylabel_export.trimming import read_corpus

    path = options["trim_vocabulary"]
    return read_corpus(path, options["text_column"]) if path else ()


def _list(names: str | None) -> tuple[str, ...]:
    """The names in a line of CSV."""
    return tuple(name.strip() for name in next(csv.reader([names], skipinitialspace=True))) if names else ()


def _report_origin(origin: dict[str, Any]) -> None:
    for key, what in (
        ("fresh_labels", "start fresh"),
        ("added_labels", "were added"),
        ("thresholds_kept", "decide as the checkpoint did, since validation does not know them of every text"),
        ("dropped_labels", "were dropped from the checkpoint's head"),
    ):
        if origin.get(key):
            click.echo(f"labels that {what}: {', '.join(origin[key])}")
    if "old_decisions_kept" in origin:
        click.echo(f"old labels decide as before in {origin['old_decisions_kept']:.2%} of validation decisions")


def _report_vocabulary(bundle: Any, *, as_json: bool) -> None:
    if found := bundle.manifest.source.get("vocabulary"):
        click.echo(
            f"vocabulary: {found['pieces']:,} of {found['pieces_before']:,} pieces; the corpus is tokenised as before, "
            f"and so will be {found['identical_left_out']:.1%} of texts like it",
            err=as_json,
        )


def _budget(options: dict[str, Any]) -> Any:
    from manylabel.certificate import Budget

    return Budget(options["max_f1_drop"], options["max_flips"])


def _report_certificate(bundle: Any, *, as_json: bool) -> None:
    from dataclasses import asdict

    from manylabel.terminal import describe_certificate

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


def _f1(figures: dict[str, float]) -> str:
    return f"micro-F1 {figures['micro_f1']:.3f}, macro-F1 {figures['macro_f1']:.3f}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Our own warnings as one line each; what libraries say about themselves not at all."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module="manylabel")
            warnings.showwarning = lambda message, *_: click.echo(f"warning: {message}", err=True)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
