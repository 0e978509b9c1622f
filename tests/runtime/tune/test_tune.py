"""Tuned plans: selected beyond noise and within the limit, used on their machine, ignored with a reason elsewhere."""

import json
import logging
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.conftest import Cli, Resign

from manylabel import Bundle, Classifier
from manylabel.load_options import LoadConfig, TunedPlan, find_plan, plan_path, resolve_load_config
from manylabel.tune.benchmark import Measurements, Timing, find_over_budget, list_candidates, measure_configs
from manylabel.tune.selection import p99_bound_index, select_config

USUAL, HALF, EXACT = LoadConfig("int8", 2, 512), LoadConfig("int8", 2, 256), LoadConfig("fp32", 2, 512)
FAST = (0.001,) * 400


def turns(*rates: float, singles: tuple[float, ...] = FAST) -> list[Timing]:
    return [Timing(singles, rate) for rate in rates]


def measured(repeats: list[Timing], **others: list[Timing]) -> Measurements:
    names = {"usual": USUAL, "half": HALF, "exact": EXACT}
    return Measurements({names[name]: timings for name, timings in others.items()}, repeats)


def test_choose_setting_faster_than_noise_in_every_round() -> None:
    found = measured(turns(100, 102, 98), usual=turns(100, 100, 100), half=turns(120, 121, 119))
    assert select_config(found, USUAL).chosen == HALF


@pytest.mark.parametrize(
    ("again", "half"),
    [
        ((100, 130, 100), (120, 121, 119)),  # the default differs from itself by as much
        ((100, 100, 100), (150, 150, 99)),  # slower in one round
        ((100, 100, 100), (90, 90, 90)),
    ],
)
def test_keep_default_without_gain_beyond_noise(again: Any, half: Any) -> None:
    choice = select_config(measured(turns(*again), usual=turns(100, 100, 100), half=turns(*half)), USUAL)
    assert choice.chosen == USUAL


def test_noise_is_difference_of_default_to_itself() -> None:
    found = measured(turns(80, 100, 110), usual=turns(100, 100, 100))
    assert select_config(found, USUAL).noise == pytest.approx(0.25)


def test_setting_over_latency_limit_is_not_chosen() -> None:
    slow = FAST[:380] + (0.05,) * 20
    found = measured(turns(100, 100, 100), usual=turns(100, 100, 100), half=turns(200, 200, 200, singles=slow))
    assert select_config(found, USUAL).chosen == HALF
    assert select_config(found, USUAL, p99=0.02).chosen == USUAL


def test_choose_fastest_within_latency_limit() -> None:
    slow = (0.05,) * 400
    found = measured(
        turns(100, 100, 100, singles=slow), usual=turns(100, 100, 100, singles=slow), exact=turns(50, 50, 50)
    )
    assert select_config(found, USUAL, p99=0.02).chosen == EXACT
    assert select_config(found, USUAL, p99=0.0001).chosen is None


def test_precision_over_budget_is_not_chosen() -> None:
    found = measured(turns(100, 100, 100), usual=turns(100, 100, 100), exact=turns(50, 50, 50))
    assert select_config(found, USUAL, refused={"int8": "too far off"}).chosen == EXACT


def test_cost_per_million_texts() -> None:
    (metrics,) = select_config(measured(turns(1000, 1000, 1000), usual=turns(1000, 1000, 1000)), USUAL).metrics
    assert metrics.cost_per_million(3.6) == pytest.approx(1.0)


@pytest.mark.parametrize("n", [1, 298, 299, 500, 1000, 5000])
def test_p99_upper_confidence_bound(n: int) -> None:
    def rarely(place: int) -> bool:  # whether `place` or more observations below the percentile are improbable
        return sum(comb(n, k) * 0.99**k * 0.01 ** (n - k) for k in range(place, n + 1)) <= 0.05

    place = p99_bound_index(n) + 1
    assert rarely(place) or n < 299
    assert not rarely(place - 1)


def test_rounds_interleave_settings_and_repeat_default() -> None:
    seen: list[tuple[LoadConfig, tuple[str, ...]]] = []

    def measure(config: LoadConfig, alone: Sequence[str], texts: Sequence[str]) -> Timing:
        seen.append((config, tuple(alone)))
        return Timing((0.1,), len(texts))

    found = measure_configs([USUAL, HALF], USUAL, ["a", "b", "c"], measure, rounds=4, singles=2)
    assert [len(each) for each in (found.timings[USUAL], found.timings[HALF], found.repeats)] == [4, 4, 4]
    for number in range(4):
        turn = seen[3 * number : 3 * number + 3]
        assert sorted(setting.batch_tokens for setting, _ in turn) == [256, 512, 512]
        assert len({alone for _, alone in turn}) == 1
    assert len({alone for _, alone in seen}) == 3  # two of three texts in each round


def test_variant_over_bundle_budget_is_not_a_candidate(own_bundle: Path, resign: Resign) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["certificate"]["budget"] = None
        parity = manifest["certificate"]["parity"]["int8"]
        parity["texts_flipped"] = parity["texts_labelled"] = 50

    opened = Bundle.open(resign(own_bundle, edit))
    refused = find_over_budget(opened)
    assert "100.00%" in refused["int8"]
    assert {each.precision for each in list_candidates(opened, "cpu", 2, refused)} == {"fp32"}
    assert {each.threads for each in list_candidates(opened, "cpu", 4, {})} == {2, 4}


@pytest.fixture
def tuned(own_bundle: Path, cli: Cli, tmp_path: Path) -> Path:
    """A bundle with a plan beside it that differs from the default."""
    texts = tmp_path / "texts.csv"
    texts.write_text("text,labels\n" + "the parcel was late,unheard of\n" * 5)
    done = cli("tune", own_bundle, "--data", texts, "--rounds", 3, "--singles", 2)
    assert done.exit_code == 0, done.output
    change(own_bundle, setting=setting("fp32", 1, 64))
    return own_bundle


def setting(precision: str, threads: int, batch_tokens: int, *, cuda_graphs: bool = False) -> dict[str, Any]:
    """Return a configuration as JSON, whether or not tuning could select it."""
    return {"precision": precision, "threads": threads, "batch_tokens": batch_tokens, "cuda_graphs": cuda_graphs}


def change(folder: Path, **fields: Any) -> None:
    path = plan_path(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_load_uses_plan_and_arguments_take_precedence(tuned: Path) -> None:
    loaded = Classifier.load(tuned, device="cpu")
    assert (loaded.precision, loaded.threads, loaded.batch_tokens) == ("fp32", 1, 64)
    asked = Classifier.load(tuned, device="cpu", precision="int8")
    assert (asked.precision, asked.threads) == ("int8", 1)
    assert Classifier.load(tuned, device="cpu", threads=2).threads == 2
    assert Classifier.load(tuned, device="cpu", batch_tokens=128).batch_tokens == 128


def test_batch_tokens_do_not_change_bits(tuned: Path, fp32: Classifier) -> None:
    texts = ["the parcel was late", "a b c d", "very good and cheap " * 30] * 20
    assert (Classifier.load(tuned, device="cpu").predict_proba(texts) == fp32.predict_proba(texts)).all()


def host(plan: Path, **fields: Any) -> dict[str, Any]:
    return {**json.loads(plan.read_text())["host"], **fields}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"bundle": "0" * 64}, "for another bundle, 000000000000"),
        ({"host": {"cores": 4096}}, "measured on another machine: cores was 4096 and is "),
        ({"host": {"onnxruntime": "0.1"}}, "onnxruntime was 0.1 and is "),
        ({"device": "cuda"}, "it is for cuda; the bundle is loaded on cpu"),
        ({"setting": setting("fp16", 1, 64)}, "has no fp16 for cpu"),
        (
            {"setting": setting("int8", 10**6, 64)},
            "int8, 1000000 threads, batches of 64 tokens is not a possible result",
        ),
        ({"setting": setting("int8", 1, 10**9)}, "is not a possible result of tuning on"),
        (
            {"setting": setting("int8", 1, 64, cuda_graphs=True)},
            "int8, 1 thread, batches of 64 tokens, CUDA graphs is not a possible result of tuning on cpu",
        ),
        (
            {"setting": {}},
            "it is not a plan (it: setting: field batch_tokens, cuda_graphs, precision, threads is missing)",
        ),
    ],
)
def test_plan_of_another_machine_is_ignored_with_warning(
    tuned: Path, cli: Cli, caplog: pytest.LogCaptureFixture, fields: Any, expected: str
) -> None:
    if "host" in fields:
        fields = {"host": host(plan_path(tuned), **fields["host"])}
    change(tuned, **fields)
    with caplog.at_level(logging.WARNING, "manylabel"):
        assert Classifier.load(tuned, device="cpu").precision == "int8"
    (record,) = caplog.records
    assert expected in record.getMessage()
    assert record.getMessage().endswith("Run manylabel tune again, or remove it.")
    if "device" not in fields:
        assert expected in cli("inspect", tuned).stdout


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_damaged_plan_does_not_prevent_loading(own_bundle: Path, content: bytes) -> None:
    plan_path(own_bundle).write_bytes(content)
    assert Classifier.load(own_bundle, device="cpu").precision == "int8"
    assert "it is not a plan" in str(find_plan(Bundle.open(own_bundle)))


def test_defaults_without_a_plan(own_bundle: Path) -> None:
    opened = Bundle.open(own_bundle)
    assert find_plan(opened, "cpu").plan is None
    assert resolve_load_config(opened, "cpu", threads=3) == LoadConfig("int8", 3, 512)


def test_gpu_default_batch_is_larger(own_bundle: Path) -> None:
    opened = Bundle.open(own_bundle)
    assert resolve_load_config(opened, "cuda", precision="fp32").batch_tokens == 16_384
    assert {each.batch_tokens for each in list_candidates(opened, "cuda", 2, {})} == {8_192, 16_384, 32_768}


def test_inspect_shows_the_plan(tuned: Path, cli: Cli) -> None:
    assert (
        f"on this machine: plan {plan_path(tuned)} for cpu: fp32, 1 thread, batches of 64 tokens"
        in cli("inspect", tuned).stdout
    )


def test_tune_json_output_and_plan(own_bundle: Path, cli: Cli, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"review": "the parcel was late"}\n' * 3)
    options = ["--rounds", 3, "--singles", 2, "--price-per-hour", 0.5, "--p99", "60s", "--json"]
    done = cli("tune", own_bundle, "--data", texts, "--text-column", "review", *options)
    found = json.loads(done.stdout)
    assert {each["setting"]["precision"] for each in found["settings"]} == {"fp32", "int8"}
    assert all(each["cost_per_million"] > 0 for each in found["settings"])
    plan = find_plan(Bundle.open(own_bundle), "cpu").plan
    assert isinstance(plan, TunedPlan)
    assert vars(plan.setting) == found["chosen"]
    assert plan.measured["texts"] == 3
    assert plan.measured["p99_limit_ms"] == 60_000


def test_no_plan_if_nothing_meets_the_limit(own_bundle: Path, cli: Cli, tmp_path: Path) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("text\nthe parcel was late\n")
    done = cli("tune", own_bundle, "--data", texts, "--rounds", 3, "--singles", 2, "--p99", "0.00001ms")
    assert done.exit_code == 1
    assert "No configuration keeps 1e-05 ms" in done.stdout
    assert not plan_path(own_bundle).exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--p99", "20"], "expected a value such as 20ms or 0.5s"),
        (["--text-column", "nothing"], "has no column 'nothing'"),
    ],
)
def test_tune_usage_errors(bundle: Path, cli: Cli, tmp_path: Path, options: list[str], expected: str) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("text\nthe parcel was late\n")
    done = cli("tune", bundle, "--data", texts, *options)
    assert done.exit_code == 2
    assert expected in done.output
