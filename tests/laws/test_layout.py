"""A step computes at most a tenth more than its distinct tokens, unless memory forbids it, which is said."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_for_tests import load

from finetooth.config.task import TrainConfig
from finetooth.model.api import Model
from finetooth.model.inference import row_logprobs
from finetooth.training.defaults import DefaultsContext, as_group, resolve
from finetooth.training.schedule import batch_indices, group_by_unit
from finetooth.training.step import evaluate_rows
from finetooth.tree import TREE, PrefixTree, Row, microtrees

# The shape of SmolLM2-135M, of which a token of a micro-tree takes 1.2 MiB.
KNOWN = DefaultsContext(
    family="llama",
    hidden=576,
    layers=30,
    vocabulary=49_152,
    weights=134_515_008,
    fresh=False,
    rows=128,
    validation_rows=0,
    memory=24 * 2**30,
    inner=1536,
)


def text(draw: random.Random, least: int, most: int) -> list[int]:
    return [draw.randrange(49_152) for _ in range(draw.randint(least, most))]


def row(context: list[int], answer: list[int], unit: object = None) -> Row:
    weight = [0.0] * len(context) + [1.0] * len(answer)
    return Row([*context, *answer], weight, unit=unit)  # type: ignore[arg-type]


def label_list(draw: random.Random) -> Iterator[Row]:
    """150 labels in every prompt."""
    listed = text(draw, 650, 650)
    while True:
        yield row(listed + text(draw, 8, 25), text(draw, 2, 6))


def instructions(draw: random.Random) -> Iterator[Row]:
    """The beginning of a chat is shared, the rest of a row is its own."""
    system = text(draw, 25, 25)
    while True:
        yield row(system + text(draw, 20, 300), text(draw, 5, 200))


def system_prompts(draw: random.Random) -> Iterator[Row]:
    """Four kinds of request, each behind a long text of its own."""
    kinds = [text(draw, 500, 700) for _ in range(4)]
    while True:
        yield row(draw.choice(kinds) + text(draw, 10, 60), text(draw, 5, 30))


def pairs(draw: random.Random) -> Iterator[Row]:
    """Two answers to the same prompt, which begins as all prompts do."""
    system, unit = text(draw, 300, 300), 0
    while True:
        asked, unit = system + text(draw, 30, 120), unit + 1
        yield row(asked, text(draw, 20, 80), unit)
        yield row(asked, text(draw, 20, 80), unit)


KINDS = [label_list, instructions, system_prompts, pairs]


def workload(kind: Callable[[random.Random], Iterator[Row]], seed: int) -> list[list[Row]]:
    rows = kind(random.Random(seed))
    return group_by_unit([next(rows) for _ in range(256 if kind is pairs else 128)])


def computed(rows: list[Row], budget: int) -> tuple[int, int]:
    """Computed and distinct tokens."""
    return sum(map(len, microtrees(rows, budget))), len(PrefixTree.build(rows))


@pytest.mark.parametrize("adapter", ["lora", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_computes_little_more_than_its_distinct_tokens(kind, adapter: str) -> None:
    units = workload(kind, 1)
    known = dataclasses.replace(KNOWN, sample=tuple(row for unit in units[::2] for row in unit))
    keys = {"adapter": adapter, "batch_size": 16, "method": "dpo" if kind is pairs else "sft"}
    found = resolve(TrainConfig.model_validate(keys), known)
    assert "memory allows no more" not in found.reasons["micro_tokens"]
    for step in range(16):
        chosen = [row for index in batch_indices(1, step, len(units), 16) for row in units[index]]
        tokens, distinct = computed(chosen, int(found.config.micro_tokens))
        assert tokens <= 1.1 * distinct, (step, found.config.micro_tokens)


def test_of_sampled_answers_too() -> None:
    prompts = [text(random.Random(n), 600, 640) for n in range(4)]
    asked = [row(prompt, text(random.Random(n), 60, 80)) for n, prompt in enumerate(prompts)]
    keys = {"method": "grpo", "group_size": 8, "batch_size": 2}
    config = resolve(TrainConfig.model_validate(keys), dataclasses.replace(KNOWN, sample=tuple(asked))).config
    for both in (asked[:2], asked[2:]):
        tokens, distinct = computed(
            [one for row in both for one in as_group(row, 8)], int(config.micro_tokens)
        )
        assert tokens <= 1.1 * distinct


def test_where_memory_forbids_it_is_said() -> None:
    units = workload(label_list, 2)
    known = dataclasses.replace(KNOWN, sample=tuple(row for unit in units for row in unit))
    small = dataclasses.replace(known, memory=3 * 2**30)
    reason = resolve(TrainConfig(batch_size=16), small).reasons["micro_tokens"]
    assert "memory allows no more, so steps compute up to 11" in reason
    chosen = [row for unit in units[:16] for row in unit]
    assert computed(chosen, 512)[0] > 10 * len(PrefixTree.build(chosen))


def test_a_budget_of_the_users_that_is_too_small_is_kept_and_warned_about() -> None:
    units = workload(label_list, 3)
    known = dataclasses.replace(KNOWN, sample=tuple(row for unit in units for row in unit))
    found = resolve(TrainConfig(batch_size=16, micro_tokens=640), known)
    assert found.config.micro_tokens == 640
    (warning,) = found.warnings
    assert "train.micro_tokens 640 is too small" in warning and "(1536) it is 1.0 times" in warning
    assert resolve(TrainConfig(batch_size=16, micro_tokens=1536), known).warnings == ()


def test_scoring_computes_what_rows_share_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation and scoring need no memory for gradients, so their trees may be larger than training's."""
    model, draw = load(tmp_path, "none"), random.Random(5)
    shared = [draw.randrange(96) for _ in range(60)]
    rows = [row([*shared, *(draw.randrange(96) for _ in range(4))], [n]) for n in range(24)]
    assert computed(rows, 100)[0] > 1.5 * computed(rows, 100)[1]
    sizes: list[int] = []
    real = Model.logprobs
    monkeypatch.setattr(
        Model, "logprobs", lambda self, tree, *rest: sizes.append(len(tree)) or real(self, tree, *rest)
    )
    found = [evaluate_rows(model, rows, budget=100)[0], -float(np.mean(row_logprobs(model, rows, 100)))]
    assert sum(sizes) <= 2 * 1.1 * len(PrefixTree.build(rows)) and max(sizes) <= 2 * 100
    assert found == pytest.approx([evaluate_rows(model, rows, budget=10**6)[0]] * 2, rel=1e-5)


forests = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=8)


@given(forests, st.integers(1, 30))
@settings(max_examples=150, deadline=None)
def test_no_other_cut_of_the_rows_in_order_is_cheaper(lists: list[list[int]], budget: int) -> None:
    """All ways to cut them are tried; a tree of one row may be larger than the budget."""
    rows = [Row(tokens, [0.0] * len(tokens)) for tokens in lists]
    joint = PrefixTree.build(rows)
    order = sorted(range(len(rows)), key=lambda index: (joint.path_R[index][-1], index))

    def cost(bounds: tuple[int, ...]) -> float:
        total = 0.0
        for start, stop in pairwise(bounds):
            size = len(np.unique(np.concatenate([joint.path_R[index] for index in order[start:stop]])))
            total += size + TREE if size <= budget or stop - start == 1 else np.inf
        return total

    inner = range(1, len(rows))
    cuts = [tuple(at for at in inner if mask >> at & 1) for mask in range(0, 2 ** len(rows), 2)]
    trees = microtrees(rows, budget)
    assert sum(map(len, trees)) + TREE * len(trees) == min(cost((0, *cut, len(rows))) for cut in cuts)


def test_a_cut_between_prefixes_is_preferred_to_one_within() -> None:
    """Filling one tree after the other would compute the second prefix twice."""
    rows = [Row([k, *range(9, 99), 100 + n], [0.0] * 92) for k in (1, 2) for n in range(3)]
    trees = microtrees(rows, 187)
    assert [len(tree) for tree in trees] == [94, 94]
    assert {frozenset(int(row.tokens[0]) for row in tree.rows) for tree in trees} == {
        frozenset({1}),
        frozenset({2}),
    }


def test_the_same_rows_are_laid_out_the_same_way() -> None:
    rows = [row for unit in workload(system_prompts, 4)[:40] for row in unit]
    first, second = (microtrees(list(rows), 1024) for _ in range(2))
    assert [[id(row) for row in tree.rows] for tree in first] == [
        [id(row) for row in tree.rows] for tree in second
    ]
