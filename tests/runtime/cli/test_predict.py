"""`manylabel predict`: predictions on standard output; errors as one line on standard error, with exit code 2."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.toy import LABELS
from tests.runtime.conftest import Cli, Resign, one_line

from manylabel import Classifier
from manylabel.cli.rendering import format_table


def test_predict_writes_one_json_line_per_text(bundle: Path, cli: Cli, classifier: Classifier) -> None:
    done = cli("predict", bundle, "the parcel was late", "", "sehr schön")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["the parcel was late", "", "sehr schön"]
    assert list(lines[0]) == ["text", "labels", "scores", "n_tokens", "truncated"]
    expected = classifier.classify("the parcel was late")[0]
    assert lines[0]["scores"] == expected.scores
    assert lines[0]["labels"] == expected.labels


def test_predict_reads_lines_from_stdin(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, stdin="late\r\n\n  good  \nzu sp\u00e4t\rteuer\nlast")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["late", "", "  good  ", "zu sp\u00e4t\rteuer", "last"]


def test_predict_keeps_order_of_many_lines(bundle: Path, cli: Cli) -> None:
    texts = [f"parcel {'late ' * (n % 7)}{n}" for n in range(600)]
    lines = [json.loads(line) for line in cli("predict", bundle, stdin="\n".join(texts)).stdout.splitlines()]
    assert [line["text"] for line in lines] == texts


def test_invalid_utf8_on_stdin_is_replaced(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, stdin=b"\xef\xbb\xbflate \xff\xfe\nsp\xc3\xa4t\n")
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["late \ufffd\ufffd", "sp\u00e4t"]


def test_predict_without_texts(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, stdin="")
    assert (done.exit_code, done.output) == (0, "")


def test_predict_table_output(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, "the parcel was late", "--table", "--threshold", 0.6, "--precision", "fp32")
    text, *rows, blank = done.stdout.splitlines()
    assert (text, blank) == ("the parcel was late", "")
    assert sorted(row.split("  ")[-1].strip().lstrip("█ ") for row in rows) == sorted(LABELS)
    for row in rows:
        marked, probability = re.match(r"  ([✓ ])  ?([\d.]+)", row).groups()  # type: ignore[union-attr]
        assert (marked == "✓") == (float(probability) >= 0.6)


def test_control_characters_are_escaped(classifier: Classifier) -> None:
    text = "\x1b[2J\x1b]0;title\x07\r\nlate \udcff \u202e"
    shown = format_table(text, classifier.classify(text)[0]).splitlines()[0]
    assert shown == "�[2J�]0;title���late � �"


def test_predict_table_shortens_long_texts(bundle: Path, cli: Cli) -> None:
    text, *_, last, _ = cli("predict", bundle, "late " * 10_000, "--table").stdout.splitlines()
    assert text == ("late " * 20)[:99] + "…"
    assert last == "  the text was truncated"


def test_predict_top_k_and_threshold_options(bundle: Path, cli: Cli) -> None:
    def labels(*options: object) -> Any:
        line = json.loads(cli("predict", bundle, "late", *options).stdout)
        return sorted(line["labels"]), len(line["scores"])

    assert labels("--threshold", 0) == (sorted(LABELS), 4)
    assert labels("--threshold", 1, "--top-k", 2) == ([], 2)
    assert labels("--threshold", 1, "--threshold", "price=0") == (["price"], 4)
    assert labels("--threshold", "user experience=0", "--threshold", "price=0", "--threshold", 1) == ([], 4)
    assert labels("--threshold", "price=0", "--threshold", "price=1")[0] == labels("--threshold", "price=1")[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--threshold", "half"], "--threshold 'half' is neither a number nor LABEL=number"),
        (["--threshold", "price=high"], "neither a number nor LABEL=number"),
        (["--threshold", ""], "neither a number"),
        (["--threshold", "prise=0.4"], "UnknownLabel: there is no label 'prise'. Did you mean 'price'?"),
        (["--threshold", "=0.4"], "UnknownLabel: there is no label ''"),
        (["--threshold", "2"], "a threshold is a probability between 0 and 1; found 2.0"),
        (["--threshold", "nan"], "found nan"),
        (["--top-k", "0"], "0 is not in the range x>=1"),
        (["--threads", "0"], "0 is not in the range x>=1"),
        (["--device", "tpu"], "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["--precision", "bf16"], "'bf16' is not one of"),
        (["--precision", "fp16", "--device", "cpu"], "model_fp16.onnx is made for CUDAExecutionProvider, not for cpu"),
        (["--colour"], "No such option"),
    ],
)
def test_usage_error_exit_code(bundle: Path, cli: Cli, options: list[str], sentence: str) -> None:
    done = cli("predict", bundle, "late", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_too_long_text_error_has_its_index(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    resign(own_bundle, lambda manifest: manifest["long_text"].update(policy="error"))
    done = cli("predict", own_bundle, stdin="late\n" * 300 + "late " * 40 + "\n")
    assert done.exit_code == 2
    assert len(done.stdout.splitlines()) == 256  # the chunk before it
    assert "text 44 has 42 tokens" in one_line(done.stderr)
    assert "counted from 0, starting at text 257 of the input" in done.stderr
