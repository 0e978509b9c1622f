"""The public surface of `manylabel_train`: complete, lazily loaded, and the same as the command line's options."""

import subprocess
import sys
from dataclasses import asdict
from typing import get_args

import click
import pytest

import manylabel_train
from manylabel_train.calibration.fit import CalibrationMethod
from manylabel_train.cli.train import train as train_command
from manylabel_train.models.pooling import Pooling
from manylabel_train.training.config import LongTexts, TrainConfig, TrainingPrecision
from manylabel_train.training.losses import LOSSES


def test_public_names_are_available() -> None:
    for name in manylabel_train.__all__:
        assert getattr(manylabel_train, name).__name__ == name
    assert set(manylabel_train.__all__) <= set(dir(manylabel_train))
    with pytest.raises(AttributeError, match="no attribute 'Recipe'"):
        print(manylabel_train.Recipe)


def test_import_does_not_load_pytorch() -> None:
    code = "import sys, manylabel_train, manylabel_train.cli.train; assert not {'torch', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_train_options_match_train_config() -> None:
    """The command declares choices and defaults of its own, because it imports no PyTorch."""
    options = {option.name: option for option in train_command.params}
    choices = {
        "train_precision": get_args(TrainingPrecision),
        "long_text": get_args(LongTexts),
        "pooling": get_args(Pooling),
        "calibrate": get_args(CalibrationMethod),
    }
    for name, values in choices.items():
        kind = options[name].type
        assert isinstance(kind, click.Choice)
        assert set(kind.choices) == set(values)
    context = click.Context(train_command)
    defaults = {name: option.get_default(context) for name, option in options.items()}
    for name, value in asdict(TrainConfig()).items():
        if name in options and value is not None:
            assert defaults[name] == value, name
    assert isinstance(options["loss"], click.Option)
    assert all(loss in (options["loss"].help or "") for loss in LOSSES)
