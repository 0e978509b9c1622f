"""`manylabel train` and `manylabel export` on the command line."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from tests.helpers import toy

from manylabel import Bundle
from manylabel.cli.main import main
from manylabel_export.cli import export
from manylabel_train.cli.data_options import parse_names
from manylabel_train.cli.train import train
from manylabel_train.data.training_run import read_run

QUICK = ("--epochs", "2", "--batch-size", "16", "--learning-rate", "1e-3", "--train-precision", "fp32")


@pytest.fixture
def manylabel(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Run a command line; works without an installed package."""
    commands = {"train": train, "export": export}
    found = type(main).get_command

    def get_command(self, ctx, name):  # type: ignore[no-untyped-def]
        return commands.get(name) or found(self, ctx, name)

    monkeypatch.setattr(type(main), "get_command", get_command)
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def is_one_line(result: Result, error: str, *parts: str) -> None:
    """Check for one line on standard error, the error message, and exit code 2."""
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"{error}: ")
    for part in parts:
        assert part in result.stderr
    assert result.stdout == ""


def test_train_then_export(manylabel, encoder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = toy.write_csv(tmp_path / "data.csv", toy.dataset(200))
    trained = manylabel("train", data, "-o", tmp_path / "run", "--model", encoder, *QUICK)
    assert trained.exit_code == 0, trained.output
    assert "validation (60 texts): micro-F1" in trained.stdout
    assert "at 0.5" in trained.stdout
    assert f"manylabel export {tmp_path / 'run'} --output BUNDLE" in trained.stdout
    assert "epoch 2 of 2" in trained.stderr
    assert "{" not in trained.output  # no dictionary of transformers' own log
    exported = manylabel("export", tmp_path / "run", "-o", tmp_path / "bundle", "--json")
    assert exported.exit_code == 0, exported.output
    assert json.loads(exported.stdout)["texts"] == 60
    Bundle.open(tmp_path / "bundle").verify()
    (tmp_path / "run" / "report.html").unlink()
    reported = json.loads(manylabel("report", tmp_path / "run", "--json").stdout)
    assert Path(reported["report"]).is_file()


def test_train_json_output(manylabel, encoder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = toy.write_csv(tmp_path / "data.csv", toy.dataset(200))
    trained = manylabel("train", data, "-o", tmp_path / "run", "--model", encoder, *QUICK, "--json")
    document, run = json.loads(trained.stdout), read_run(tmp_path / "run")
    assert document["run"] == str(tmp_path / "run")
    assert document["thresholds"] == dict(zip(run.labels, run.thresholds, strict=True))
    assert document["metrics"] == run.metrics


def test_missing_folder_suggests_nearest(manylabel, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "run").mkdir()
    meant = f"Did you mean '{tmp_path / 'run'}'?"
    is_one_line(manylabel("export", tmp_path / "runn", "-o", tmp_path / "bundle"), "CheckpointError", meant)
    is_one_line(manylabel("report", tmp_path / "ru"), "CheckpointError", meant)


def test_labels_order_the_columns(manylabel, encoder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data, order = toy.write_csv(tmp_path / "data.csv", toy.dataset(200)), toy.LABELS[::-1]
    result = manylabel("train", data, "-o", tmp_path / "run", "--model", encoder, "--labels", ",".join(order), *QUICK)
    assert result.exit_code == 0, result.output
    assert read_run(tmp_path / "run").labels == order


def test_label_names_may_contain_commas() -> None:
    assert parse_names('app, "price, value",größe') == ("app", "price, value", "größe")
    assert parse_names(None) == ()


def test_from_lists_new_and_dropped_labels(manylabel, multiclass: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = toy.examples(60)
    lines = ["text,labels"] + [f"{text},{'|'.join(labels).replace('price', 'returns')}" for text, labels in rows]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    result = manylabel("train", tmp_path / "data.csv", "-o", tmp_path / "run", "--from", multiclass, *QUICK)
    assert result.exit_code == 0, result.output
    assert "labels that start new: returns" in result.stdout
    assert "labels that were dropped from the checkpoint's head: price" in result.stdout


def test_a_warning_is_one_line(manylabel, encoder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = toy.write_csv(tmp_path / "data.csv", toy.dataset(200))
    labels = ",".join([*toy.LABELS, "returns"])
    result = manylabel("train", data, "-o", tmp_path / "run", "--model", encoder, "--labels", labels, *QUICK)
    assert result.exit_code == 0, result.output
    warned = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 3
    assert "no text of the train split has 'returns'" in warned[0]
    assert "UserWarning" not in result.stderr


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        (["--best-by", "accuracy"], "InputError", ["'accuracy'", "macro_f1"]),
        (["--max-length", "64"], "InputError", ["32 tokens at most"]),
        (["--text-column", "review"], "DataError", ["'review'", "--text-column"]),
        (["--labels", "billing,delivery,price"], "UnknownLabel", ["'user experience'", "data.csv, line"]),
        (["--labels", "price,price"], "DataError", ["occurs more than once"]),
        (["--separator", ""], "DataError", ["separator is empty"]),
        (["--resume"], "InputError", ["no interrupted run"]),
    ],
)
def test_usage_error_is_one_line(
    manylabel, encoder: Path, tmp_path: Path, options: list[str], error: str, parts: list[str]
) -> None:  # type: ignore[no-untyped-def]
    data = toy.write_csv(tmp_path / "data.csv", toy.dataset(200))
    result = manylabel("train", data, "-o", tmp_path / "run", "--model", encoder, *options)
    is_one_line(result, error, *parts)
    assert not (tmp_path / "run").exists()


def test_missing_file_and_existing_output_errors(manylabel, encoder: Path, elsewhere: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    is_one_line(manylabel("train", tmp_path / "no.csv", "-o", tmp_path / "run"), "DataError", "No such file")
    is_one_line(manylabel("export", elsewhere, "-o", tmp_path), "OutputExists", "--force")
    is_one_line(manylabel("export", encoder, "-o", tmp_path / "b"), "CheckpointError", "problem_type")


def test_model_and_from_exclude_each_other(manylabel, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = manylabel("train", "data.csv", "-o", tmp_path / "run", "--model", "a", "--from", "b")
    assert result.exit_code == 2
    assert "--model and --from are mutually exclusive" in result.stderr


def test_validation_labels_must_match_checkpoint(manylabel, elsewhere: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A rare label may be missing from the validation texts; a label that the model lacks is an error."""
    (tmp_path / "few.csv").write_text("text,labels\n" + "parcel late,delivery\ninvoice,billing\n" * 10)
    done = manylabel(
        "export", elsewhere, "-o", tmp_path / "bundle", "--validation", tmp_path / "few.csv", "--precision", "fp32"
    )
    assert done.exit_code == 0, done.output
    assert list(Bundle.open(tmp_path / "bundle").variants) == ["fp32"]
    (tmp_path / "other.csv").write_text("text,labels\nparcel late,Delivery\n")
    failed = manylabel("export", elsewhere, "-o", tmp_path / "b", "--validation", tmp_path / "other.csv")
    is_one_line(failed, "UnknownLabel", "other.csv, line 2", "Did you mean 'delivery'?")


def test_tuning_uses_validation_rows_only(manylabel, elsewhere: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = toy.write_csv(tmp_path / "data.csv", toy.dataset(200, per_split=30))
    done = manylabel(
        "export", elsewhere, "-o", tmp_path / "bundle", "--validation", data, "--precision", "fp32", "--json"
    )
    assert json.loads(done.stdout)["texts"] == 30


def test_export_without_validation_warns(manylabel, elsewhere: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = manylabel("export", elsewhere, "-o", tmp_path / "bundle", "--precision", "fp32")
    assert "every threshold is 0.5" in result.stderr


def test_export_single_file_command(manylabel, elsewhere: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = toy.write_csv(tmp_path / "data.csv", toy.dataset(200))
    options = ["--validation", data, "--precision", "int8", "--trim-vocabulary", data, "--single-file"]
    done = manylabel("export", elsewhere, "-o", tmp_path / "bundle", *options)
    assert done.exit_code == 0, done.output
    assert "the texts of the corpus keep their tokens, and an estimated 100.0% of similar texts do" in done.stdout
    assert {path.name for path in (tmp_path / "bundle").glob("*.onnx")} == {"model_int8.onnx", "text_to_labels.onnx"}
    assert manylabel("verify", tmp_path / "bundle", "--device", "cpu").exit_code == 0
    missing = manylabel("export", elsewhere, "-o", tmp_path / "b", "--trim-vocabulary", tmp_path / "no.csv")
    is_one_line(missing, "DataError", "no.csv")


@pytest.mark.parametrize("command", ["train", "export"])
def test_help_explains_every_option(manylabel, command: str) -> None:  # type: ignore[no-untyped-def]
    result = manylabel(command, "--help")
    assert result.exit_code == 0
    for parameter in (train if command == "train" else export).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_commands_load_without_pytorch() -> None:
    modules = "manylabel_train.cli.train, manylabel_export.cli"
    script = f"import sys, {modules}; print(sorted({{'torch', 'transformers', 'sklearn'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], env=toy.environment(), capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
