"""Whether `run` searches for a prompt by itself: only where that is cheap beside the training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from finetooth.config.load import load_task
from finetooth.quality.prepare import PreparedData
from finetooth.runs import best_prompt
from finetooth.tree import Row
from finetooth.types import Answer, Example, Message

ROWS = 160  # of 40 tokens, of which no two share one


def context(weights: int = 135_000_000, sealed: int = 100, **changes: Any) -> Any:
    """A resolved run with a task of labels. changes: keys of the task."""
    examples = [
        Example(str(n), (Message("user", f"q{n}"),), (Answer("a"),), {"label": "a"}) for n in range(ROWS)
    ]
    rows = [
        Row(range(40 * n + 1, 40 * n + 41), [0.0] * 37 + [1.0] * 3, example_id=str(n)) for n in range(ROWS)
    ]
    values = {"train.batch_size": 16, "train.epochs": 40.0, "evaluate.grader": "label", **changes}
    weight = SimpleNamespace(numel=lambda: weights)
    return SimpleNamespace(
        task=load_task({"data": {"train": [{"text": "q", "label": "a"}]}}, values),
        model=SimpleNamespace(fresh=False, hf=SimpleNamespace(parameters=lambda: [weight])),
        prepared=PreparedData(examples, examples[:40], sealed, "labels", ("a", "b", "c"), []),
        renderer=SimpleNamespace(training_rows=lambda example: [rows[int(example.id)]]),
        train_rows=rows,
    )


def test_the_estimate_counts_search_evaluation_and_training() -> None:
    run = context()
    searched = best_prompt.ANSWERS * (3 * 40 + 2 * 3)  # two demonstrations of its own, and two more labels
    evaluated = 2 * (40 + 100) * (5 * 40 + 2 * 3)  # base and tuned model, four demonstrations
    assert best_prompt.search_tokens(run) == searched + evaluated
    assert best_prompt.training_tokens(run) == 3 * 400 * 16 * 40  # 40 epochs of 10 steps
    limited = context(**{"evaluate.limit": 10})
    assert best_prompt.search_tokens(limited) == searched + 2 * (10 + 10) * (5 * 40 + 2 * 3)


@pytest.mark.parametrize(
    ("changes", "wanted", "why"),
    [
        ({}, True, "12% of what training does"),
        ({"train.epochs": 8.0}, False, "62% of what training does"),
        ({"train.max_steps": 80}, False, "62% of what training does"),
        ({"sealed": 2000}, False, "would compute"),
        ({"weights": 4_000_000}, False, "the base has 4,000,000 weights"),
        ({"evaluate.prompt": "own.yaml"}, False, "evaluate.prompt is the prompt to beat"),
        ({"evaluate.grader": "perplexity"}, False, "graded answers"),
        ({"train.method": "dpo"}, False, "only a search beside supervised training"),
    ],
)
def test_a_search_is_automatic_where_it_is_cheap(changes: dict[str, Any], wanted: bool, why: str) -> None:
    found, reason = best_prompt.automatic(context(**changes))
    assert found == wanted and why in reason
