"""Vocabulary pruning: texts of the corpus keep their tokens and probabilities, others get shorter tokens."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers import toy
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast, XLMRobertaConfig

from manylabel import Classifier
from manylabel.errors import DataError, ExportError
from manylabel_export.pipeline import export
from manylabel_export.vocabulary_pruning.model import IdTokenizer, read_corpus
from manylabel_export.vocabulary_pruning.tokenizer import FIXED_IDS, prune_tokenizer
from manylabel_train.data.dataset import Dataset
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

TRAINED_ON = [
    "the parcel was late and the courier was rude, unbelievable unbelievably",
    "die Rechnung war falsch, das Paket kaputt; unglaublich langsame Lieferung",
    "good goods, goodness: slower slowest slow app apps application applications",
] * 5
UNUSED = [f"[unused{i}]" for i in range(FIXED_IDS)]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def wordpiece() -> Tokenizer:
    """With `##`, and words that are unknown although their first tokens match."""
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *(f"[unused{i}]" for i in range(FIXED_IDS)),
        *"abcd",
        *(f"##{c}" for c in "abd"),
    ]
    pieces += ["ab", "abc", "##bc", "##cd", "##bcd", "##da", "bad", "cab", "##ab"]
    tokenizer = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def unigram() -> Tokenizer:
    """Like XLM-R's: special tokens first, and a mark for blanks before words."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        TRAINED_ON, trainers.UnigramTrainer(vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>")
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def bpe() -> Tokenizer:
    """Like RoBERTa's: on bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        TRAINED_ON,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


TOKENIZERS = {"wordpiece": wordpiece(), "unigram": unigram(), "bpe": bpe()}
TEXTS = {
    "wordpiece": st.text("abcde ", max_size=12),
    "unigram": st.lists(st.sampled_from(" ".join(TRAINED_ON).split()) | st.text(max_size=6), max_size=6).map(" ".join),
    "bpe": st.lists(st.sampled_from(" ".join(TRAINED_ON).split()) | st.text(max_size=6), max_size=6).map(" ".join),
}


def id_tokenizer(tokenizer: Tokenizer) -> IdTokenizer:
    names = {"[UNK]": "[UNK]"} if tokenizer.token_to_id("[UNK]") else {"<unk>": "<unk>"}
    return IdTokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=next(iter(names))))


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_pruning_keeps_tokens_of_the_corpus(kind: str, data: st.DataObject) -> None:
    corpus = data.draw(st.lists(TEXTS[kind], min_size=1, max_size=5))
    whole = id_tokenizer(TOKENIZERS[kind])
    before = whole.encode(corpus)
    unread = [text for text, ids in zip(corpus, before, strict=True) if whole.unknown in ids]
    pruned = prune_tokenizer(whole.serialized, {token for ids in before for token in ids}, whole.words(unread))
    after = [one.ids for one in Tokenizer.from_str(pruned.serialized).encode_batch(corpus, add_special_tokens=False)]
    assert [pruned.kept[ids].tolist() for ids in after] == before


def test_pruning_keeps_unknown_words_unknown() -> None:
    """`abcc` fails after `abc`; without that token it would continue after `ab`."""
    whole = id_tokenizer(wordpiece())
    assert whole.encode(["abcc"]) == [[whole.unknown]]
    pruned = prune_tokenizer(whole.serialized, {1}, {"abcc"})
    assert "abc" in Tokenizer.from_str(pruned.serialized).get_vocab()
    assert "abc" not in Tokenizer.from_str(prune_tokenizer(whole.serialized, {1}, ()).serialized).get_vocab()


def test_pruning_keeps_unigram_unknown_score() -> None:
    """Ten less than the least likely token, `zz`. Without it, unknown `a` and `bc` would be likelier than `ab`, `c`."""
    pieces = [("<unk>", 0.0), *((name, 0.0) for name in UNUSED)]
    pieces += [("ab", -50.0), ("c", -30.0), ("bc", -1.0), ("zz", -100.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, 0, False))
    corpus = ["abc", "bc"]
    before = [one.ids for one in tokenizer.encode_batch(corpus)]
    pruned = prune_tokenizer(tokenizer.to_str(), {at for ids in before for at in ids}, ())
    after = [one.ids for one in Tokenizer.from_str(pruned.serialized).encode_batch(corpus)]
    assert [pruned.kept[ids].tolist() for ids in after] == before


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_pruned_vocabulary_splits_other_texts(kind: str) -> None:
    whole = id_tokenizer(TOKENIZERS[kind])
    corpus, other = ("ab", "bad cab") if kind == "wordpiece" else ("the late parcel", "unbelievable apps")
    pruned = prune_tokenizer(whole.serialized, whole.encode([corpus])[0], ())
    cut = Tokenizer.from_str(pruned.serialized)
    assert len(pruned.kept) < whole.size
    assert len(cut.encode(other).ids) > len(TOKENIZERS[kind].encode(other).ids)
    assert cut.token_to_id(TOKENIZERS[kind].id_to_token(whole.unknown)) not in cut.encode(other).ids


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_pruning_remaps_special_tokens(kind: str) -> None:
    serialized = TOKENIZERS[kind].to_str()
    cut = Tokenizer.from_str(prune_tokenizer(serialized, set(), ()).serialized)
    tokens = cut.encode("the parcel").tokens
    assert (tokens[0], tokens[-1]) == ("<s>", "</s>")


def test_pruning_rejects_unknown_tokenizer_model() -> None:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "the": 1}, unk_token="<unk>"))
    with pytest.raises(
        ExportError, match="a WordLevel tokenizer cannot be pruned; --trim-vocabulary supports WordPiece"
    ):
        prune_tokenizer(tokenizer.to_str(), {1}, ())


# Pruned exports


few = pytest.mark.filterwarnings("ignore:an estimated")
CORPUS = ["the parcel was late", "the app is slow", "die rechnung war teuer und das paket kaputt"]


@few
def test_pruned_bundle_matches_full_model(elsewhere: Path, tmp_path: Path) -> None:
    validation = Dataset.from_matrix([*CORPUS, "the courier was late", "nicht gut"], np.eye(5, 4), toy.LABELS)
    bundle = export(elsewhere, tmp_path / "trimmed", validation=validation, corpus=CORPUS)
    whole = export(elsewhere, tmp_path / "whole", validation=validation, precisions=["fp32"])
    probabilities = Classifier.load(bundle.path, device="cpu", precision="fp32").predict_proba(CORPUS)
    np.testing.assert_allclose(
        probabilities, Classifier.load(whole.path, device="cpu", precision="fp32").predict_proba(CORPUS), atol=1e-6
    )
    report = bundle.manifest.source["vocabulary"]
    assert report["pieces"] < report["pieces_before"]
    assert (report["corpus_texts"], report["judged_texts_not_in_corpus"]) == (3, 2)
    assert report["identical_not_in_corpus"] == 0  # `courier`, `nicht` and `gut` are split into characters
    assert report["identical_left_out"] == 0  # each of the three texts has a word that no other has
    assert report["mean_difference"] > 0
    assert "3 texts use and single characters" in (bundle.path / "README.md").read_text()
    assert json.loads((bundle.path / "config.json").read_text())["vocab_size"] == report["pieces"]
    assert (bundle.path / "model.onnx").stat().st_size < (whole.path / "model.onnx").stat().st_size
    bundle.verify()


@few
def test_pruning_keeps_padding_offset_positions(tmp_path: Path) -> None:
    """XLM-R has special tokens first, and counts positions from the padding id."""
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=TOKENIZERS["unigram"].get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        type_vocab_size=1,
        id2label=dict(enumerate(toy.LABELS)),
        label2id={label: at for at, label in enumerate(toy.LABELS)},
        problem_type="multi_label_classification",
        initializer_range=0.5,
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "c")
    tokens = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=unigram(), **tokens).save_pretrained(tmp_path / "c")
    texts = ["the parcel was late", "das Paket kaputt"]
    whole = export(tmp_path / "c", tmp_path / "whole", precisions=["fp32"])
    cut = export(tmp_path / "c", tmp_path / "cut", precisions=["fp32"], corpus=texts)
    assert cut.manifest.source["vocabulary"]["pieces"] < config.vocab_size
    np.testing.assert_allclose(
        *(Classifier.load(bundle.path, device="cpu").predict_proba(texts) for bundle in (whole, cut)), atol=1e-6
    )


@few
def test_pruning_a_pooled_run(encoder: Path, tmp_path: Path) -> None:
    recipe = TrainConfig(**{**toy.RECIPE, "epochs": 1}, pooling="mean")
    train(toy.dataset(160), tmp_path / "run", model=str(encoder), config=recipe)
    bundle = export(tmp_path / "run", tmp_path / "bundle", precisions=["fp32"], corpus=CORPUS)
    assert bundle.manifest.certificate.parity["fp32"].max_difference < 1e-5


def test_pruning_warns_of_small_corpus(elsewhere: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="an estimated 0% of texts like the 3 of the corpus will keep their tokens"):
        export(elsewhere, tmp_path / "bundle", precisions=["fp32"], corpus=CORPUS)


def test_pruning_rejects_tiny_corpus(elsewhere: Path, tmp_path: Path) -> None:
    """A word of the validation texts, not of the corpus, whose characters are not in the vocabulary."""
    folder = Path(shutil.copytree(elsewhere, tmp_path / "checkpoint"))
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"kaputt"', '"привет"'), encoding="utf-8")
    validation = Dataset.from_matrix(["the parcel was late", "привет app is slow"], np.eye(2, 4), toy.LABELS)
    with pytest.raises(ExportError, match=r"12\.50% of the tokens of the validation texts are unknown, without"):
        export(folder, tmp_path / "bundle", validation=validation, corpus=CORPUS[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_corpus_from_lines_or_column(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two\n")
    (tmp_path / "a.csv").write_text("review,labels\none,x\ntwo,\n")
    assert read_corpus(tmp_path / "a.txt", "text") == ["one", " two"]
    assert read_corpus(tmp_path / "a.csv", "review") == ["one", "two"]
    with pytest.raises(DataError, match="no column 'text', but 'review', 'labels'"):
        read_corpus(tmp_path / "a.csv", "text")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="contains no text"):
        read_corpus(tmp_path / "empty.txt", "text")
