"""A reward model as reward: what it reads, on which scale, and whether it can be fooled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models_for_tests import tiny_model_dir
from reward_models_for_tests import examples, expected, longer, sound, trained
from rollouts_for_tests import LONGEST, ready, reward_settings
from training_for_tests import load

from finetooth.data.render.renderer import Renderer
from finetooth.errors import GradeError
from finetooth.evaluation import graders
from finetooth.evaluation.answer_text import identity
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.runs.rewards import load_reward_model
from finetooth.training.rl import rewards
from finetooth.training.rl.batch import RolloutPrompt
from finetooth.training.rl.reward_model import RewardModelScorer
from finetooth.training.rl.rollout import RolloutTrainer
from finetooth.types import Answer

ROWS = examples()
SAID = ("a", "a fig no", "a fig plum lime yes no")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, a reward model that was taught what to say, and one that was taught length."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model_dir(folder / "model")
    trained(folder / "model", folder / "sound", sound)
    trained(folder / "model", folder / "longer", longer, **{"train.epochs": 4})
    return folder


def scorer(place: Path, name: str = "sound") -> RewardModelScorer:
    return load_reward_model({"name": "reward_model", "model": str(place / name)}, ROWS, identity)[1]


def alone(one: RewardModelScorer) -> rewards.Reward:
    return rewards.Reward((("judge", one, 1.0),))


def test_what_is_scored_is_what_it_was_trained_on(place: Path) -> None:
    one = scorer(place)
    pair = replace(ROWS[0], answers=(Answer("yes fig", "chosen"), Answer("no", "rejected")))
    for text, row in zip(("yes fig", "no"), one.renderer.pair(pair), strict=True):
        found = one._row(ROWS[0], text)
        assert found.tokens.tolist() == row.tokens.tolist()  # type: ignore[union-attr]
        assert row.tokens[-1] == one.renderer.stop_id
        assert "Say what it is." in one.renderer.tokenizer.decode(row.tokens.tolist())


def test_answers_of_a_step_are_scored_together_and_share_their_prompt(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, seen = scorer(place, "longer"), []
    answers = [(row, f"{said} {number}") for row in ROWS[:5] for number, said in enumerate(SAID)]
    answers[7:7] = [(ROWS[2], ""), (ROWS[2], "ends here<|im_end|>")]
    singly = [one(*answer) for answer in answers]
    real = Model.hidden
    monkeypatch.setattr(Model, "hidden", lambda self, tree, at: seen.append(tree) or real(self, tree, at))
    together = alone(one).score_batch(answers)
    assert [score.value for score in together] == pytest.approx([score.value for score in singly], abs=1e-5)
    assert len({round(score.value or 0, 4) for score in together}) > 5
    (tree,) = seen
    context = len(one.renderer.context_row(ROWS[0].context))
    assert len(tree.rows) == 15 and len(tree) < sum(map(len, tree.rows)) - 10 * (context - 2)


def test_what_was_never_learned_is_worth_nothing_or_unknown(place: Path) -> None:
    one = scorer(place)
    for text, words in (
        ("", "the answer is empty"),
        (" \n", "is empty"),
        ("a<|im_start|>b", "special token"),
    ):
        score = one(ROWS[0], text)
        assert score.value == 0.0 and words in score.reason
    long = one(ROWS[0], "apple " * 300)
    assert long.value is None and "the reward model accepts at most 256" in (long.error or "")
    with torch.no_grad():
        for name, weight in one.model.named_trainable().items():
            if reward_head.SCORE in name:
                weight.fill_(torch.nan)
    broken = one(ROWS[0], "yes")
    assert broken.value is None and "its weights are damaged" in (broken.error or "")


@pytest.mark.full
def test_half_is_as_good_as_expected_and_the_size_of_scores_has_no_part(place: Path) -> None:
    one = scorer(place)
    texts = [(row, text) for row in ROWS[:6] for text in (row.target, "no", "fig yes 3")]
    right = [one(row, row.target).value for row in ROWS]
    assert np.mean(right) == pytest.approx(0.5, abs=0.05)
    before = [score.value for score in one.score_batch(texts)]
    assert all(0.02 < value < 0.98 for value in before if value is not None)  # on the slope
    with torch.no_grad():
        for name, weight in one.model.named_trainable().items():
            if reward_head.SCORE in name:
                weight.mul_(50.0)
    after = one.calibrated_on(ROWS, identity)
    assert [score.value for score in after.score_batch(texts)] == pytest.approx(before, abs=1e-4)
    bare = RewardModelScorer(one.model, one.renderer)  # what it would be without the scale
    assert {round(score.value or 0.0, 6) for score in bare.score_batch(texts)} == {0.0, 1.0}


def test_a_cut_answer_is_read_as_a_whole_one(place: Path, tmp_path: Path) -> None:
    load(tmp_path / "policy")
    model, one = ready(tmp_path / "policy"), scorer(place)
    rows = [Renderer(model.tokenizer).context_row(row.context) for row in ROWS[:4]]  # type: ignore[arg-type]
    asked = [RolloutPrompt(row, context) for row, context in zip(ROWS, rows, strict=False)]
    (tmp_path / "train").mkdir()
    for choice in ("keep", "penalise", "mask"):
        config = reward_settings(truncated=choice, resample=0)
        batch = RolloutTrainer(model, asked, alone(one), config, 1, LONGEST, tmp_path).collect(
            0, np.arange(4)
        )
        cut = [at for at, rollout in enumerate(batch.rollouts) if rollout.completion.stop == "length"]
        assert 0 < len(cut) < len(batch.rollouts)
        for at in cut:
            rollout = batch.rollouts[at]
            want = one(asked[rollout.prompt].example, rollout.completion.text).value
            assert rollout.score.value == pytest.approx(want, abs=1e-5)
            given = {"keep": rollout.score.value, "penalise": 0.0, "mask": np.nan}[choice]
            assert batch.reward_R[at] == given or np.isnan([batch.reward_R[at], given]).all()


def test_a_sound_reward_model_passes_and_one_that_was_taught_length_does_not(place: Path) -> None:
    wrong, _ = rewards.audit_reward(alone(scorer(place)), ROWS)
    assert wrong == []
    wrong, doubts = rewards.audit_reward(alone(scorer(place, "longer")), ROWS)
    called = "one repeated word gets at least the reward of the expected answer in 40 of 40 rows"
    assert any(fault.startswith(called) for fault in wrong), wrong
    assert doubts[0].startswith("the expected answer repeated three times")


def test_a_reward_model_that_knows_nothing_is_flagged(place: Path) -> None:
    model = Model.load(place / "model")
    assert model.tokenizer is not None
    reward_head.attach(model.hf)
    none = RewardModelScorer(model, Renderer(model.tokenizer)).calibrated_on(ROWS, identity)
    wrong, _ = rewards.audit_reward(alone(none), ROWS)
    assert any("a copy of the question gets at least the reward" in fault for fault in wrong)


def test_beside_a_grader_expected_answers_need_the_marks_of_the_grader_alone(place: Path) -> None:
    one = scorer(place)
    exact = ("exact", graders.BUILT_IN["exact"], 1.0)
    both = rewards.Reward((exact, ("judge", one, 3.0)))
    score = both(ROWS[0], ROWS[0].target)
    assert score.value == pytest.approx((1 + 3 * (one(ROWS[0], ROWS[0].target).value or 0)) / 4)
    assert score.reason.startswith("exact 1, judge 0.")
    assert rewards.audit_reward(both, ROWS)[0] == []
    never = ("mine", graders.guard(lambda row, text: 0.5), 1.0)
    wrong, _ = rewards.audit_reward(rewards.Reward((never, ("judge", one, 3.0))), ROWS)
    assert wrong[0].startswith("40 of 40 expected answers do not get the full reward")


def test_expected_answers_that_it_cannot_read_are_an_error(place: Path) -> None:
    rows = [replace(row, answers=(Answer("<|im_start|>" + expected(300)),)) for row in ROWS]
    with pytest.raises(GradeError, match=r"^train\.reward: the reward model cannot score any .*special"):
        scorer(place).calibrated_on(rows, identity)
