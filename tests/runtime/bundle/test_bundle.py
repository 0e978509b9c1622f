"""Every way to damage a bundle is detected and reported, with exit code 3."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.conftest import Cli, Resign

from manylabel import Bundle, BundleError, BundleTooNew, Classifier, InputError
from manylabel.bundle.bundle import MANIFEST, MixedPrecision, record_files
from manylabel.bundle.manifest import read_manifest
from manylabel.cli.rendering import describe_bundle

FILES = ("model.onnx", "model_int8.onnx", "model_fp16.onnx", "tokenizer.json", "config.json", "README.md")
Edit = Callable[[dict[str, Any]], object]


def assert_refused(cli: Cli, folder: Path, *parts: str) -> None:
    """Check that `verify` rejects a bundle in one line, with exit code 3."""
    done = cli("verify", folder, "--device", "cpu", "--threads", 1)
    assert done.exit_code == 3, done.output
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Bundle")
    for part in parts:
        assert part in done.stderr


def test_valid_bundle_is_accepted(bundle: Path, cli: Cli) -> None:
    done = cli("verify", bundle, "--device", "cpu")
    assert done.exit_code == 0, done.output
    opened = Bundle.open(str(bundle))
    opened.verify()
    assert opened.labels == ("billing", "delivery", "price", "user experience")
    assert list(opened.variants) == ["fp32", "int8", "fp16"]
    assert opened.digest == json.loads((bundle / MANIFEST).read_bytes())["digest"]


def test_manifest_round_trip_is_byte_identical(bundle: Path) -> None:
    assert Bundle.open(bundle).manifest.to_bytes() == (bundle / MANIFEST).read_bytes()


def test_recorded_files_match_the_manifest(bundle: Path) -> None:
    assert record_files(bundle) == Bundle.open(bundle).manifest.files


def test_bundle_path_is_absolute_for_other_processes(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.parent)
    assert Bundle.open(bundle.name).origin == str(bundle.parent.resolve() / bundle.name)


def test_digest_pins_the_bundle(bundle: Path) -> None:
    digest = Bundle.open(bundle).digest
    assert Bundle.open(bundle, digest=digest).digest == digest
    with pytest.raises(BundleError) as caught:
        Bundle.open(bundle, digest="0" * 64)
    assert str(caught.value) == (
        f"{bundle} has the digest {digest}; expected {'0' * 64}. "
        "Find out who changed the bundle before you accept the new digest."
    )


def test_external_weights_belong_to_their_variant(own_bundle: Path, resign: Resign) -> None:
    (own_bundle / "model.onnx_data").write_bytes(b"weights")
    resign(own_bundle, list_file("model.onnx_data"))
    opened = Bundle.open(resign(own_bundle))
    assert opened.weights_of(opened.variants["fp32"]) == ("model.onnx_data",)
    assert opened.weights_of(opened.variants["int8"]) == ()


# Changed bytes


def test_every_changed_manifest_byte_is_detected(bundle: Path) -> None:
    raw = (bundle / MANIFEST).read_bytes()
    read_manifest(raw, where="the bundle")
    for at in range(len(raw)):
        with pytest.raises(BundleError):
            read_manifest(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], where="the bundle")


@given(st.data())
def test_truncated_or_padded_manifest_is_rejected(bundle: Path, data: st.DataObject) -> None:
    raw = (bundle / MANIFEST).read_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = data.draw(st.sampled_from([raw[:at], raw[:at] + data.draw(st.binary(min_size=1)) + raw[at:]]))
    with pytest.raises(BundleError):
        read_manifest(changed, where="the bundle")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_changed_byte_is_detected(own_bundle: Path, cli: Cli, name: str, place: float) -> None:
    content = bytearray((own_bundle / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (own_bundle / name).write_bytes(content)
    assert_refused(cli, own_bundle, name, "SHA-256")


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_truncated_file_is_detected(own_bundle: Path, cli: Cli, name: str, kept: float) -> None:
    content = (own_bundle / name).read_bytes()
    (own_bundle / name).write_bytes(content[: int(kept * len(content))])
    assert_refused(cli, own_bundle, name)


def test_git_lfs_pointer_is_detected(own_bundle: Path, cli: Cli) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 35874\n"
    (own_bundle / "model.onnx").write_text(pointer)
    assert_refused(cli, own_bundle, "model.onnx", f"has {len(pointer)} bytes; expected")


# Files that differ from the manifest


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(own_bundle: Path, cli: Cli, name: str) -> None:
    (own_bundle / name).unlink()
    assert_refused(cli, own_bundle, f"lacks {name}")


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "MODEL.onnx", "model.onnx.data"])
def test_an_extra_file_is_named(own_bundle: Path, cli: Cli, name: str) -> None:
    (own_bundle / name).write_text("x")
    assert_refused(cli, own_bundle, f"contains {name}")


def test_an_extra_folder_is_named(own_bundle: Path, cli: Cli) -> None:
    (own_bundle / "more").mkdir()
    assert_refused(cli, own_bundle, "contains more")


def test_renamed_file_is_detected(own_bundle: Path, cli: Cli) -> None:
    (own_bundle / "model_int8.onnx").rename(own_bundle / "model_int9.onnx")
    assert_refused(cli, own_bundle, "model_int8.onnx")


def test_swapped_files_are_detected(own_bundle: Path, cli: Cli) -> None:
    one, other = own_bundle / "model.onnx", own_bundle / "model_int8.onnx"
    one.rename(own_bundle / "aside")
    other.rename(one)
    (own_bundle / "aside").rename(other)
    assert_refused(cli, own_bundle, "model")


@pytest.mark.parametrize("name", [MANIFEST, "model_int8.onnx", "tokenizer.json", "README.md"])
def test_symbolic_link_is_rejected(own_bundle: Path, tmp_path: Path, cli: Cli, name: str) -> None:
    (own_bundle / name).rename(tmp_path / name)
    (own_bundle / name).symlink_to(tmp_path / name)
    assert_refused(cli, own_bundle, name, "is a link", "cp -rL")


def test_dangling_link_is_rejected(own_bundle: Path, cli: Cli) -> None:
    (own_bundle / MANIFEST).unlink()
    (own_bundle / MANIFEST).symlink_to("nowhere")
    assert_refused(cli, own_bundle, "is a link")


@pytest.mark.parametrize("name", [MANIFEST, "model_int8.onnx"])
def test_hard_link_is_rejected(own_bundle: Path, tmp_path: Path, cli: Cli, name: str) -> None:
    os.link(own_bundle / name, tmp_path / "another name")
    assert_refused(cli, own_bundle, name, "hard link")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", [MANIFEST, "model_int8.onnx", "README.md"])
def test_named_pipe_is_rejected_without_blocking(own_bundle: Path, cli: Cli, name: str) -> None:
    (own_bundle / name).unlink()
    os.mkfifo(own_bundle / name)
    assert_refused(cli, own_bundle, name, "special file")


@pytest.mark.parametrize("name", [MANIFEST, "model_int8.onnx"])
def test_folder_in_place_of_a_file_is_rejected(own_bundle: Path, cli: Cli, name: str) -> None:
    (own_bundle / name).unlink()
    (own_bundle / name).mkdir()
    assert_refused(cli, own_bundle, name, "is a folder")


def test_file_replaced_by_link_after_open_is_rejected(own_bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(own_bundle)
    (own_bundle / "tokenizer.json").rename(tmp_path / "elsewhere")
    (own_bundle / "tokenizer.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="is a link"):
        opened.read("tokenizer.json")


def test_file_removed_after_open_is_named(own_bundle: Path) -> None:
    opened = Bundle.open(own_bundle)
    (own_bundle / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer.json cannot be read: No such file"):
        opened.read("tokenizer.json")


def test_link_to_a_bundle_is_followed(bundle: Path, tmp_path: Path) -> None:
    """Deployments switch versions like this: `current -> 2026-11-01`."""
    (tmp_path / "current").symlink_to(bundle)
    Bundle.open(tmp_path / "current").verify()


# Paths that are not a bundle


@pytest.mark.parametrize("path", ["hf://ada/reviews", Path("hf://ada/reviews")])
def test_hub_reference_is_not_opened_as_a_folder(path: str | Path) -> None:
    with pytest.raises(InputError, match=r"is not a folder\. Download it first: manylabel\.hub\.resolve_bundle_path"):
        Bundle.open(path)


@pytest.mark.parametrize("path", ["nowhere", "a\0b", "x" * 5000, "a/b/c"])
def test_missing_bundle_is_an_input_error(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match="there is no bundle at"):
        Bundle.open(tmp_path / path)


def test_file_is_not_a_bundle(bundle: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        Bundle.open(bundle / "model.onnx")


def test_folder_without_manifest_is_not_a_bundle(tmp_path: Path, cli: Cli) -> None:
    assert_refused(cli, tmp_path, "has no bundle.json", "manylabel export")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "3", '"text"', "{}", '{"digest": 1}', "[" * 100_000, '{"digest": "", "a": NaN}']
)
def test_invalid_manifest_is_rejected(own_bundle: Path, cli: Cli, content: str) -> None:
    (own_bundle / MANIFEST).write_text(content)
    assert_refused(cli, own_bundle, MANIFEST)


def test_unlisted_file_cannot_be_read(bundle: Path) -> None:
    with pytest.raises(InputError, match=r"no file '\.\./secret'; it has README.md"):
        Bundle.open(bundle).read("../secret")


# Manifests with a correct digest and wrong content


def set_all(key: str, value: object) -> Edit:
    return lambda manifest: [variant.update({key: value}) for variant in manifest["variants"]]


def set_threshold(value: object) -> Edit:
    return lambda manifest: manifest["variants"][1]["thresholds"].__setitem__(2, value)


def list_file(name: str) -> Edit:
    return lambda manifest: manifest["files"].update({name: manifest["files"]["README.md"]})


def nested(levels: int) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for _ in range(levels):
        content = {"in": content}
    return content


WRONG: dict[str, tuple[Edit, str]] = {
    "a label twice": (lambda m: m["labels"].__setitem__(1, "billing"), "labels are missing or duplicated"),
    "no labels": (lambda m: m.update(labels=[]), "labels are missing"),
    "one label too many": (lambda m: m["labels"].append("returns"), "probes"),
    "labels are not a list": (lambda m: m.update(labels="billing"), "labels: found str"),
    "a label is not a string": (lambda m: m["labels"].__setitem__(1, 7), "labels[1]: found int"),
    "threshold NaN": (set_threshold(float("nan")), "not a bundle's manifest"),
    "threshold infinite": (set_threshold(float("inf")), "not a bundle's manifest"),
    "threshold 2": (set_threshold(2), "int8 has a threshold that is not between 0 and 1"),
    "threshold 0": (set_threshold(0), "not between 0 and 1"),
    "threshold negative": (set_threshold(-0.5), "not between 0 and 1"),
    "threshold is a string": (set_threshold("0.5"), "found str"),
    "threshold true": (set_threshold(True), "found bool"),
    "threshold too large for a float": (set_threshold(10**400), "found int"),
    "one threshold too few": (lambda m: m["variants"][0]["thresholds"].pop(), "fp32 has 3 thresholds for 4 labels"),
    "no variants": (lambda m: m.update(variants=[]), "variants are missing"),
    "a variant twice": (set_all("precision", "fp32"), "variants are missing or duplicated"),
    "an unknown precision": (lambda m: m["variants"][2].update(precision="bf16"), "'bf16' is not one of"),
    "a variant without a file": (
        lambda m: m["variants"][1].update(file="other.onnx"),
        "no file is listed as other.onnx",
    ),
    "no tokenizer": (lambda m: m["files"].pop("tokenizer.json"), "no file is listed as tokenizer.json"),
    "no probes": (lambda m: m.update(probes=[]), "probes are missing"),
    "a probe of other labels": (
        lambda m: m["probes"][0]["probabilities"].pop("price"),
        "labels differ from the bundle's",
    ),
    "a path": (list_file("../secret"), "'../secret' is not a valid file name"),
    "an absolute path": (list_file("/etc/passwd"), "'/etc/passwd' is not a valid file name"),
    "a path below": (list_file("more/model.onnx"), "is not a valid file name"),
    "the folder itself": (list_file("."), "is not a valid file name"),
    "the folder above": (list_file(".."), "is not a valid file name"),
    "a file without a name": (list_file(""), "is not a valid file name"),
    "the manifest itself": (list_file(MANIFEST), "is not a valid file name"),
    "a file name with NUL": (list_file("a\0b"), "lacks"),
    "an unknown field": (lambda m: m.update(colour="red"), "unknown field colour"),
    "a missing field": (lambda m: m.pop("metrics"), "field metrics is missing"),
    "a variant without a certificate": (
        lambda m: m["certificate"]["parity"].pop("int8"),
        "the certificate does not cover int8",
    ),
    "a certificate of other labels": (
        lambda m: m["certificate"]["parity"]["int8"]["labels"].pop("price"),
        "the certificate of int8 belongs to another bundle",
    ),
    "a certificate of another precision": (
        lambda m: m["certificate"]["parity"].update(int4=m["certificate"]["parity"]["int8"]),
        "the certificate of int4 belongs to another bundle",
    ),
    "a certificate without a figure": (
        lambda m: m["certificate"]["parity"]["int8"]["quality"].pop("macro_f1"),
        "quality: field macro_f1 is missing",
    ),
    "an unknown policy": (lambda m: m["long_text"].update(policy="guess"), "policy: found str 'guess'"),
    "a negative overlap": (lambda m: m["long_text"].update(overlap=-5), "overlap of -5"),
    "no windows": (lambda m: m["long_text"].update(max_windows=0), "0 windows"),
    "no room for a text": (lambda m: m.update(max_length=2), "leaves 0 tokens"),
    "no special tokens": (lambda m: m["special_tokens"].update(prefix=[], suffix=[]), "no special tokens"),
    "special tokens below 0": (lambda m: m["special_tokens"].update(prefix=[-1]), "are not token ids"),
    "special tokens too large": (lambda m: m["special_tokens"].update(prefix=[2**31]), "are not token ids"),
    "special tokens of another model": (lambda m: m["special_tokens"].update(prefix=[10**6]), "the graph failed"),
    "metrics are not an object": (lambda m: m.update(metrics=[]), "metrics: found list"),
    "metrics of a split are a number": (lambda m: m.update(metrics={"test": 0.5}), "something other than numbers"),
    "metrics are a list": (lambda m: m.update(metrics={"test": {"tuned": [0.5]}}), "something other than numbers"),
    "a metric is a string": (
        lambda m: m.update(metrics={"test": {"tuned": {"f1": "0.5"}}}),
        "something other than numbers",
    ),
    "metrics of a split are null": (lambda m: m.update(metrics={"test": None}), "something other than numbers"),
    "a metric too large for a float": (
        lambda m: m.update(metrics={"test": {"texts": 10**400}}),
        "something other than numbers",
    ),
    "metrics nested too deeply": (lambda m: m.update(metrics=nested(500)), "something other than numbers"),
    "source nested too deeply": (lambda m: m.update(source=nested(500)), "source is nested deeper than 32 levels"),
    "a count too large for 64 bits": (
        lambda m: m["certificate"]["parity"]["int8"].update(texts_flipped=10**400),
        "texts_flipped: found int",
    ),
    "format 0": (lambda m: m.update(format_version=0), "no format_version 0"),
    "format true": (lambda m: m.update(format_version=True), "format_version: found bool"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_manifest_fields_are_rejected(own_bundle: Path, resign: Resign, cli: Cli, wrong: str) -> None:
    edit, sentence = WRONG[wrong]
    assert_refused(cli, resign(own_bundle, edit), sentence)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ("a label twice", "labels are missing or duplicated"),
        ("no variants", "variants are missing or duplicated"),
        ("no probes", "probes are missing, or their labels differ from the bundle's"),
        ("an unknown precision", "'bf16' is not one of fp32, int8, fp16"),
        ("one threshold too few", "fp32 has 3 thresholds for 4 labels"),
    ],
)
def test_inconsistent_manifest_error(own_bundle: Path, resign: Resign, wrong: str, fault: str) -> None:
    with pytest.raises(BundleError) as caught:
        Bundle.open(resign(own_bundle, WRONG[wrong][0]))
    assert str(caught.value) == (
        f"{own_bundle / MANIFEST} contradicts itself: {fault}. "
        "Download the bundle again, or export it again with manylabel export."
    )


@pytest.mark.parametrize(
    ("slowdown", "message"), [(None, "its speed was not measured"), (1.234, "it takes 1.23 times as long")]
)
def test_mixed_precision_slowdown_is_optional(slowdown: float | None, message: str) -> None:
    assert MixedPrecision("too many flips", ("/encoder/MatMul",), 12, slowdown).cost == message


def test_newer_format_version_is_rejected(own_bundle: Path, resign: Resign) -> None:
    """Even if nothing else in it can be read, not even the digest."""
    resign(own_bundle, lambda manifest: manifest.update(format_version=2, shards=[1, 2]))
    text = (own_bundle / MANIFEST).read_text().replace('"billing"', '"invoices"')
    (own_bundle / MANIFEST).write_text(text)
    with pytest.raises(BundleTooNew) as caught:
        Bundle.open(own_bundle)
    assert str(caught.value) == (
        f"{own_bundle / MANIFEST} has format_version 2; this manylabel reads up to 1. pip install --upgrade manylabel"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_any_json_is_a_manifest_or_rejected(
    bundle: Path, resign: Resign, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any value in any place is read and shown, or rejected with one of our errors."""
    folder = tmp_path_factory.mktemp("any") / "bundle"
    shutil.copytree(bundle, folder)

    def edit(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        while True:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
                place[key] = data.draw(JSON)
                return
            place = inner

    resign(folder, edit)
    try:
        opened = Classifier.load(folder, device="cpu", precision="int8", threads=1)
        assert list(describe_bundle(opened.bundle))
        assert opened.bundle.manifest.to_bytes()
    except (BundleError, InputError):  # for example: no variant int8
        pass


# Parts that do not belong together: the digests match, the predictions do not


def test_probes_detect_shuffled_labels(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    resign(own_bundle, lambda manifest: manifest["labels"].reverse())
    assert_refused(cli, own_bundle, "where PyTorch gave", "do not belong together")


def test_probes_detect_wrong_tokenizer(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    path = own_bundle / "tokenizer.json"
    content = json.loads(path.read_bytes())
    vocabulary = content["model"]["vocab"]
    words = [piece for piece in vocabulary if not piece.startswith("[")]
    content["model"]["vocab"] = vocabulary | {
        word: vocabulary[other] for word, other in zip(words, words[::-1], strict=True)
    }
    path.write_text(json.dumps(content))
    assert_refused(cli, resign(own_bundle), "where PyTorch gave")


def test_probes_detect_wrong_graph(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    shutil.copy(own_bundle / "model_int8.onnx", own_bundle / "model.onnx")
    assert_refused(cli, resign(own_bundle), "model.onnx gives", "where PyTorch gave")


def test_graph_with_other_label_count_is_rejected(own_bundle: Path, resign: Resign, graph: Any, cli: Cli) -> None:
    (own_bundle / "model.onnx").write_bytes(graph("Sigmoid"))
    assert_refused(cli, resign(own_bundle), "returns 1 columns; the manifest has 4 labels")


def test_invalid_tokenizer_file_is_rejected(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    (own_bundle / "tokenizer.json").write_text("{}")
    assert_refused(cli, resign(own_bundle), "not a tokenizer")


def test_invalid_graph_file_is_rejected(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    (own_bundle / "model.onnx").write_text("no graph")
    assert_refused(cli, resign(own_bundle), "does not load the graph")
