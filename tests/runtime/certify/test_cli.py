"""`manylabel certify` on the command line, without PyTorch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.conftest import Cli, Python, Resign

from manylabel import Bundle, Classifier, InputError
from manylabel.bundle.certificate import BatchInvariance
from manylabel.bundle.variants import Precision
from manylabel.certify.certify import certify
from manylabel.inference.ort_loader import resolve_device
from manylabel.system.hardware_info import this_machine

TEXTS = ["the parcel was late", "a very good app", "invoice broken", "die rechnung war teuer"] * 10


@pytest.fixture
def labelled(bundle: Path, tmp_path: Path) -> Path:
    """A CSV file of texts with the labels that fp32 predicts."""
    labels = Classifier.load(bundle, device="cpu", precision="fp32").predict(TEXTS)
    path = tmp_path / "data.csv"
    rows = zip(TEXTS, labels, ["train", "test", "test", "dev"] * 10, strict=True)
    path.write_text("text,labels,split\n" + "".join(f"{text},{'|'.join(names)},{at}\n" for text, names, at in rows))
    return path


def test_card_has_the_expected_sections(cli: Cli, bundle: Path, labelled: Path) -> None:
    done = cli("certify", bundle, labelled)
    assert done.exit_code == 0
    for expected in ("the bundle's fp32 graph on 20 texts (test)", "int8: probabilities differ by", "ties", "macro-F1"):
        assert expected in done.stdout
    assert "fp32: probabilities differ by 0.0e+00 on average" in done.stdout
    assert "fp16" not in done.stdout  # it is not for the CPU
    assert "32 of 32" not in done.stdout
    assert "20 of 20 texts have bit-identical scores" in done.stdout
    assert "onnxruntime" in done.stdout


def test_certify_json_document(cli: Cli, bundle: Path, labelled: Path) -> None:
    found = json.loads(cli("certify", bundle, labelled, "--split", "all", "--json").stdout)
    assert found["texts"] == 40
    assert found["parity"]["fp32"]["quality"]["micro_f1"]["value"] == 1
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    fp32, int8 = (Classifier.load(bundle, device="cpu", precision=name).predict_proba(TEXTS) for name in precisions)
    difference = np.abs(fp32.astype(np.float64) - int8)
    assert found["parity"]["int8"]["max_difference"] == pytest.approx(difference.max())
    assert found["parity"]["int8"]["mean_difference"] == pytest.approx(difference.mean())
    assert set(found["parity"]["int8"]["labels"]) == set(Bundle.open(bundle).labels)
    assert found["machine"]["versions"]["onnxruntime"]


@pytest.mark.parametrize("name", ["texts.csv", "texts.tsv", "texts.jsonl"])
def test_certify_without_labels(cli: Cli, bundle: Path, tmp_path: Path, name: str) -> None:
    lines = [json.dumps({"text": text}) for text in TEXTS] if name.endswith("jsonl") else ["text", *TEXTS]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    done = cli("certify", bundle, tmp_path / name)
    assert done.exit_code == 0
    assert "on 40 texts (all)" in done.stdout
    assert "F1" not in done.stdout
    refused = cli("certify", bundle, tmp_path / name, "--max-f1-drop", "0.1")
    assert refused.exit_code == 2
    assert refused.stderr == (
        f"InputError: --max-f1-drop needs labels, and {tmp_path / name} has none. "
        "Name their column, or omit the option.\n"
    )


def test_certify_with_label_columns(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    labels = Bundle.open(bundle).labels
    (tmp_path / "data.csv").write_text(f"text,{','.join(labels)}\nlate,1,0,0,0\ngood,0,,1,0\n")
    found = cli("certify", bundle, tmp_path / "data.csv", "--label-columns", ",".join(labels))
    assert "micro-F1" in found.stdout
    spaced = cli("certify", bundle, tmp_path / "data.csv", "--label-columns", " , ".join(labels))
    assert spaced.stdout == found.stdout
    wrong = cli("certify", bundle, tmp_path / "data.csv", "--label-columns", "delivry")
    assert wrong.exit_code == 2
    assert "Did you mean 'delivery'?" in wrong.stderr


def test_certify_column_and_separator_options(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("words,tags\nlate,delivery/price\ngood,\nthe app,user experience\n")
    named = ("--text-column", "words", "--labels-column", "tags", "--separator", "/")
    found = json.loads(cli("certify", bundle, tmp_path / "data.csv", *named, "--json").stdout)
    assert (found["texts"], found["data"]) == (3, "all")
    assert found["parity"]["fp32"]["quality"] is not None
    without = json.loads(cli("certify", bundle, tmp_path / "data.csv", *named[:2], "--json").stdout)
    assert without["parity"]["fp32"]["quality"] is None
    unsplit = cli("certify", bundle, tmp_path / "data.csv", *named[:4])
    assert (unsplit.exit_code, "label 'delivery/price' is not in" in unsplit.stderr) == (2, True)


def test_certify_split_option(cli: Cli, bundle: Path, labelled: Path) -> None:
    for split, expected in (
        ("train", "on 10 texts (train)"),
        ("all", "on 40 texts (all)"),
        ("validation", "on 10 texts"),
    ):
        assert expected in cli("certify", bundle, labelled, "--split", split).stdout


def test_certify_budget_exit_code(cli: Cli, own_bundle: Path, labelled: Path, resign: Resign) -> None:
    def shift(manifest: dict[str, Any]) -> None:
        int8 = next(each for each in manifest["variants"] if each["precision"] == "int8")
        int8["thresholds"] = [0.9] * 4

    words = ("certify", resign(own_bundle, shift), labelled, "--split", "all")
    found = json.loads(cli(*words, "--json").stdout)["parity"]["int8"]
    share = found["texts_flipped"] / found["texts_labelled"]
    assert 0 < share <= 1
    assert cli(*words, "--max-flips", share, "--max-f1-drop", 1).exit_code == 0
    failed = cli(*words, "--max-flips", share * 0.99)
    assert failed.exit_code == 3
    assert f"int8: {found['texts_flipped']} of {found['texts_labelled']} texts with at least one label" in failed.stderr
    assert "fp32:" not in failed.stderr
    assert failed.stderr.endswith(
        "% are allowed. Use a more exact variant (--precision fp32), or re-export with a stricter budget.\n"
    )
    assert "int8: probabilities differ" in failed.stdout  # the measurements are printed nevertheless
    as_json = cli(*words, "--max-f1-drop", 0, "--json")
    assert as_json.exit_code == 3
    assert json.loads(as_json.stdout)["budget"] == {"max_f1_drop": 0, "max_flips": None}
    assert "micro-F1 changes by -" in as_json.stderr


def test_certify_needs_fp32(cli: Cli, own_bundle: Path, labelled: Path, resign: Resign) -> None:
    (own_bundle / "model.onnx").unlink()

    def leave_out(manifest: dict[str, Any]) -> None:
        manifest["variants"] = [each for each in manifest["variants"] if each["precision"] != "fp32"]

    manifest = json.loads((own_bundle / "bundle.json").read_text())
    del manifest["files"]["model.onnx"]
    (own_bundle / "bundle.json").write_text(json.dumps(manifest))
    done = cli("certify", resign(own_bundle, leave_out), labelled)
    assert done.exit_code == 2
    assert done.stderr == (
        f"InputError: {own_bundle} has no fp32 graph to compare with; it has int8, fp16. Its own certificate "
        "compares with PyTorch: manylabel inspect. To certify here, re-export with fp32 (--precision).\n"
    )


def test_certificate_has_variants_and_machine(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    found = certify(opened, TEXTS[:5], data="five texts", device="cpu", threads=1)
    assert (found.reference, found.texts, found.data) == ("the bundle's fp32 graph", 5, "five texts")
    assert (found.device, found.machine, found.budget, found.refused) == ("cpu", this_machine(), None, {})
    assert {name: parity.alone for name, parity in found.parity.items()} == {
        "fp32": BatchInvariance(5, 5),
        "int8": BatchInvariance(5, 5),
    }
    assert [parity.quality for parity in found.parity.values()] == [None, None]
    assert certify(opened, TEXTS[:2], data="two").device == resolve_device("auto")
    with pytest.raises(InputError) as caught:
        certify(opened, [], data="none")
    assert str(caught.value) == "there are no texts to compare on."


def test_certify_unavailable_device_error(cli: Cli, bundle: Path, labelled: Path) -> None:
    if resolve_device("auto") == "cuda":
        pytest.skip("this machine has CUDA")
    done = cli("certify", bundle, labelled, "--device", "cuda")
    assert done.exit_code != 0
    assert done.stderr.startswith("DeviceUnavailable: CUDA was requested")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("words\nlate\n", "has no column 'text'"),
        ("text,labels\nlate,deliveries\n", "label 'deliveries' is not in the given set"),
        ("text\n", "holds no rows"),
    ],
)
def test_certify_invalid_data_error(cli: Cli, bundle: Path, tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "data.csv").write_text(content)
    done = cli("certify", bundle, tmp_path / "data.csv")
    assert done.exit_code == 2
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_certify_empty_split_error(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,split\nlate,train\n")
    done = cli("certify", bundle, tmp_path / "data.csv", "--split", "test")
    assert done.exit_code == 2
    assert done.stderr == "InputError: no row is in the split 'test'; the splits are: train.\n"
    (tmp_path / "data.csv").write_text("text\nlate\n")
    assert "the splits are: none." in cli("certify", bundle, tmp_path / "data.csv", "--split", "test").stderr


def test_certify_imports_no_pytorch(bundle: Path, labelled: Path, python: Python) -> None:
    done = python(
        "import sys\n"
        "from manylabel.cli.main import main\n"
        "main(['certify', *sys.argv[1:]], standalone_mode=False)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)",
        bundle,
        labelled,
    )
    assert done.returncode == 0, done.stderr
    assert not {"torch", "transformers", "sklearn", "onnx", "manylabel_export"} & set(eval(done.stderr))
