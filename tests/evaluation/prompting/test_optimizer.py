"""Optimisers of instructions in the search for a prompt, on simulated scores: budgets, rows, what may win."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from finetooth.errors import ConfigError, GradeError
from finetooth.evaluation.prompting.copro import Copro
from finetooth.evaluation.prompting.optimizer import Bench, BudgetSpent, Gepa, Optimizer
from finetooth.evaluation.prompting.search import SearchResult, pool, search
from finetooth.evaluation.prompting.spec import PromptSpec
from finetooth.evaluation.prompting.trials import RowResult, Trial
from finetooth.types import Answer, Example, Message

SELECT, CONFIRM = range(40), range(40, 80)
PLANTED = "Name the colour of the fruit."
EXAMPLES = [Example(f"r{n}", (Message("user", f"{n}?"),), (Answer("red"),)) for n in range(80)]


class Simulated:
    """Prompts with a true accuracy each, which may differ between the halves. asked: every (prompt, row)."""

    def __init__(self, accuracy: Callable[[Trial, int], float], seed: int = 0) -> None:
        self.accuracy, self.seed = accuracy, seed
        self.asked: dict[tuple[PromptSpec, int], None] = {}

    def __call__(self, trial: Trial, rows: Sequence[int], fitted_on: Sequence[int]) -> list[RowResult]:
        self.asked |= dict.fromkeys((trial.spec, row) for row in rows)
        draw = np.random.default_rng([self.seed, *trial.title.encode()]).random(80)
        return [RowResult(float(draw[row] < self.accuracy(trial, row)), text="blue") for row in rows]

    def search(self, optimizer: Optimizer | None, budget: int = 900, instruction: str = "") -> SearchResult:
        own = ["Answer."]
        return search(
            pool(False),
            ["turns", "cue"],
            own,
            self,
            ("none",),
            SELECT,
            CONFIRM,
            budget,
            optimizer,
            instruction,
        )


def proposing(*texts: str) -> Optimizer:
    """An optimiser that tries these instructions on a few rows, and on all where they do better there."""

    def optimize(bench: Bench) -> None:
        few = bench.rows[:10]
        before = sum(one.score for one in bench(bench.start, few))
        for text in texts:
            if sum(one.score for one in bench(text, few)) > before:
                bench(text, bench.rows)

    return optimize


def planted(trial: Trial, row: int) -> float:
    return 0.9 if trial.spec.instruction == PLANTED else 0.3


def test_a_planted_instruction_is_found_and_confirmed() -> None:
    for seed in range(10):
        simulated = Simulated(planted, seed)
        result = simulated.search(proposing("Say something.", PLANTED))
        assert result.winner.trial.spec.instruction == PLANTED and result.confirmed
        assert len(result.winner.confirmed) == result.plan.confirm
        assert result.optimized is not None and result.optimized[1] >= 1
        assert simulated.search(None).winner.trial.spec.instruction != PLANTED


def test_an_instruction_that_fits_the_selection_rows_alone_does_not_win() -> None:
    def overfitted(trial: Trial, row: int) -> float:
        return (0.95 if row in SELECT else 0.05) if trial.spec.instruction == PLANTED else 0.6

    for seed in range(10):
        result = Simulated(overfitted, seed).search(lambda bench: bench(PLANTED, bench.rows))
        assert any(one.trial.spec.instruction == PLANTED for one in result.finalists)
        assert result.winner.trial.spec.instruction != PLANTED


@pytest.mark.parametrize("budget", [300, 900])
def test_half_of_the_budget_is_the_optimisers(budget: int) -> None:
    """However many instructions it would try. The answers that it has seen already cost nothing."""
    benches: list[Bench] = []

    def greedy(bench: Bench) -> None:
        benches.append(bench)
        assert bench.left == budget // 2
        bench(bench.start, bench.rows)
        assert bench.left == budget // 2
        for number in range(10_000):
            bench(f"Try {number}.", bench.rows[:7])
            bench(f"Try {number}.", bench.rows)

    simulated = Simulated(lambda trial, row: 0.3)
    result = simulated.search(greedy, budget)
    (bench,) = benches
    own = {(spec, row) for spec, row in simulated.asked if str(spec.instruction).startswith("Try")}
    assert len(simulated.asked) <= budget
    assert result.optimized == (bench.asked, len(bench.finished)) and 0 <= bench.left < len(bench.rows)
    assert len({pair for pair in own if pair[1] in SELECT}) == bench.asked
    assert len(bench.finished) == bench.asked // len(bench.rows) > 0
    with pytest.raises(BudgetSpent):
        bench("One more.", bench.rows)


def test_confirmation_rows_are_never_shown() -> None:
    def curious(bench: Bench) -> None:
        assert {*bench.rows} <= {*SELECT}
        bench(PLANTED, [CONFIRM[0]])

    with pytest.raises(ValueError, match="only selection rows"):
        Simulated(planted).search(curious)


def test_it_begins_with_the_best_instruction_so_far() -> None:
    seen: list[str] = []
    for accuracy in (
        lambda trial, row: 0.9 if trial.spec.instruction is None else 0.1,
        lambda trial, row: 0.9 if trial.spec.instruction == "Answer." else 0.1,
    ):
        Simulated(accuracy).search(lambda bench: seen.append(bench.start), instruction="The task's.")
    assert seen == ["The task's.", "Answer."]


def test_an_instruction_that_is_too_long_for_the_model_is_wrong_and_no_candidate() -> None:
    def ask(text: str, rows: Sequence[int]) -> list[RowResult]:
        if text == "long":
            raise GradeError("has a context of 300 tokens")
        return [RowResult(1.0) for _ in rows]

    bench = Bench("start", [1, 2, 3], 6, ask)
    assert [one.score for one in bench("long", [1, 2])] == [0.0, 0.0]
    bench("short", [1, 2, 3])
    assert bench.finished == ["short"] and bench.asked == 3


def test_a_budget_for_no_search_beside_it_names_one_that_is_enough() -> None:
    with pytest.raises(ConfigError, match=r"at least (\d+) are needed .* and an optimiser") as error:
        Simulated(planted).search(proposing(), 100)
    enough = int(str(error.value).split("at least ")[1].split()[0])
    assert Simulated(planted).search(proposing(), enough).plan.cost <= enough // 2


@pytest.mark.full
def test_gepa_finds_it_within_its_budget() -> None:
    pytest.importorskip("gepa", reason="needs the extra gepa: pip install 'finetooth[gepa]'")
    prompts: list[str] = []

    def reflect(prompt: str) -> str:
        prompts.append(prompt)
        return f"Better:\n```\n{PLANTED if len(prompts) > 2 else f'Try {len(prompts)}.'}\n```"

    simulated = Simulated(planted)
    result = simulated.search(Gepa(EXAMPLES, reflect, 1))
    assert result.winner.trial.spec.instruction == PLANTED and result.confirmed
    assert result.optimized is not None and result.optimized[0] <= 450
    assert len(simulated.asked) <= 900 and 3 <= len(prompts) <= 20
    assert all("The expected answer is: red" in prompt and "Answer." not in prompt[:40] for prompt in prompts)
    assert not any(f"{row}?" in prompt for prompt in prompts for row in CONFIRM)


@pytest.mark.full
def test_gepa_ends_where_nothing_is_learned_and_raises_what_the_reflection_raises() -> None:
    pytest.importorskip("gepa", reason="needs the extra gepa: pip install 'finetooth[gepa]'")
    calls: list[str] = []
    for accuracy in (0.0, 1.0, 0.3):
        gepa = Gepa(EXAMPLES, lambda prompt: calls.append(prompt) or "", 1)
        Simulated(lambda trial, row, a=accuracy: a).search(gepa)
        assert gepa.reflections <= 20

    def broken(prompt: str) -> str:
        calls.append(prompt)
        raise ConfigError("no answer")

    calls.clear()
    with pytest.raises(ConfigError, match="no answer"):
        Simulated(planted).search(Gepa(EXAMPLES, broken, 1))
    assert len(calls) == 1


# --- DSPy's COPRO, where the extra is installed ---


def written(instruction: str) -> str:
    """An answer in DSPy's form."""
    parts = {"proposed_instruction": instruction, "proposed_prefix_for_output_field": "A:", "completed": ""}
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in parts.items())


@pytest.mark.full
def test_copro_keeps_what_was_tried_before_an_answer_that_cannot_be_read() -> None:
    pytest.importorskip("dspy", reason="needs the extra dspy: pip install 'finetooth[dspy]'")
    answers = iter(written(f"Good {number}.") for number in range(4))  # one round
    bench = Bench('Answer "yes" or "no"', SELECT, 1000, lambda text, rows: [RowResult(0.5) for _ in rows])
    Copro(lambda prompt: next(answers, "nonsense"))(bench)
    assert bench.finished == [f"Good {number}." for number in range(4)]  # and no stripped copy of the start


@pytest.mark.full
def test_copro_raises_what_goes_wrong_elsewhere_as_it_is() -> None:
    pytest.importorskip("dspy", reason="needs the extra dspy: pip install 'finetooth[dspy]'")

    def broken(text: str, rows: Sequence[int]) -> list[RowResult]:
        raise RuntimeError("the grader broke")

    with pytest.raises(RuntimeError, match="the grader broke"):
        Copro(lambda prompt: written("Good."))(Bench("Answer.", SELECT, 1000, broken))
    with pytest.raises(ConfigError, match="wrote no instruction"):
        Copro(lambda prompt: "nonsense")(Bench("Answer.", SELECT, 1000, broken))
