"""The search for a prompt, on simulated scores: its budget, its rows, and what it may claim."""

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
import pytest

from finetooth.errors import ConfigError
from finetooth.evaluation.prompting.search import SearchResult, better_calibration, make_plan, pool, search
from finetooth.evaluation.prompting.spec import PromptSpec
from finetooth.evaluation.prompting.trials import RowResult, Trial, TrialResult

SELECT, CONFIRM = range(40), range(40, 80)
LAYOUTS = ["turns", "cue", "block"]


class Simulated:
    """Prompts with a true accuracy each. asked: (spec, row) of every answer, in order."""

    def __init__(self, accuracy: Callable[[Trial], float], seed: int = 0) -> None:
        self.accuracy, self.seed = accuracy, seed
        self.asked: dict[tuple[PromptSpec, int], None] = {}  # in order

    def __call__(self, trial: Trial, rows: Sequence[int], fitted_on: Sequence[int]) -> list[RowResult]:
        confirming = set(fitted_on) - set(SELECT)  # whose questions serve the finalists alone
        assert not confirming or all((trial.spec, row) in self.asked or row in rows for row in confirming)
        self.asked |= dict.fromkeys((trial.spec, row) for row in rows)
        key = [self.seed, *trial.title.encode()]
        draw = np.random.default_rng(key).random(80)
        right = draw < self.accuracy(trial)
        tokens = 20 + 30 * trial.spec.shots
        return [RowResult(float(right[row]), float(right[row]), tokens, 2) for row in rows]

    def search(self, budget: int = 900, calibrations: Sequence[str] = ("none", "batch")) -> SearchResult:
        return search(pool(True), LAYOUTS, ["Answer."], self, calibrations, SELECT, CONFIRM, budget)


def test_the_pool_has_every_way_to_choose_demonstrations() -> None:
    for labels, drawn in ((True, {"balanced", "random"}), (False, {"random"})):
        specs = pool(labels)
        assert specs[0] == PromptSpec() and len(set(specs)) == len(specs)
        ways = {(one.shots, one.demonstrations, one.draw) for one in specs[1:]}
        for count in (1, 2, 4, 8):
            assert {(count, "bm25", None), (count, "vectors", None)} <= ways
            assert {how for shots, how, draw in ways if (shots, draw) == (count, 1)} == drawn
        assert {(count, "random", d) for count in (4, 8, 16) for d in (1, 2, 3)} <= ways
        assert {one.demonstrations for one in specs[1:8]} == {
            *drawn,
            "bm25",
            "vectors",
        }  # of small budgets, too


@pytest.mark.parametrize("budget", [120, 300, 600, 1500])
def test_the_budget_bounds_the_answers(budget: int) -> None:
    simulated = Simulated(lambda trial: 0.3)
    result = simulated.search(budget)
    assert len(simulated.asked) <= result.plan.cost <= budget


def test_a_larger_budget_uses_more_rows_and_prompts() -> None:
    plans = [make_plan(25, 3, 40, 40, budget) for budget in (150, 400, 900, 5000)]
    sizes = [(plan.rungs[0][0], plan.select) for plan in plans]
    assert sizes == sorted(sizes, key=lambda size: size[::-1]) and sizes[-1] == (25, 40) and sizes[0][0] < 25


def test_a_budget_for_no_comparison_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--budget 20: too few answers .* at least [0-9]+ are needed"):
        Simulated(lambda trial: 0.3).search(20)


def test_confirmation_rows_are_answered_by_the_finalists_alone_and_last() -> None:
    simulated = Simulated(lambda trial: 0.3)
    result = simulated.search()
    confirming = [spec for spec, row in simulated.asked if row in CONFIRM]
    assert set(confirming) == {one.trial.spec for one in result.finalists}
    first = next(at for at, (_, row) in enumerate(simulated.asked) if row in CONFIRM)
    assert all(row in CONFIRM for _, row in [*simulated.asked][first:])


def test_the_good_prompt_is_found() -> None:
    def accuracy(trial: Trial) -> float:
        return 0.3 + 0.4 * (trial.spec.demonstrations == "bm25") * (trial.spec.shots > 0)

    winners = [Simulated(accuracy, seed).search().winner.trial.spec for seed in range(40)]
    assert sum(one.demonstrations == "bm25" and one.shots > 0 for one in winners) >= 38


def test_a_good_layout_and_a_good_calibration_are_found() -> None:
    def accuracy(trial: Trial) -> float:
        return 0.2 + 0.3 * (trial.spec.layout == "block") + 0.3 * (trial.calibration == "batch")

    results = [Simulated(accuracy, seed).search() for seed in range(20)]
    found = [(one.winner.trial.spec.layout, one.winner.trial.calibration) for one in results]
    assert found.count(("block", "batch")) >= 18
    spread = results[0].layouts
    assert set(spread) == set(LAYOUTS) and spread["block"] == max(spread.values())


def test_instructions_are_tried_in_the_best_layout() -> None:
    def accuracy(trial: Trial) -> float:
        blocked = trial.spec.layout == "block"
        return 0.2 + 0.3 * blocked + 0.4 * (blocked and trial.spec.instruction == "Answer.")

    found = [Simulated(accuracy, seed).search().winner.trial.spec for seed in range(20)]
    assert sum(one.layout == "block" and one.instruction == "Answer." for one in found) >= 18


@pytest.mark.parametrize(("calibrations", "least", "most"), [(("none", "batch"), 18, 20), (("none",), 0, 0)])
def test_the_list_of_labels_is_left_out_where_that_is_better(
    calibrations: Sequence[str], least: int, most: int
) -> None:
    """Without labels there is no list, and only ("none",) to calibrate."""

    def accuracy(trial: Trial) -> float:
        return 0.3 + 0.4 * (not trial.spec.labels)

    results = [Simulated(accuracy, seed).search(calibrations=calibrations) for seed in range(20)]
    assert least <= sum(not one.winner.trial.spec.labels for one in results) <= most


def test_of_equal_prompts_the_cheapest_wins() -> None:
    winner = Simulated(lambda trial: 1.0).search().winner
    assert winner.trial.spec.shots == 0 and winner.score == 1.0


def test_a_prompt_that_won_by_chance_is_not_called_better() -> None:
    """The score on the confirmation rows is fair, where that on the selection rows is too good."""
    results = [Simulated(lambda trial: 0.3, seed).search() for seed in range(60)]
    best = [max(one.finalists, key=lambda one: fmean(r.score for r in one.selected)) for one in results]
    selected = fmean(row.score for one in best for row in one.selected)
    confirmed = fmean(row.score for one in best for row in one.confirmed)
    assert selected > 0.38 and abs(confirmed - 0.3) < 0.035
    for one in results:
        plain = next(each for each in one.finalists if each.trial == Trial(PromptSpec()))
        if not one.confirmed:
            assert one.winner is plain
    assert any(not one.confirmed for one in results)


def answered(name: str, right: np.ndarray) -> list[TrialResult]:
    """Trials of one calibration: a row of `right` for each prompt."""
    rows = [[RowResult(float(one)) for one in prompt] for prompt in right]
    return [TrialResult(Trial(PromptSpec(draw=at), name), row) for at, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("batch", "none", "wanted"), [(0.7, 0.4, "batch"), (0.4, 0.7, "none"), (0.5, 0.5, "batch")]
)
def test_one_calibration_is_chosen_for_all_prompts(batch: float, none: float, wanted: str) -> None:
    """Of 16 prompts on 8 rows: batch, unless none is clearly better."""
    chosen = []
    for seed in range(100):
        draw = np.random.default_rng(seed)
        hard = draw.random(8) * 0.3 - 0.15  # a row is as hard for one prompt as for another
        results = {
            name: answered(name, draw.random((16, 8)) < share + hard)
            for name, share in (("batch", batch), ("none", none))
        }
        chosen.append(better_calibration(results))
    assert chosen.count(wanted) >= (80 if batch == none else 98)


def test_of_equal_gains_the_first_one_named_is_chosen() -> None:
    """Whatever the order of a set is: two runs of one search find one prompt."""
    results = {name: answered(name, np.ones((3, 8))) for name in ("none", "contextual")}
    for order in (results, dict(reversed(results.items()))):
        assert better_calibration({"batch": answered("batch", np.zeros((3, 8))), **order}) == next(
            iter(order)
        )


def test_without_labels_there_is_nothing_to_calibrate() -> None:
    assert better_calibration({"none": answered("none", np.ones((3, 8)))}) == "none"


def test_rows_are_given_up_after_prompts() -> None:
    """Twelve prompts on more rows find a better one than thirty on few (docs/log.md)."""
    plans = [
        (make_plan(31, 8, 20, 20, budget), make_plan(12, 8, 20, 20, budget)) for budget in range(180, 700)
    ]
    assert all(many.select == few.select and many.cost >= few.cost for many, few in plans)
    assert plans[0][0].select < 12 and plans[-1][0].rungs[0][0] == 31
