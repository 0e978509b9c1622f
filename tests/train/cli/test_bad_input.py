"""Invalid input to `manylabel train`: an error message with the next step, and never a traceback."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.helpers import toy

from manylabel.cli.main import main
from manylabel_train.cli.train import train as train_command

Train = Callable[..., Result]


@pytest.fixture
def train(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Run `manylabel train` for one epoch; works without an installed package."""
    monkeypatch.setattr(type(main), "get_command", lambda *_: train_command)

    def run(data: Path, *options: object) -> Result:
        words = ["train", data, "-o", tmp_path / "run", "--epochs", 1, "--train-precision", "fp32", *options]
        start = [] if {"--model", "--from"} & {*map(str, options)} else ["--model", encoder]
        return CliRunner().invoke(main, [str(word) for word in (*words, *start)])

    return run


def rows() -> list[tuple[str, str, str]]:
    data = toy.dataset(60, per_split=15)
    names = ["|".join(label for label, one in zip(data.labels, row, strict=True) if one) for row in data.targets]
    return list(zip(data.texts, names, data.split, strict=True))


def write(path: Path, lines: Sequence[Sequence[str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    head = ("text", "labels", "split")
    path.write_text("\n".join(delimiter.join(line) for line in (head, *lines)) + "\n", encoding=encoding)
    return path


def is_a_sentence(result: Result, *parts: str) -> None:
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert part in result.stderr


def warned(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line.removeprefix("warning: ") for line in result.stderr.splitlines() if line.startswith("warning: ")]


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("data.csv", b"", ["holds no rows", "at least one"]),
        ("data.csv", b"text,labels\n", ["holds no rows"]),
        ("data.csv", "text,labels\nschön,a\n".encode("latin-1"), ["line 2: not UTF-8", "Save the file as UTF-8"]),
        ("data.csv", "text,labels\na,b\n".encode("utf-16"), ["not UTF-8"]),
        ("data.csv", b"\x1f\x8b\x08\x00", ["not UTF-8"]),
        (
            "data.csv",
            b"text;labels\na;b\n",
            ["it has 'text;labels'", "seem to be separated by ';'", "save it with commas"],
        ),
        ("data.csv", b"text\tlabels\na\tb\n", ["seem to be separated by '\\t'", ".tsv"]),
        ("data.csv", b"text\na\n", ["no column 'labels'", "--labels-column"]),
        ("data.csv", b"text,labels,labels\na,b,c\n", ["more than one column named 'labels'", "Rename or remove"]),
        ("data.csv", b"text,labels\na,\n", ["no row has a label", "--labels-column"]),
        ("data.csv", b'text,labels\n"a,b\n', ["line 2", "Check the quotes"]),
        ("data.csv", b"text,labels\n,b\n", ["line 2 has an empty text", "remove the row"]),
        ("data.csv", b"text,labels\n" + b"same,b\n" * 20, ["only 1 of the 20 texts", "Add other texts"]),
        ("data.csv", b"text,labels\na,b\n", ["1 rows are too few", "at least 10"]),
        ("data.jsonl", b'{"text": NaN, "labels": ["a"]}\n', ["line 1 has nan for a text", "Fill it in"]),
        ("data.jsonl", b'[{"text": "a"}]\n', ["expected an object", "found list"]),
        ("data.xlsx", b"PK", ["none of the suffixes", "Convert"]),
        ("data.parquet", b"PAR1", ["not a Parquet file"]),
    ],
)
def test_invalid_file_error(train: Train, tmp_path: Path, name: str, content: bytes, parts: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    is_a_sentence(train(tmp_path / name), *parts)


def test_folder_in_place_of_a_file(train: Train, tmp_path: Path) -> None:
    (tmp_path / "data.csv").mkdir()
    is_a_sentence(train(tmp_path / "data.csv"), "cannot be read: it is a folder. Name a file in it")


def test_warns_of_other_label_separator(train: Train, tmp_path: Path) -> None:
    data = write(tmp_path / "data.csv", [(text, labels.replace("|", ";"), split) for text, labels, split in rows()])
    first = warned(train(data))[0]
    assert first.startswith("data.csv: no row has two labels separated by '|'")
    assert first.endswith("pass --separator ';'.")
    assert not [line for line in warned(train(data, "--separator", ";", "--force")) if "separated" in line]


def test_warns_of_placeholder_texts(train: Train, tmp_path: Path) -> None:
    lines = [("NaN" if at in (3, 50) else text, *rest) for at, (text, *rest) in enumerate(rows())]
    (line,) = [line for line in warned(train(write(tmp_path / "data.csv", lines))) if "empty cell" in line]
    assert line == "data.csv: 2 of 60 texts are 'NaN', which stands for an empty cell. Remove these rows."


def test_warns_of_text_column_as_labels(train: Train, tmp_path: Path) -> None:
    lines = [(text, f"number {at}", split) for at, (text, _, split) in enumerate(rows())]
    found = warned(train(write(tmp_path / "data.csv", lines)))
    assert found[0].startswith("data.csv: there are 60 labels for 60 labelled texts, such as 'number 0'")
    assert "--labels-column" in found[0]
    assert max(map(len, found)) < 700  # thirty names, not all of them


def test_warns_of_label_on_every_text(train: Train, tmp_path: Path) -> None:
    data = write(tmp_path / "data.csv", [(text, "price", split) for text, _, split in rows()])
    assert warned(train(data)) == [
        "every text of the train split has 'price'; it cannot be learned. Add texts without it."
    ]


def test_label_only_in_test_split(train: Train, tmp_path: Path) -> None:
    lines = [(text, "rare" if split == "test" else labels, split) for text, labels, split in rows()]
    assert "no text of the train split has 'rare'; it cannot be learned." in warned(
        train(write(tmp_path / "data.csv", lines))
    )


def test_good_data_gives_no_warning(train: Train, tmp_path: Path) -> None:
    assert warned(train(write(tmp_path / "data.csv", rows(), encoding="utf-8-sig"))) == []


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--max-length", "4000"], ["max_length is 4000", "reads 32 tokens", "--max-length 32 or less"]),
        (["--seed", "-1"], ["seed is -1", "from 0 to 4294967295"]),
        (["--seed", "9999999999"], ["seed is 9999999999"]),
        (["--learning-rate", "inf"], ["diverged", "Lower --learning-rate"]),
        (["--model", "no-such/model"], ["is not a checkpoint", "Choose a folder"]),
        (["--label-columns", "labels"], ["line 2", "expected 0 or 1"]),
        (["--split-column", "labels"], ["expected one of train, dev"]),
    ],
)
def test_incompatible_options_error(train: Train, tmp_path: Path, options: list[str], parts: list[str]) -> None:
    is_a_sentence(train(write(tmp_path / "data.csv", rows()), *options), *parts)


def test_model_that_is_not_an_encoder_error(train: Train, encoder: Path, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5Model

    gpt, t5 = tmp_path / "gpt", tmp_path / "t5"
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=200)).save_pretrained(gpt)
    T5Model(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=200)).save_pretrained(t5)
    data = write(tmp_path / "data.csv", rows())
    for folder in (gpt, t5):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(encoder / name, folder / name)
        is_a_sentence(train(data, "--model", folder), "CheckpointError", "Use an encoder, such as BERT")


def test_incomplete_checkpoint_error(train: Train, encoder: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "data.csv", rows())
    no_tokenizer, half = shutil.copytree(encoder, tmp_path / "a"), shutil.copytree(encoder, tmp_path / "b")
    for path in no_tokenizer.glob("*token*"):
        path.unlink()
    is_a_sentence(train(data, "--model", no_tokenizer), "no tokenizer", "next to its config.json")
    (half / "model.safetensors").write_bytes((half / "model.safetensors").read_bytes()[:1000])
    is_a_sentence(train(data, "--model", half), "cannot be loaded", "Save or download it again")
    (tmp_path / "empty").mkdir()
    is_a_sentence(train(data, "--model", tmp_path / "empty"), "has no config.json", "Choose a folder that has one")
    is_a_sentence(train(data, "--from", encoder), "has no trained classification head", "Start from it with --model")
