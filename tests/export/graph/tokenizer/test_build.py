"""The graph that takes text: the tokens of the tokenizer, and the labels of the bundle."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers import toy
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from manylabel import Bundle, Classifier
from manylabel.errors import ExportError, ParityError
from manylabel_export.graph.tokenizer.build import FILE, build_tokenizer_graph
from manylabel_export.graph.tokenizer.verify import (
    open_tokenizer_graph,
    require_same_predictions,
    require_same_token_ids,
)
from manylabel_export.graph.tokenizer.wordpiece_spec import WordPieceSpec
from manylabel_export.pipeline import export
from manylabel_train.data.dataset import Dataset

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*"abcdefghij!?'ß漢가ᄀ", *(f"##{c}" for c in "abdefgi漢"), "ab", "abc", "##bc", "##cd", "ide", "##ea", "##가"]
# fmt: off
HOSTILE = (
    "aàÀåÅßẞİ\u0131Σςŉǅﬁ가각漢字𠀀🤔👩♥"
    "\u0301\u0315\u302e\ufe0f\u200b\u200d\u2028\u3000\xa0\xad\x00\x07\x7f\ufeff\ufffd\ue000"
)
# fmt: on


def bert(**settings: bool | None) -> Tokenizer:
    pieces = dict.fromkeys([*SPECIAL, *PIECES])
    tokenizer = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**{"lowercase": True, "strip_accents": None, **settings})
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    return tokenizer


KINDS = {
    "uncased": bert(),
    "cased": bert(lowercase=False),
    "accents kept": bert(strip_accents=False),
    "Chinese characters together": bert(handle_chinese_chars=False),
}


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """A function that tokenizes a text with the graph and with the tokenizer."""
    tokenizer = KINDS[request.param]
    read = open_tokenizer_graph(build_tokenizer_graph(WordPieceSpec.from_json(tokenizer.to_str())))
    return lambda text: (read(text), tokenizer.encode(text, add_special_tokens=False).ids)


@settings(max_examples=150, deadline=None)
@given(
    text=st.lists(
        st.text(max_size=8)
        | st.text("abcdefghijABC .!", max_size=12)
        | st.text(HOSTILE, max_size=6)
        | st.sampled_from([*SPECIAL, "[sep]", "[SEP", "[[SEP]]", "[MASK]a"])
    ).map("".join)
)
def test_graph_tokenizer_matches_on_any_text(both, text: str) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = both(text)
    assert ours == theirs


def test_graph_tokenizer_matches_on_every_character(both) -> None:  # type: ignore[no-untyped-def]
    """Between letters, where a character may split a word, be removed, or make the word unknown."""
    codes = [code for code in range(0x20000) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(codes), 2048):
        ours, theirs = both(" ".join(f"a{chr(code)}b" for code in codes[start : start + 2048]))
        assert ours == theirs, hex(codes[start])


@pytest.mark.parametrize("n", [99, 100, 101, 250])
def test_graph_tokenizer_max_word_length(both, n: int) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = both("a" * n + " ab" + "b" * n)
    assert ours == theirs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "Unigram"}}, "consists of Unigram, BertNormalizer, BertPreTokenizer"),
        ({"normalizer": None}, "consists of WordPiece, None, BertPreTokenizer"),
        ({"normalizer": {"clean_text": False}}, "does not clean texts"),
        ({"added_tokens": "<mask>"}, "'<mask>' is not of the form"),
        ({"added_tokens": "[A[B]"}, "is not of the form"),
    ],
)
def test_unsupported_tokenizer_is_rejected(change: dict, message: str) -> None:
    content = json.loads(KINDS["uncased"].to_str())
    for part, value in change.items():
        if part == "added_tokens":
            content[part][0]["content"] = value
        else:
            content[part] = {**content[part], **value} if value else None
    with pytest.raises(ExportError, match=message):
        WordPieceSpec.from_json(json.dumps(content))


# The whole graph


LONG = "the parcel was late and the app is slow " * 9
TEXTS = [text for text, _ in toy.examples(40, seed=9)] + ["", " ", "[SEP] [CLS]", "спасибо 🎉", LONG, LONG + "x" * 500]


def run_single_file(path: Path, texts: list[str]) -> tuple[list[list[str]], np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    results = [session.run(["labels", "probabilities"], {"text": np.array([text], dtype=object)}) for text in texts]
    return [labels.tolist() for labels, _ in results], np.concatenate([row for _, row in results])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("policy", ["window", "truncate"])
def test_single_file_matches_the_bundle(elsewhere: Path, tmp_path: Path, precision: str, policy: str) -> None:
    validation = toy.dataset(180).part("train")
    bundle = export(
        elsewhere,
        tmp_path / "bundle",
        validation=validation,
        precisions=[precision],
        policy=policy,  # type: ignore[arg-type]
        single_file=True,
    )
    classifier = Classifier.load(bundle.path, device="cpu", precision=precision)  # type: ignore[arg-type]
    labels, probabilities = run_single_file(bundle.path / FILE, TEXTS)
    np.testing.assert_allclose(probabilities, classifier.predict_proba(TEXTS), atol=1e-6)
    assert labels == classifier.predict(TEXTS)
    assert any(labels)
    assert "`text_to_labels.onnx` is the" in (bundle.path / "README.md").read_text(encoding="utf-8")
    details = bundle.manifest.source["single_file"]
    assert details == {"file": FILE, "precision": precision, "texts_tokenised": 60, "texts_answered": 60}
    opsets = {entry.domain: entry.version for entry in onnx.load(bundle.path / FILE).opset_import}
    assert opsets[""] == {"fp32": 20, "int8": 21}[precision]  # ONNX Runtime 1.17 and 1.18: docs/exporting.md
    bundle.verify()


@pytest.fixture(scope="module")
def single(elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with int8 and the single file."""
    output = tmp_path_factory.mktemp("single") / "bundle"
    return export(elsewhere, output, precisions=["int8"], single_file=True).path


def test_single_file_metadata_has_labels_and_thresholds(single: Path) -> None:
    model = onnx.load(single / FILE)
    metadata = json.loads({entry.key: entry.value for entry in model.metadata_props}["manylabel"])
    variant = Bundle.open(single).variants["int8"]
    assert metadata == {"labels": list(toy.LABELS), "thresholds": list(variant.thresholds), "max_length": 32}
    assert {entry.domain for entry in model.opset_import} == {
        "",
        "ai.onnx.ml",
        "com.microsoft",
    }  # no library to register
    onnx.checker.check_model(model)


def test_single_file_needs_onnxruntime_only(single: Path) -> None:
    script = (
        "import sys, numpy, onnxruntime\n"
        f"session = onnxruntime.InferenceSession({str(single / FILE)!r})\n"
        "print(session.run(['labels'], {'text': numpy.array(['the parcel was late'])})[0].tolist())\n"
        "assert not {'manylabel', 'tokenizers', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == str(Classifier.load(single, device="cpu").predict("the parcel was late")[0]), (
        done.stderr
    )


@pytest.mark.filterwarnings("ignore:an estimated")
def test_single_file_with_pruned_vocabulary(elsewhere: Path, tmp_path: Path) -> None:
    corpus = ["the parcel was late", "the app is slow and the parcel was late", "the app is slow"]
    bundle = export(elsewhere, tmp_path / "bundle", precisions=["int8"], corpus=corpus, single_file=True)
    expected = Classifier.load(bundle.path, device="cpu").predict_proba(corpus)
    np.testing.assert_allclose(run_single_file(bundle.path / FILE, corpus)[1], expected, atol=1e-6)


def test_single_file_rejects_error_policy(elsewhere: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="a graph cannot raise errors"):
        export(elsewhere, tmp_path / "bundle", policy="error", single_file=True)
    assert list(tmp_path.iterdir()) == []


def test_wrong_single_file_is_not_written(single: Path) -> None:
    with pytest.raises(ParityError, match="give different token ids for 'a B'"):
        require_same_token_ids(
            build_tokenizer_graph(WordPieceSpec.from_json(KINDS["uncased"].to_str())), KINDS["cased"], ["ab", "a B"]
        )
    with pytest.raises(ParityError, match="differ on 'the parcel'"):
        require_same_predictions(
            onnx.load(single / FILE), ["the parcel"], toy.LABELS, np.full((1, 4), 2, np.float32), np.full(4, 0.5)
        )


def test_single_file_with_all_scripts(tmp_path: Path) -> None:
    labels = ("größe 👩‍💻", "price, value", "漢字", "x")
    data = Dataset.from_matrix(["ok", "nein", "ja", "ab"], np.eye(4), labels)
    bundle = export(
        toy.write_checkpoint(tmp_path / "c", labels=labels),
        tmp_path / "bundle",
        validation=data,
        precisions=["fp32"],
        single_file=True,
    )
    results, _ = run_single_file(bundle.path / FILE, ["ok", "äöü"])
    assert results == Classifier.load(bundle.path, device="cpu").predict(["ok", "äöü"])
