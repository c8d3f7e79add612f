"""Scores of all labels, and their calibration, against brute force on a real tiny model."""

import numpy as np
import pytest
import torch
from models_for_tests import tiny_model_dir

from finetooth.data.render.renderer import Renderer
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.prompting import label_scores
from finetooth.evaluation.prompting.label_scores import (
    Effort,
    batch_offsets,
    contextual_offsets,
    label_logprobs,
    shares,
)
from finetooth.evaluation.prompts import Prompt, zero_shot
from finetooth.model.api import Model
from finetooth.tree import PrefixTree, Row
from finetooth.types import Answer, Example, Message, Sampling

LABELS = ("left", "right", "straight on", "right turn")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(tiny_model_dir(tmp_path_factory.mktemp("model")), device="cpu", seed=1)


def asked(model: Model, prompt: Prompt) -> ModelCandidate:
    renderer = Renderer(model.tokenizer, "chat")
    return ModelCandidate("p", model, renderer, prompt, Sampling(max_tokens=4), LABELS)


ROWS = [Example(f"{i}", (Message("user", f"which way {i}?"),), (Answer("left"),)) for i in range(7)]


def brute_force(model: Model, context: Row, options: list[tuple[int, ...]]) -> list[float]:
    scores = []
    for ids in options:
        row = Row([*context.tokens, *ids], [0.0] * len(context) + [1.0] * len(ids))
        with torch.inference_mode():
            scores.append(float(model.logprobs(PrefixTree.build([row])).sum()))
    return scores


@pytest.mark.parametrize("together", [1024, 9])
def test_every_label_after_every_context_is_as_by_brute_force(
    model: Model, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_scores, "ROWS", together)
    candidate = asked(model, zero_shot(LABELS))
    contexts = [candidate.context(row) for row in [*ROWS, ROWS[0]]]  # one context twice
    options = [candidate.renderer.answer_ids(contexts[0][0], label) for label in LABELS]
    effort = Effort()
    found = label_logprobs(model, [row for _, row in contexts], options, effort)
    expected = [brute_force(model, row, options) for _, row in contexts]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    lengths = sum(len(row) + len(ids) for _, row in contexts for ids in options)
    assert effort.tokens == lengths and effort.computed < lengths / 3


def test_the_answer_with_offsets_is_the_label_with_the_best_sum(model: Model) -> None:
    plain = asked(model, zero_shot(LABELS))
    contexts = [plain.context(row) for row in ROWS]
    options = [plain.renderer.answer_ids(contexts[0][0], label) for label in LABELS]
    logp_RL = label_logprobs(model, [row for _, row in contexts], options)
    offset_L = batch_offsets(logp_RL)
    offsets = dict(zip(LABELS, offset_L.tolist(), strict=True))
    shifted = asked(model, Prompt("p", LABELS, offsets=offsets))
    answers = {one.index: one for one in shifted.answers([shifted.context(row) for row in ROWS], True)}
    expected = (logp_RL + offset_L).argmax(axis=1)
    assert [answers[at].text for at in range(7)] == [LABELS[at] for at in expected]
    assert answers[0].confidence == pytest.approx(shares(logp_RL + offset_L)[0].max(), abs=1e-5)
    unshifted = {one.index: one.text for one in plain.predict(ROWS)}
    assert [unshifted[at] for at in range(7)] == [LABELS[at] for at in logp_RL.argmax(axis=1)]


def test_a_large_offset_decides(model: Model) -> None:
    shifted = asked(model, Prompt("p", LABELS, offsets={"straight on": 1e3}))
    assert {one.text for one in shifted.predict(ROWS)} == {"straight on"}


def test_contextual_calibration_makes_content_free_questions_undecided() -> None:
    score_RL = np.log([[0.7, 0.2, 0.1]])
    calibrated = shares(score_RL + contextual_offsets(score_RL))
    np.testing.assert_allclose(calibrated, 1 / 3)


def test_batch_calibration_removes_a_planted_bias() -> None:
    generator = np.random.default_rng(0)
    truth_R = generator.integers(0, 4, 400)
    signal_RL = generator.normal(0, 1, (400, 4)) + 2.0 * np.eye(4)[truth_R]
    biased_RL = signal_RL + np.array([6.0, 0.0, -3.0, 1.0])
    right = [(scores.argmax(axis=1) == truth_R).mean() for scores in (signal_RL, biased_RL)]
    fitted = batch_offsets(biased_RL[:200])
    calibrated = ((biased_RL + fitted)[200:].argmax(axis=1) == truth_R[200:]).mean()
    assert right[1] < 0.4 and calibrated > right[0] - 0.05
    np.testing.assert_allclose((biased_RL[:200] + fitted).mean(axis=0).std(), 0, atol=1e-9)
