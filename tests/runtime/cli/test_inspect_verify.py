"""`manylabel inspect` and `verify`: a bundle's content, its integrity, and exit code 3 if it is damaged."""

from pathlib import Path
from typing import Any

import pytest
from tests.helpers.toy import LABELS
from tests.runtime.conftest import Cli, Resign, one_line


@pytest.mark.parametrize("command", ["predict", "inspect", "verify"])
@pytest.mark.parametrize("name", ["nowhere", "x" * 5000, "two\nlines"])
def test_missing_bundle_exit_code(tmp_path: Path, cli: Cli, command: str, name: str) -> None:
    done = cli(command, tmp_path / name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert one_line(done.stderr).startswith("InputError: there is no bundle at ")


@pytest.mark.parametrize("command", ["predict", "inspect", "verify"])
def test_damaged_bundle_exit_code(own_bundle: Path, cli: Cli, command: str) -> None:
    (own_bundle / "extra").write_text("x")
    done = cli(command, own_bundle)
    assert (done.exit_code, done.stdout) == (3, "")
    assert one_line(done.stderr).startswith("BundleError: ")


def test_inspect_shows_what_a_bundle_is(bundle: Path, cli: Cli) -> None:
    done = cli("inspect", bundle)
    assert done.exit_code == 0
    for part in (*LABELS, "fp32", "int8", "model_fp16.onnx", "32 tokens", "window", "tuned on validation data"):
        assert part in done.stdout
    assert "compared with PyTorch in fp32 on 60 texts (validation)\n" in done.stdout
    for figure in ("probabilities differ by", "decisions flipped", "macro-F1 "):
        assert done.stdout.count(figure) == 3


def test_inspect_shows_thresholds_and_training(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        figures = {"texts": 10, "tuned": {"macro_f1": 0.5}, "at_half": {"macro_f1": 0.25}}
        manifest.update(thresholds_tuned=False, metrics={"test": figures})

    output = cli("inspect", resign(own_bundle, edit)).stdout
    assert "thresholds 0.5: not tuned" in output
    assert "  test, PyTorch: texts 10\n" in output
    assert "  test, PyTorch, tuned: macro_f1 0.5\n" in output


def test_inspect_as_json_is_the_manifest(bundle: Path, cli: Cli) -> None:
    assert cli("inspect", bundle, "--json").stdout_bytes == (bundle / "bundle.json").read_bytes()


def test_verify_says_what_it_checked(bundle: Path, cli: Cli) -> None:
    done = cli("verify", bundle, "--device", "cpu")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "10 files match the manifest",
        "fp32 on cpu: 6 probes passed",
        "int8 on cpu: 6 probes passed",
        "fp16: not checked, it is not for cpu",
    ]
    assert cli("verify", bundle, "--device", "cpu", "--precision", "int8").stdout.splitlines()[1:] == [
        "int8 on cpu: 6 probes passed"
    ]


def test_verify_fails_where_nothing_runs(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    def only_cuda(manifest: dict[str, Any]) -> None:
        manifest["variants"] = manifest["variants"][2:]

    resign(own_bundle, only_cuda)
    done = cli("verify", own_bundle, "--device", "cpu")
    assert done.exit_code == 2
    assert "has no variant for cpu" in done.stderr
    assert cli("verify", own_bundle, "--device", "cpu", "--precision", "fp16").exit_code == 2
