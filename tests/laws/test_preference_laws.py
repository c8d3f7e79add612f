"""Laws 1 and 2 for preference tuning: tree, budget and the order of rows change no loss and no gradient."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from gate import gate
from preferences_for_tests import KEYS, config, moved, pairs, referenced
from test_batch_invariance import gradient, require_equal
from torch import Tensor
from training_for_tests import load

from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.training import preferences
from finetooth.training.objectives import Loss, Objective, Signals
from finetooth.training.reference import with_mismatched
from finetooth.training.step import evaluate_rows
from finetooth.tree import PrefixTree, Row, microtrees

METHODS = [*KEYS, "reward_model"]
BUDGETS = (1, 30, 70)


@pytest.fixture(
    scope="module",
    params=gate([("llama", "lora"), ("gpt2", "none"), ("gpt-neo", "none")], [("llama", "lora")]),
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, list[Row]]:
    """A model that is no longer its reference, and the rows; gpt-neo takes `rows`, the specification."""
    family, adapter = request.param
    place = tmp_path_factory.mktemp("model")
    load(place, adapter, family)
    model = Model.load(place)
    reward_head.attach(model.hf)
    if adapter == "lora":
        model.add_lora(4, 0)
    rows = referenced(model, with_mismatched(pairs(7), 256))
    return moved(model).train(), rows


def orders(rows: Sequence[Row]) -> list[list[Row]]:
    """As they are, backwards, turned, and all chosen rows before all rejected ones."""
    apart = sorted(rows, key=lambda row: -row.signals["chosen"])
    return [list(rows), list(rows)[::-1], [*rows[5:], *rows[:5]], apart]


def chosen_rows(rows: Sequence[Row], method: str) -> list[Row]:
    return [row for row in rows if method == "kto" or not row.signals["mismatched"]]


@pytest.mark.parametrize("method", gate(METHODS, ["dpo", "kto", "reward_model"]))
def test_budget_and_order_change_nothing(made: tuple[Model, list[Row]], method: str) -> None:
    model, rows = made
    objective = preferences.objective(config(method))
    given = chosen_rows(rows, method)
    want, want_grads = gradient(model, objective, given, 10**6)
    assert max(float(grad.abs().max()) for grad in want_grads) > 1e-4
    for budget, order in [*((budget, given) for budget in BUDGETS), *((40, o) for o in orders(given))]:
        found, grads = gradient(model, objective, order, budget)
        assert found.loss == pytest.approx(want.loss, rel=1e-5)
        assert found.units == want.units == (14 if method == "kto" else 7)
        assert found.metrics == pytest.approx(want.metrics, rel=1e-4, abs=1e-5)
        assert found.row_loss == pytest.approx(want.row_loss, rel=1e-4)
        require_equal(grads, want_grads, 3e-5)
        loss, metrics = evaluate_rows(model, order, budget=budget, objective=objective)
        assert loss == pytest.approx(want.loss, rel=1e-5)
        assert metrics == pytest.approx(want.metrics, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_pair_is_never_split_and_shares_its_prompt(budget: int) -> None:
    rows = pairs(7)
    trees = microtrees(orders(rows)[3], budget)
    assert len(trees) > 2
    for tree in trees:
        units = [row.unit for row in tree.rows]
        assert sorted(map(str, units)) == sorted(2 * [str(unit) for unit in dict.fromkeys(units)])
    pair = PrefixTree.build(rows[:2])
    prompt = int((rows[0].weight == 0).sum())
    assert len(pair) <= len(rows[0]) + len(rows[1]) - prompt


def _most_of_the_tree(signals: Signals) -> Loss:
    """The planted bug: what is taken of a whole micro-tree depends on what else is in it."""
    chosen: Tensor = signals.by_name["chosen"]
    nll_R = chosen.new_zeros(chosen.shape).index_add(0, signals.row_M, -signals.logp_M.double())
    return torch.stack([(nll_R * (2 * chosen - 1)).max()] * signals.units), {}


def test_the_law_catches_a_loss_over_a_micro_tree(made: tuple[Model, list[Row]]) -> None:
    model, rows = made
    given, objective = chosen_rows(rows, "dpo"), Objective("unit", _most_of_the_tree)
    losses = {round(gradient(model, objective, given, budget)[0].loss, 4) for budget in (30, 10**6)}
    assert len(losses) == 2
