"""Model candidates on a real tiny model: the same answers twice, exact label choice, contexts that fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from models_for_tests import tiny_model_dir
from transformers import AutoModelForCausalLM

from finetooth.data.render.renderer import Renderer
from finetooth.errors import GradeError
from finetooth.evaluation.candidates import BOUNDARY, ModelCandidate
from finetooth.evaluation.graders import BUILT_IN
from finetooth.evaluation.prompts import Prompt, few_shot, zero_shot
from finetooth.evaluation.runner import evaluate
from finetooth.model.api import Model
from finetooth.tree import PrefixTree, Row
from finetooth.types import Answer, Example, Message, Sampling

LABELS = ("left", "right", "straight on", "right turn")
GREEDY = Sampling(temperature=0.0, max_tokens=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(tiny_model_dir(tmp_path_factory.mktemp("model")), device="cpu", seed=1)


def rows(n: int, words: int = 2) -> list[Example]:
    question = "which way " * words
    return [
        Example(f"id{i}", (Message("user", f"{question} {i}?"),), (Answer(LABELS[i % 4]),)) for i in range(n)
    ]


def candidate(model: Model, prompt: Prompt, template: str = "chat", **more: object) -> ModelCandidate:
    renderer = Renderer(model.tokenizer, template)
    return ModelCandidate(prompt.name, model, renderer, prompt, GREEDY, **more)


@pytest.mark.parametrize("template", ["chat", "instruction", "plain"])
def test_the_chosen_label_is_the_most_likely_with_its_stop_token(model: Model, template: str) -> None:
    examples = rows(6)
    asked = candidate(model, zero_shot(LABELS), template, labels=LABELS)
    answers = {answer.index: answer for answer in asked.predict(examples)}
    assert sorted(answers) == list(range(6))
    for index, example in enumerate(examples):
        messages = zero_shot(LABELS).messages(example)
        context = asked.renderer.context_row(messages).tokens.tolist()
        scores = []
        for label in LABELS:
            ids = asked.renderer.answer_ids(messages, label)
            weight = [0.0] * len(context) + [1.0] * len(ids)
            with torch.inference_mode():
                scores.append(float(model.logprobs(PrefixTree.build([Row([*context, *ids], weight)])).sum()))
        best = int(np.argmax(scores))
        assert answers[index].text == LABELS[best]
        assert answers[index].prompt_tokens == len(context)
        assert answers[index].completion_tokens == len(asked.renderer.answer_ids(messages, LABELS[best]))


@pytest.mark.parametrize("template", ["chat", "instruction", "plain"])
def test_contexts_that_end_alike_have_the_same_answer_ids(model: Model, template: str) -> None:
    renderer = Renderer(model.tokenizer, template)
    seen: dict[tuple[object, ...], set[tuple[int, ...]]] = {}
    for text in ["a", "so", "left", "5", "(", "which way?", "the quick brown", "Paris,", "Guten ", "a\n"]:
        messages = (Message("user", text),)
        tail = tuple(renderer.context_row(messages).tokens[-BOUNDARY:].tolist())
        for label in LABELS:
            seen.setdefault((tail, label), set()).add(renderer.answer_ids(messages, label))
    assert all(len(ids) == 1 for ids in seen.values())


def test_written_answers_are_counted_and_cut_ones_said(model: Model) -> None:
    examples = rows(5)
    result = evaluate(examples, [candidate(model, Prompt("tuned"))], BUILT_IN["exact"], "exact", "validation")
    entry = result.summary["candidates"][0]
    assert entry["truncated"] == sum(record.stop == "length" for record in result.records)
    assert all(record.completion_tokens == 6 for record in result.records if record.stop == "length")
    renderer = Renderer(model.tokenizer)
    assert [record.prompt_tokens for record in result.records] == [
        len(renderer.context_row(example.context)) for example in examples
    ]


def test_evaluation_equals_itself_twice_with_dropout_left_on(tmp_path: Path) -> None:
    model = Model.load(tiny_model_dir(tmp_path), device="cpu", seed=1)
    model.add_lora(rank=4, seed=1)
    planted = [module for name, module in model.hf.named_modules() if name.endswith("q_proj")]
    for module in planted:
        module.register_forward_hook(
            lambda module, given, out: torch.nn.functional.dropout(out, 0.5, module.training)
        )
    model.train()
    tree = PrefixTree.build([Row(list(range(1, 30)), [0.0] + [1.0] * 28)])
    with torch.inference_mode():
        noise = [model.logprobs(tree) for _ in range(2)]
    assert not torch.equal(*noise)  # the bug is planted: in training mode the model differs from itself
    results = [
        evaluate(
            rows(6),
            [
                candidate(model, zero_shot(LABELS), labels=LABELS),
                candidate(model, Prompt("tuned")),
            ],
            BUILT_IN["exact"],
            "exact",
            "validation",
        )
        for _ in range(2)
    ]
    assert results[0] == results[1]
    assert model.hf.training
    model.eval()
    with model.eval_mode():
        assert not model.hf.training
    assert not model.hf.training


def test_the_mode_is_restored_when_answering_fails(model: Model) -> None:
    model.train()
    with pytest.raises(RuntimeError), model.eval_mode():
        raise RuntimeError
    assert model.hf.training
    model.eval()


def test_demonstrations_that_do_not_fit_are_dropped_and_said(model: Model) -> None:
    short, long = rows(3), rows(2, words=20)
    prompt = few_shot(4, rows(12, words=7), LABELS, seed=1)
    asked = candidate(model, prompt, labels=LABELS)
    answers = list(asked.predict([*short, *long]))
    assert len(answers) == 5
    assert max(answer.prompt_tokens for answer in answers) < model.max_tokens
    assert len(asked.notes) == 1
    assert "rows had fewer than 4 demonstrations in their prompt (the fewest:" in asked.notes[0]


def test_labels_that_do_not_fit_are_left_out_and_said(model: Model) -> None:
    many = tuple(f"label number {i}" for i in range(60))
    asked = candidate(model, zero_shot(many), labels=many)
    assert len(list(asked.predict(rows(3)))) == 3
    assert asked.notes == [
        "3 of 3 prompts did not list the labels, which do not fit: the model takes 256 tokens"
    ]


def test_a_question_longer_than_the_model_is_refused_or_cut_from_the_left(model: Model) -> None:
    examples = [*rows(2), *rows(1, words=100)]
    asked = candidate(model, Prompt("tuned"), labels=LABELS)
    with pytest.raises(GradeError, match=r"row id0 has a context of \d+ tokens; at most \d+ leave room"):
        next(asked.predict(examples))
    cut = candidate(model, Prompt("tuned"), labels=LABELS, overlong="cut")
    assert len(list(cut.predict(examples))) == 3
    assert cut.notes == ["1 of 3 contexts were truncated on the left: the model takes 256 tokens"]
    whole = cut.renderer.context_row(examples[2].context).tokens
    kept = cut._contexts(examples)[2][1].tokens
    assert kept[:2].tolist() == whole[:2].tolist()
    assert kept[-40:].tolist() == whole[-40:].tolist()


def test_likelihoods_are_those_of_the_stock_model_row_by_row(model: Model, monkeypatch) -> None:
    train = rows(6)
    asked = candidate(model, few_shot(2, train, (), 1))
    examples = [*rows(5), Example("none", (Message("user", "which?"),), (Answer("a <|im_end|> b"),))]
    monkeypatch.setattr("finetooth.evaluation.candidates.BATCH", 300)  # several trees
    stock = AutoModelForCausalLM.from_pretrained(model.name)
    found = list(asked.answer_logprobs(examples))
    assert isinstance(found[5], str)
    for example, logp in zip(examples[:5], found[:5], strict=True):
        messages = asked.prompt.messages(example)
        context = asked.renderer.context_row(messages).tokens.tolist()
        ids = list(asked.renderer.answer_ids(messages, example.target))
        with torch.no_grad():
            logits = stock(input_ids=torch.tensor([[*context, *ids]])).logits[0].log_softmax(-1)
        alone = [float(logits[len(context) + at - 1, token]) for at, token in enumerate(ids)]
        assert logp == pytest.approx(alone, abs=1e-4)
        assert ids[-1] in model.stop_ids  # the end of the answer is part of how likely it is
    assert asked.notes == []


def test_a_row_that_the_model_cannot_take_has_no_likelihood(model: Model) -> None:
    asked = candidate(model, zero_shot())
    long = Example("long", (Message("user", "which?"),), (Answer("left " * 400),))
    first, second = asked.answer_logprobs([long, rows(1)[0]])
    assert "too many after its context" in first
    assert len(second) > 1
