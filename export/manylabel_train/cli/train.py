"""The command `manylabel train`."""

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from manylabel_train.cli.command_setup import handle_interrupts, require_export_extra
from manylabel_train.cli.data_options import data_options, read_data
from manylabel_train.cli.objective_options import calibration_option, objective_options, parse_objective_options
from manylabel_train.models import DEFAULT_MODEL

LORA_RANK = 8
"""Rank of `--lora` without a number; peft's default."""


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The folder of the run.")
@click.option(
    "--model",
    help=f"The encoder to start from: a folder, or a name on the Hub.  [default: {DEFAULT_MODEL}]",
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
    help="A new label for the multi-label classifier of --from, which keeps its own labels; may be repeated.",
)
@data_options
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Passes over the data.  [default: 3 to 15, more for small data]"
)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Texts per step.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Learning rate of the encoder; the head's is ten times that.  [default: depends on the encoder's size]",
)
@click.option(
    "--max-length",
    type=click.IntRange(min=8),
    help="Tokens read at once.  [default: the model's maximum, at most 512]",
)
@click.option(
    "--long-text",
    type=click.Choice(["window", "truncate"]),
    default="window",
    show_default=True,
    help="Texts beyond max-length: train on the whole text in windows (its first 8), or on its beginning only. The "
    "export does the same.",
)
@click.option(
    "--pooling",
    type=click.Choice(["own", "first", "mean"]),
    default="own",
    show_default=True,
    help="What a new head reads: what the checkpoint's class reads, the first token, or the mean of all.",
)
@click.option(
    "--lora",
    metavar="RANK",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=LORA_RANK,
    help="Train adapters of this rank instead of a large encoder, and merge them at the end.  "
    f"[{LORA_RANK} without RANK]",
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Epochs without improvement after which training stops.",
)
@click.option(
    "--best-by",
    metavar="METRIC",
    default="macro_f1",
    show_default=True,
    help="The validation metric that selects the checkpoint.",
)
@click.option(
    "--train-precision",
    type=click.Choice(["bf16", "fp16", "fp32"]),
    help="Precision of the training; fp16 needs CUDA.  [default: bf16 if supported, else fp16 on CUDA, else fp32]",
)
@click.option(
    "--loss",
    metavar="LOSS",
    default="auto",
    show_default=True,
    help="auto, bce, weighted-bce, focal or asymmetric; if only positives are known assume-negative, "
    "smoothed-negative, weak-negative, expected-positives or role.",
)
@click.option(
    "--labels-per-text",
    type=click.FloatRange(min=0, min_open=True),
    help="Mean number of labels, for expected-positives and role.  [default: from the validation split]",
)
@objective_options
@calibration_option("none")
@click.option("--seed", type=int, default=42, show_default=True, help="Seed; the same seed gives the same run.")
@click.option("--drop-leaked", is_flag=True, help="Do not train on near-duplicates of validation or test texts.")
@click.option(
    "--search",
    metavar="N",
    type=click.IntRange(min=2),
    help="Try N configurations first, including the default, and train with the best; each may take 1.5 times a run.",
)
@click.option("--resume", is_flag=True, help="Resume an interrupted run.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--json", "as_json", is_flag=True, help="Print the run's metrics and thresholds as one JSON document.")
@handle_interrupts
@require_export_extra
def train(**options: Any) -> None:
    """Fine-tune a multi-label classifier on DATA (CSV, TSV, JSONL or Parquet)."""
    from manylabel_train.thresholds.objectives import Objectives
    from manylabel_train.training.train import train as run_training

    if options["model"] and options["start_from"]:
        raise click.UsageError(
            "--model and --from are mutually exclusive: --from carries a head over, --model starts a new one."
        )
    if options["add_labels"] and not options["start_from"]:
        raise click.UsageError("--add-label needs a multi-label classifier to add to. Pass it with --from.")
    search = _read_search(options)
    # before the data is read, because their errors are quick to find
    config, objectives = _read_config(options), parse_objective_options(options) or Objectives()
    run = run_training(
        read_data(options["data"], options),
        options["output"],
        model=options["model"] or DEFAULT_MODEL,
        start_from=options["start_from"],
        add_labels=options["add_labels"],
        config=config,
        objectives=objectives,
        calibration=options["calibrate"],
        resume=options["resume"],
        force=options["force"],
        drop_leaked=options["drop_leaked"],
        search=search,
    )
    if options["as_json"]:
        thresholds = dict(zip(run.labels, run.thresholds, strict=True))
        click.echo(json.dumps({"run": str(options["output"]), "thresholds": thresholds, "metrics": run.metrics}))
        return
    _print_summary(run, options["output"])


def _print_summary(run: Any, output: Path) -> None:
    """Print the metrics of a finished training."""
    from manylabel_train.training.hyperparameter_search import format_trials

    _print_origin(run.details["origin"])
    if "search" in run.details:
        click.echo(format_trials(run.details["search"]))
    if dropped := run.details["splits"]["dropped"]:
        click.echo(f"rows left out of training as near-duplicates of validation or test rows: {dropped:,}")
    for split, figures in run.metrics.items():
        click.echo(
            f"{split} ({figures['texts']:,} texts): {_f1(figures['tuned'])} with tuned thresholds, "
            f"{_f1(figures['at_half'])} at 0.5"
        )
    click.echo(f"{output} is ready: manylabel export {output} --output BUNDLE")


def _read_config(options: dict[str, Any]) -> Any:
    from manylabel_train.training.config import TrainConfig

    return TrainConfig(
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


def _read_search(options: dict[str, Any]) -> Any:
    """Return the search over all options that the command line does not set."""
    from manylabel_train.training.hyperparameter_search import SEARCHABLE, SearchConfig

    if not options["search"]:
        return None
    given = click.get_current_context().get_parameter_source
    return SearchConfig(options["search"], tuple(name for name in SEARCHABLE if given(name) is ParameterSource.DEFAULT))


def _print_origin(origin: dict[str, Any]) -> None:
    for key, status in (
        ("fresh_labels", "start new"),
        ("added_labels", "were added"),
        ("thresholds_kept", "keep the checkpoint's decisions, because they are unknown for some validation texts"),
        ("dropped_labels", "were dropped from the checkpoint's head"),
    ):
        if origin.get(key):
            click.echo(f"labels that {status}: {', '.join(origin[key])}")
    if "old_decisions_kept" in origin:
        click.echo(f"unchanged decisions of old labels on validation: {origin['old_decisions_kept']:.2%}")


def _f1(figures: dict[str, float]) -> str:
    return f"micro-F1 {figures['micro_f1']:.3f}, macro-F1 {figures['macro_f1']:.3f}"
