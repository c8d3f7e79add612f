"""What auto chooses, that it says why, and that a rate of the other method is noticed."""

from __future__ import annotations

import dataclasses

import pytest
from models_for_tests import CONFIGS

from finetooth.config.task import TrainConfig
from finetooth.training.defaults import DefaultsContext, as_group, inner_width, resolve
from finetooth.tree import Row, microtrees

SMALL = DefaultsContext(
    family="llama",
    hidden=256,
    layers=6,
    vocabulary=4096,
    weights=6_000_000,
    fresh=False,
    rows=1200,
    validation_rows=120,
    memory=16 * 2**30,
)
LARGE = dataclasses.replace(SMALL, family="qwen2", hidden=896, layers=24, weights=494_000_000, rows=40_000)


def facts(**changes: object) -> DefaultsContext:
    return dataclasses.replace(SMALL, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [SMALL, LARGE, facts(rows=1), facts(rows=7, validation_rows=0)])
@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_nothing_stays_auto_and_every_value_has_a_reason(known: DefaultsContext, adapter: str) -> None:
    config = TrainConfig.model_validate({"adapter": adapter})
    autos = {key for key, value in config.model_dump().items() if value == "auto"}
    resolved = resolve(config, known)
    assert "auto" not in resolved.config.model_dump().values()
    assert set(resolved.reasons) == autos
    assert all(resolved.reasons.values())
    assert resolve(resolved.config, known) == dataclasses.replace(resolved, reasons={})


def test_a_value_that_was_set_stays() -> None:
    resolved = resolve(TrainConfig(learning_rate=1e-3, batch_size=3, patience=None), SMALL)
    assert (resolved.config.learning_rate, resolved.config.batch_size) == (1e-3, 3)
    assert resolved.config.patience is None
    assert not {"learning_rate", "batch_size", "patience"} & set(resolved.reasons)


@pytest.mark.parametrize("known", [SMALL, LARGE])
def test_lora_learns_ten_times_faster_than_full(known: DefaultsContext) -> None:
    rates = [
        float(resolve(TrainConfig.model_validate({"adapter": adapter}), known).config.learning_rate)
        for adapter in ("lora", "none")
    ]
    assert rates[0] / rates[1] == pytest.approx(10, rel=0.05)


def test_rates_of_known_sizes() -> None:
    def rate(known: DefaultsContext, **keys: object) -> float:
        return float(resolve(TrainConfig.model_validate(keys), known).config.learning_rate)

    assert rate(facts(hidden=2000)) == 5e-4
    assert rate(LARGE) == pytest.approx(5e-4 * (2000 / 896) ** 0.0775, rel=0.02)
    assert rate(facts(hidden=64)) <= 5e-3
    assert rate(facts(fresh=True), adapter="none") == 1e-3


def test_few_rows_are_seen_more_often_in_smaller_batches() -> None:
    few, many = (resolve(TrainConfig(), facts(rows=rows)).config for rows in (40, 40_000))
    assert (few.epochs, many.epochs) == (10, 2)
    assert (few.batch_size, many.batch_size) == (4, 16)
    assert 10 * 40 / int(few.batch_size) >= 100


def budget(**changes: object) -> int:
    known = dataclasses.replace(LARGE, **changes)  # type: ignore[arg-type]
    return int(resolve(TrainConfig(), known).config.micro_tokens)


def test_a_frozen_base_leaves_room_for_tokens() -> None:
    seven = {"hidden": 4096, "layers": 32, "weights": 7_000_000_000, "memory": 141 * 2**30}
    assert [budget(**seven, model_state_bytes=bytes * 7_000_000_000) for bytes in (16, 2)] == [768, 2944]


def test_memory_decides_the_micro_tree() -> None:
    budgets = [budget(memory=gib * 2**30, model_state_bytes=2 * LARGE.weights) for gib in (1, 16, 32, 1000)]
    assert budgets[0] == 256
    assert budgets[-1] == 16384
    assert budgets == sorted(budgets)


def test_on_the_cpu_activations_stay_small_beside_the_weights() -> None:
    """The shape of Qwen2.5-0.5B: 2.2 MiB a token measured, so that 6 GiB hold weights, copies and these."""
    tokens = budget(memory=24 * 2**30, inner=4864, weights=494_000_000)
    assert 512 <= tokens <= 768
    assert budget(memory=1000 * 2**30, inner=4864, weights=494_000_000) == tokens
    assert budget(memory=24 * 2**30, inner=896, weights=494_000_000) > tokens
    assert budget(memory=24 * 2**30, hidden=128, inner=512, layers=4) > 8192


def test_checkpointing_leaves_room_for_tokens() -> None:
    """The shape of Qwen2.5-0.5B on a small GPU: a layer holds 1 vector a token instead of 26."""
    known = dataclasses.replace(LARGE, memory=8 * 2**30, model_state_bytes=2 * LARGE.weights, inner=4864)
    plain, spared = (
        resolve(TrainConfig(checkpointing=on), known).config.micro_tokens for on in (False, True)
    )
    assert 4 * int(plain) < int(spared) <= 16384
    cpu = dataclasses.replace(LARGE, memory=24 * 2**30, inner=4864)
    plain, spared = (resolve(TrainConfig(checkpointing=on), cpu).config.micro_tokens for on in (False, True))
    assert 4 * int(plain) < int(spared) <= 16384


@pytest.mark.parametrize(
    ("family", "width"), [("llama", 48), ("opt", 48), ("gpt2", 0), ("mixtral", 96), ("falcon", 48)]
)
def test_the_width_of_the_mlp_is_found(family: str, width: int) -> None:
    assert inner_width(CONFIGS[family]) == width


def test_validation_comes_within_the_run() -> None:
    config = resolve(TrainConfig(max_steps=3), SMALL).config
    assert 1 <= int(config.validate_every) <= 3
    assert resolve(TrainConfig(), facts(validation_rows=0)).config.patience is None


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"learning_rate": 2e-5}, "lower"),
        ({"learning_rate": 0.2}, "higher"),
        ({"adapter": "none", "learning_rate": 5e-3}, "higher"),
    ],
)
def test_a_rate_of_the_other_method_is_noticed(keys: dict[str, object], word: str) -> None:
    config = TrainConfig.model_validate(keys)
    (warning,) = resolve(config, SMALL).warnings
    assert f"times {word} than" in warning
    assert "LoRA" in warning


def test_no_warning_for_a_rate_in_the_range() -> None:
    assert resolve(TrainConfig(), SMALL).warnings == ()
    assert resolve(TrainConfig(learning_rate=1e-3), SMALL).warnings == ()


def test_lora_on_random_weights_is_noticed() -> None:
    (warning,) = resolve(TrainConfig(), facts(fresh=True)).warnings
    assert "train.adapter none" in warning


def test_small_trees_where_little_is_shared() -> None:
    """Rows of 150 tokens that share 25 take small trees; behind 400 shared tokens one tree is cheaper."""
    alone = [Row([*range(25), *range(1000 * i, 1000 * i + 125)], [0.0] * 150) for i in range(1, 17)]
    shared = [Row([*range(400), *range(1000 * i, 1000 * i + 44)], [0.0] * 444) for i in range(1, 17)]
    for rows, tokens in ((alone, 768), (shared, 1536)):
        known = facts(sample=tuple(rows))
        assert resolve(TrainConfig(), known).config.micro_tokens == tokens


def test_a_real_model_takes_larger_trees() -> None:
    """The shape of SmolLM2-135M, 16 rows of 120 tokens: 1,536 tokens are within 2 GiB, and 640 within one."""
    rows = tuple(Row([*range(1000 * i, 1000 * i + 120)], [0.0] * 120) for i in range(16))
    shape = {"hidden": 576, "layers": 30, "inner": 1536, "weights": 134_500_000, "vocabulary": 49152}
    for adapter, tokens in (("lora", 1536), ("none", 512)):
        known = facts(sample=rows, **shape)
        assert resolve(TrainConfig(adapter=adapter, batch_size=16), known).config.micro_tokens == tokens


@pytest.mark.parametrize(("adapter", "tokens"), [("lora", 1536), ("none", 2048)])
def test_a_group_behind_a_long_question_is_one_tree(adapter: str, tokens: int) -> None:
    """Eight answers of 100 tokens to 400: trees of 768 tokens would compute the question several times."""
    asked = [[*range(1000 * i, 1000 * i + 500)] for i in range(1, 3)]
    known = facts(sample=tuple(Row(row, [0.0] * 400 + [1.0] * 100) for row in asked))
    keys = {"adapter": adapter, "method": "grpo", "group_size": 8, "batch_size": 2}
    config = resolve(TrainConfig.model_validate(keys), known).config
    assert config.micro_tokens == tokens
    rolled = [answer for row in known.sample for answer in as_group(row, 8)]
    assert [len(tree) for tree in microtrees(rolled, tokens)] == [400 + 8 * 100] * 2
    supervised = TrainConfig.model_validate({**keys, "method": "sft"})
    assert resolve(supervised, known).config.micro_tokens == (768 if adapter == "lora" else 512)


def test_few_validation_rows_choose_by_loss() -> None:
    """The score of ten answers moves in steps of a tenth: it kept weights that had hardly been trained."""
    rows = tuple(Row([*range(i, i + 30)], [0.0] * 27 + [1.0] * 3) for i in range(16))
    for count, chosen in ((10, "loss"), (29, "loss"), (30, "score")):
        known = facts(sample=rows, validation_rows=count, ungradable_reason="")
        assert resolve(TrainConfig(validate_every=100), known).config.select == chosen


@pytest.mark.parametrize(
    ("method", "share", "beta"),
    [
        ("sft", 1, None),
        ("dpo", 5, 0.1),
        ("kto", 5, 0.1),
        ("simpo", 1, 2.0),
        ("orpo", 1, 0.1),
        ("reward_model", 1, None),
    ],
)
def test_what_is_relative_to_its_start_moves_slowly_from_it(
    method: str, share: float, beta: float | None
) -> None:
    usual = float(resolve(TrainConfig(), SMALL).config.learning_rate)
    found = resolve(TrainConfig.model_validate({"method": method}), SMALL)
    assert float(found.config.learning_rate) == pytest.approx(usual / share, rel=0.05)
    assert found.config.beta == beta
    assert float(found.config.epochs) == (10.0 if method == "sft" else 3.0)
