"""Does the single file tokenise every text as the tokenizer does, and what does that cost?

`python -m experiments.single_file.run BUNDLE --data DATA.csv --output FOLDER --title TITLE` compares the tokenizer in
the graph, and the `BertTokenizer` of `onnxruntime-extensions`, with `tokenizer.json` on every text of the data and on
every character of Unicode; then it compares every text's labels with the bundle's. BUNDLE was exported with
`--single-file`.
"""

import csv
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from tokenizers import Tokenizer

from experiments.common.result_io import format_command, format_machine, portable_path, write_result
from manylabel.bundle.bundle import TOKENIZER
from manylabel.classifier import Classifier
from manylabel.inference.thresholding import decide
from manylabel_bench.hardware import describe_hardware
from manylabel_export.graph.tokenizer.build import FILE, build_tokenizer_graph
from manylabel_export.graph.tokenizer.verify import open_tokenizer_graph
from manylabel_export.graph.tokenizer.wordpiece_spec import WordPieceSpec

Tokenise = Callable[[str], list[int]]
SURROGATES = range(0xD800, 0xE000)
TIMED_TEXTS = 1000
EXAMPLES = 5


def load_extensions_tokenizer(tokenizer: Tokenizer) -> Tokenise:
    """Return the `BertTokenizer` of onnxruntime-extensions, with the same vocabulary and settings."""
    from onnxruntime_extensions import get_library_path

    content = json.loads(tokenizer.to_str())
    lowercase = content["normalizer"]["lowercase"]
    accents = content["normalizer"]["strip_accents"]
    pieces = sorted(content["model"]["vocab"].items(), key=lambda item: item[1])
    node = helper.make_node(
        "BertTokenizer",
        ["text"],
        ["ids", "types", "mask"],
        domain="ai.onnx.contrib",
        vocab_file="\n".join(piece for piece, _ in pieces).encode(),
        do_lower_case=int(lowercase),
        strip_accents=int(lowercase if accents is None else accents),
        tokenize_chinese_chars=int(content["normalizer"]["handle_chinese_chars"]),
    )
    text = helper.make_tensor_value_info("text", TensorProto.STRING, [None])
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, None)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.contrib", 1)]
    model = helper.make_model(helper.make_graph([node], "g", [text], [ids]), opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(get_library_path())
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda text: session.run(None, {"text": np.array([text], dtype=object)})[0].ravel()[1:-1].tolist()


def list_characters() -> list[str]:
    """Return every character of Unicode between two letters."""
    return [f"a{chr(code)}b" for code in range(1, 0x110000) if code not in SURROGATES]


def count_differences(read: Tokenise, expected: Tokenise, texts: Sequence[str], *, together: int = 1) -> dict[str, Any]:
    """Count the texts that are tokenised differently, with a few examples.

    Args:
        read: The tokeniser to check.
        expected: The reference.
        texts: The texts to compare.
        together: Texts that are joined and compared at once, and one by one only if they differ.
    """
    different = []
    for start in range(0, len(texts), together):
        some = texts[start : start + together]
        if read(" ".join(some)) != expected(" ".join(some)):
            different += [text for text in some if read(text) != expected(text)]
    return {"texts": len(texts), "differ": len(different), "first": different[:EXAMPLES]}


def compare_predictions(bundle: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Compare the labels of the file with the bundle's, one text per call, on one thread each."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle / FILE, options, ["CPUExecutionProvider"])
    precision = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["source"]["single_file"]["precision"]
    classifier = Classifier.load(bundle, device="cpu", precision=precision, threads=1)

    def predict(text: str) -> tuple[list[str], Any]:
        labels, probabilities = session.run(["labels", "probabilities"], {"text": np.array([text], dtype=object)})
        return labels.tolist(), probabilities[0]

    predicted_labels, rows = zip(*map(predict, texts), strict=True)
    expected = classifier.predict_proba(texts)
    thresholds = classifier.thresholds_
    names = classifier.bundle.labels
    expected_labels = [[names[column] for column in np.flatnonzero(row)] for row in decide(expected, thresholds)]
    return {
        "precision": precision,
        "texts": len(texts),
        "labels_differ": sum(one != other for one, other in zip(predicted_labels, expected_labels, strict=True)),
        "max_difference": float(np.abs(np.stack(rows) - expected).max()),
        "p50_ms": median_ms(predict, texts),
        "bundle_p50_ms": median_ms(classifier.predict, texts),
        "bytes": (bundle / FILE).stat().st_size,
    }


def median_ms(predict: Callable[[str], object], texts: Sequence[str]) -> float:
    """Return the median milliseconds of a call over the first texts."""
    spent = []
    for text in texts[:TIMED_TEXTS]:
        start = time.perf_counter()
        predict(text)
        spent.append((time.perf_counter() - start) * 1e3)
    return statistics.median(spent)


def render_readme(result: dict[str, Any]) -> str:
    """Return the page of a result."""
    rows = [
        [
            name,
            *(f"{of[part]['differ']:,} of {of[part]['texts']:,}" for part in ("data", "characters")),
            f"{of['p50_ms']:.3f}",
        ]
        for name, of in result["tokenizers"].items()
    ]
    head = ["tokenizer", "texts that differ", "characters that differ", "one text, p50 ms"]
    answers = result["answers"]
    return "\n".join(
        [
            f"# {result['title']}",
            "",
            f"`{result['command']}`",
            "",
            "Token ids compared with those of `tokenizer.json` in the tokenizers library, on every text of the data "
            "and on every character of Unicode between two letters.",
            "",
            *("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)),
            "",
            f"The whole file ({answers['precision']}, {answers['bytes'] / 1e6:.1f} MB) predicts other labels than the "
            f"bundle for {answers['labels_differ']:,} of {answers['texts']:,} texts; probabilities differ by at most "
            f"{answers['max_difference']:.1e}. One text on one thread, median of the first {TIMED_TEXTS:,}: "
            f"{answers['p50_ms']:.2f} ms, with the bundle {answers['bundle_p50_ms']:.2f} ms.",
            "",
            format_machine(result["machine"]),
            "",
        ]
    )


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A CSV file with a column of texts.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
@click.option("--title", required=True, help="The title of README.md.")
def main(bundle: Path, data: Path, output: Path, title: str) -> None:
    """Compare the single file of BUNDLE with its tokenizer and its predictions."""
    with data.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    tokenizer = Tokenizer.from_file(str(bundle / TOKENIZER))

    def expected(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    readers = {
        "in the graph": open_tokenizer_graph(build_tokenizer_graph(WordPieceSpec.from_json(tokenizer.to_str()))),
        "onnxruntime-extensions' BertTokenizer": load_extensions_tokenizer(tokenizer),
    }
    result = {
        "title": title,
        "command": format_command(
            "single_file",
            [f"build/{bundle.name}"],
            {"data": portable_path(data), "output": "FOLDER", "title": title},
            {},
        ),
        "tokenizers": {
            name: {
                "data": count_differences(read, expected, texts),
                "characters": count_differences(read, expected, list_characters(), together=64),
                "p50_ms": median_ms(read, texts),
            }
            for name, read in readers.items()
        },
        "answers": compare_predictions(bundle, texts),
        "machine": describe_hardware(),
    }
    write_result(result, output, render_readme)
    click.echo(render_readme(result))


if __name__ == "__main__":
    main()
