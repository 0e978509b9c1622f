"""`manylabel train`. Light to import: PyTorch is loaded when the command runs."""

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from manylabel_train.cli.data_options import data_options, read_data
from manylabel_train.cli.objective_options import calibration_option, goal_options, goals_of
from manylabel_train.cli.require_extras import needs_workbench
from manylabel_train.cli.signals import interruptible

DEFAULT_MODEL = "all-MiniLM-L6-v2"  # checkpoint.DEFAULT_MODEL, which is not imported before a command runs


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
@click.option("--json", "as_json", is_flag=True, help="Print the run's metrics and thresholds as one JSON document.")
@interruptible
@needs_workbench
def train(**options: Any) -> None:
    """Fine-tune on DATA (CSV, TSV, JSONL or Parquet) a classifier that gives every label that applies."""
    from manylabel_train.thresholds.objectives import Goals
    from manylabel_train.training.train import train as run_training

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
    if options["as_json"]:
        thresholds = dict(zip(run.labels, run.thresholds, strict=True))
        click.echo(json.dumps({"run": str(options["output"]), "thresholds": thresholds, "metrics": run.metrics}))
        return
    _report(run, options["output"])


def _report(run: Any, output: Path) -> None:
    """What came of a training, for a reader."""
    from manylabel_train.training.trials import table

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
    click.echo(f"{output} is ready: manylabel export {output} --output BUNDLE")


def _recipe(options: dict[str, Any]) -> Any:
    from manylabel_train.training.config import Recipe

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
    from manylabel_train.training.hyperparameter_search import Search
    from manylabel_train.training.trials import VALUES

    if not options["search"]:
        return None
    given = click.get_current_context().get_parameter_source
    return Search(options["search"], tuple(name for name in VALUES if given(name) is ParameterSource.DEFAULT))


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


def _f1(figures: dict[str, float]) -> str:
    return f"micro-F1 {figures['micro_f1']:.3f}, macro-F1 {figures['macro_f1']:.3f}"
