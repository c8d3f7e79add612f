"""The estimate of memory and time, from facts alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from training_for_tests import rows

from finetooth.errors import ConfigError
from finetooth.training.estimate import (
    MemoryFacts,
    Workload,
    activations,
    corrected,
    duration,
    estimate_memory,
    gib,
    require_memory,
    training_seconds,
    workload,
)
from finetooth.training.schedule import batch_indices, group_by_unit
from finetooth.tree import Row, microtrees

FACTS = MemoryFacts(
    process=400,
    peak=1500,
    weights=1000,
    trained=1000,
    optimizer=2000,
    copies=10,
    token=50.0,
    layer_token=5.0,
    input_token=4.0,
    checkpointing=False,
    head=8.0,
    kept_logits=100,
    head_gradient=300,
    adapter=False,
    preflight=True,
    answers=700,
)
WORK = Workload(steps=30, tokens=120.0, largest=60, scored=20, probed=40, longest=30)
SIZES = ("process", "peak", "weights", "trained", "optimizer", "copies", "token", "layer_token", "head")


def peak(facts: MemoryFacts, work: Workload = WORK) -> int:
    return estimate_memory(facts, work).peak


def test_the_peak_is_the_sum_of_the_parts_of_the_largest_phase() -> None:
    found = estimate_memory(FACTS, WORK)
    sums = {name: sum(parts.values()) for name, parts in found.phases.items()}
    assert found.peak == max(sums.values()) == sum(found.parts.values()) == sums[found.phase]
    assert found.phase == "preflight"
    assert found.parts == {
        "process": 400,
        "weights": 1000,
        "gradients": 1000,
        "optimizer state": 2000,
        "copies": 1010,
        "activations": activations(FACTS, 60),
        "output head": 100 + 300,
    }
    assert estimate_memory(replace(FACTS, preflight=False, answers=10**6), WORK).phase == "answers"
    assert estimate_memory(replace(FACTS, peak=10**6), WORK).phase == "loading"


@pytest.mark.parametrize("name", [*SIZES, "kept_logits", "head_gradient", "answers"])
def test_no_fact_lowers_the_estimate_when_it_grows(name: str) -> None:
    for facts in (FACTS, replace(FACTS, checkpointing=True), replace(FACTS, preflight=False)):
        sizes = [peak(replace(facts, **{name: factor * getattr(facts, name)})) for factor in (0, 1, 3, 1000)]
        assert sizes == sorted(sizes) and (sizes[-1] > sizes[0] or facts != FACTS)


def test_larger_trees_need_more_and_checkpointing_less() -> None:
    sizes = [peak(FACTS, replace(WORK, largest=tokens)) for tokens in (0, 30, 60, 600)]
    assert sizes == sorted(set(sizes))
    assert peak(replace(FACTS, checkpointing=True)) < peak(FACTS)


def test_a_training_that_does_not_fit_is_refused_with_what_would_help() -> None:
    need = peak(FACTS)
    assert require_memory(FACTS, WORK, 60, need, "m").peak == need
    with pytest.raises(ConfigError) as error:
        require_memory(FACTS, WORK, 60, need - 1, "big/model")
    text = str(error.value)
    for advice in ("train.micro_tokens: 30", "train.checkpointing: true", "train.adapter: lora", "big/model"):
        assert advice in text
    # What was held before, and given back since, is no reason to refuse.
    assert require_memory(replace(FACTS, peak=10 * need), WORK, 60, need, "m").peak == 10 * need
    # What is set already, or cannot change anything, is not advised.
    lora = replace(FACTS, adapter=True, checkpointing=True, token=0.0, layer_token=0.0)
    with pytest.raises(ConfigError) as error:
        require_memory(lora, WORK, 60, 1, "m")
    assert not any(f"train.{key}" in str(error.value) for key in ("micro_tokens", "checkpointing", "adapter"))


def test_two_steps_correct_the_activations() -> None:
    without = estimate_memory(replace(FACTS, preflight=False), WORK).phases["step"]
    held = sum(without.values()) - without["activations"]
    expected = activations(FACTS, WORK.probed)
    twice = corrected(FACTS, WORK, held, held + 2 * expected)
    assert activations(twice, 60) == pytest.approx(2 * activations(FACTS, 60), abs=2)
    assert twice.peak == held + 2 * expected
    # The peak did not rise: these steps took at most what the process had held before.
    assert activations(corrected(FACTS, WORK, 10**6, 10**6), 60) == activations(FACTS, 60)
    low = held + expected // 2
    assert activations(corrected(FACTS, WORK, low, low), 60) == pytest.approx(
        activations(FACTS, 60) / 2, rel=0.01
    )
    assert corrected(FACTS, WORK, 0, 0) == FACTS  # the system does not tell
    assert activations(corrected(FACTS, WORK, 0, 10**9), 60) <= 4 * activations(FACTS, 60) + 1


def test_the_workload_is_that_of_the_steps() -> None:
    units = group_by_unit(rows(13))
    found = workload(units, 4, 40, seed=1, total=8)
    trees = [
        microtrees([row for index in batch_indices(1, step, 13, 4) for row in units[index]], 40)
        for step in range(8)
    ]
    sizes = [[len(tree) for tree in step] for step in trees]
    assert found.steps == 8 and found.tokens == sum(map(sum, sizes)) / 8
    assert found.largest == max(map(max, sizes)) and found.probed == max(max(sizes[0]), max(sizes[1]))
    assert found.scored == max(tree.node_M.size for step in trees for tree in step)
    assert found.longest == max(map(len, rows(13)))
    assert workload(units, 4, 40, seed=1, total=8, done=6).steps == 2


def test_a_long_unit_counts_although_its_step_is_not_among_those_that_are_built() -> None:
    short = [[Row([1, 2 + number, 3], [0, 0, 1.0])] for number in range(999)]
    long = [
        Row([1, *range(5, 300)], [0] * 295 + [1.0], unit=0),
        Row([1, *range(300, 600)], [0] * 301, unit=0),
    ]
    assert workload([*short, long], 1, 64, seed=0, total=1000).largest == 1 + 295 + 300


def test_time_is_that_of_steps_and_validations() -> None:
    assert training_seconds(WORK, tokens=60, seconds=2.0, validations=3, validation=5.0) == 30 * 4.0 + 15
    assert [duration(seconds) for seconds in (0.2, 40, 360, 3600 * 3.5)] == ["1 s", "40 s", "6 min", "3.5 h"]
    assert [gib(size) for size in (3 << 20, 1.4 * 2**30)] == ["3 MiB", "1.4 GiB"]
