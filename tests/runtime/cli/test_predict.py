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


def test_each_text_gives_one_line_of_json(bundle: Path, cli: Cli, classifier: Classifier) -> None:
    done = cli("predict", bundle, "the parcel was late", "", "sehr schön")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["the parcel was late", "", "sehr schön"]
    assert list(lines[0]) == ["text", "labels", "scores", "n_tokens", "truncated"]
    expected = classifier.classify("the parcel was late")[0]
    assert lines[0]["scores"] == expected.scores
    assert lines[0]["labels"] == expected.labels


def test_texts_come_from_standard_input_one_a_line(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, stdin="late\r\n\n  good  \nzu sp\u00e4t\rteuer\nlast")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["late", "", "  good  ", "zu sp\u00e4t\rteuer", "last"]


def test_many_lines_keep_their_order(bundle: Path, cli: Cli) -> None:
    texts = [f"parcel {'late ' * (n % 7)}{n}" for n in range(600)]
    lines = [json.loads(line) for line in cli("predict", bundle, stdin="\n".join(texts)).stdout.splitlines()]
    assert [line["text"] for line in lines] == texts


def test_bytes_that_are_no_utf_8_are_read_as_the_replacement_character(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, stdin=b"\xef\xbb\xbflate \xff\xfe\nsp\xc3\xa4t\n")
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["late \ufffd\ufffd", "sp\u00e4t"]


def test_no_texts_give_no_lines(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, stdin="")
    assert (done.exit_code, done.output) == (0, "")


def test_a_table_is_for_readers(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, "the parcel was late", "--table", "--threshold", 0.6, "--precision", "fp32")
    text, *rows, blank = done.stdout.splitlines()
    assert (text, blank) == ("the parcel was late", "")
    assert sorted(row.split("  ")[-1].strip().lstrip("█ ") for row in rows) == sorted(LABELS)
    for row in rows:
        marked, probability = re.match(r"  ([✓ ])  ?([\d.]+)", row).groups()  # type: ignore[union-attr]
        assert (marked == "✓") == (float(probability) >= 0.6)


def test_a_text_cannot_steer_the_terminal(classifier: Classifier) -> None:
    text = "\x1b[2J\x1b]0;title\x07\r\nlate \udcff \u202e"
    shown = format_table(text, classifier.classify(text)[0]).splitlines()[0]
    assert shown == "�[2J�]0;title���late � �"


def test_a_table_shows_the_beginning_of_a_long_text_and_tells_of_truncation(bundle: Path, cli: Cli) -> None:
    text, *_, last, _ = cli("predict", bundle, "late " * 10_000, "--table").stdout.splitlines()
    assert text == ("late " * 20)[:99] + "…"
    assert last == "  the text was truncated"


def test_top_k_and_thresholds(bundle: Path, cli: Cli) -> None:
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
def test_wrong_usage_is_a_sentence_and_exit_code_2(bundle: Path, cli: Cli, options: list[str], sentence: str) -> None:
    done = cli("predict", bundle, "late", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_a_text_that_is_too_long_is_found_by_its_place(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    resign(own_bundle, lambda manifest: manifest["long_text"].update(policy="error"))
    done = cli("predict", own_bundle, stdin="late\n" * 300 + "late " * 40 + "\n")
    assert done.exit_code == 2
    assert len(done.stdout.splitlines()) == 256  # the chunk before it
    assert "text 44 has 42 tokens" in one_line(done.stderr)
    assert "counted from 0, starting at text 257 of the input" in done.stderr
