"""Law 11: what is generated is what `logprobs` says; greedy equals the stock model; no batch effects."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from models_for_tests import CONFIGS, TREE_FAMILIES, VOCABULARY, tiny
from transformers import AttentionInterface

from finetooth.errors import DataError, ModelError
from finetooth.model import attention
from finetooth.model.api import Model
from finetooth.tree import PrefixTree, Row
from finetooth.types import Sampling

STOP = frozenset({7})


def contexts(seed: int = 0) -> list[Row]:
    draw = np.random.default_rng(seed)
    trunk = list(draw.integers(0, VOCABULARY, 9))
    lists = [trunk + list(draw.integers(0, VOCABULARY, size)) for size in (1, 4, 2, 6)]
    lists += [trunk[:5], trunk, list(draw.integers(0, VOCABULARY, 11)), lists[1]]
    return [Row(tokens, [0.0] * len(tokens)) for tokens in lists]


def model_of(family: str, kind: str) -> Model:
    hf = tiny(family)
    if kind != "rows":
        AttentionInterface.register(attention.NAME, attention.attention)
        hf.set_attn_implementation(attention.NAME)
    return Model(hf, None, kind, STOP)


@pytest.mark.parametrize(
    ("family", "kind"),
    [(family, "segment") for family in TREE_FAMILIES] + [("llama", "dense"), ("gpt-neo", "rows")],
)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_logprobs_of_completions(family: str, kind: str, temperature: float) -> None:
    model, rows = model_of(family, kind), contexts()
    answers = list(model.generate(rows, Sampling(temperature=temperature, max_tokens=12, samples=2)))
    assert Counter(answer.row for answer in answers) == dict.fromkeys(range(len(rows)), 2)
    for answer in answers:
        tokens = [*rows[answer.row].tokens, *answer.tokens]
        scored = [0.0] * len(rows[answer.row]) + [1.0] * len(answer.tokens)
        logp_M = model.logprobs(PrefixTree.build([Row(tokens, scored)]), temperature or 1.0)
        assert torch.allclose(logp_M, torch.tensor(answer.logprobs), atol=1e-4)
        assert (answer.stop == "stop") == (answer.tokens[-1] in STOP)
        assert answer.stop == "stop" or len(answer.tokens) == 12


@pytest.mark.parametrize("family", CONFIGS)
def test_greedy_equals_stock_generate(family: str) -> None:
    stock = tiny(family)
    kind = "segment" if family in TREE_FAMILIES else "rows"
    model, rows = model_of(family, kind), contexts()
    for answer in model.generate(rows, Sampling(max_tokens=10)):
        ids = torch.tensor(rows[answer.row].tokens)[None]
        want = stock.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=10,
            do_sample=False,
            eos_token_id=sorted(STOP),
            pad_token_id=0,
        )[0, ids.shape[1] :].tolist()
        for at, (got_token, want_token) in enumerate(zip(answer.tokens, want, strict=False)):
            if got_token != want_token:
                with torch.no_grad():
                    logits = stock(
                        torch.cat([ids[0], torch.tensor(want[:at], dtype=torch.long)])[None]
                    ).logits
                best = logits[0, -1].topk(2).values
                assert float(best[0] - best[1]) < 1e-4, "differs although the best token was clear"
                break
        else:
            assert list(answer.tokens) == want


@pytest.mark.parametrize("kind", ["segment", "rows"])
def test_the_batch_changes_no_sample(kind: str) -> None:
    model, rows = model_of("qwen2", kind), contexts()
    sampling = Sampling(temperature=1.0, max_tokens=8, samples=2, seed=3)
    together = {(a.row, a.sample): a.tokens for a in model.generate(rows, sampling)}
    for index in (0, 3, 6):
        alone = {a.sample: a.tokens for a in model.generate([rows[index]], sampling)}
        assert alone == {sample: together[index, sample] for sample in (0, 1)}
    assert together[1, 0] != together[7, 0], "a copy of a context has its own stream"
    other = {(a.row, a.sample): a.tokens for a in model.generate(rows, Sampling(1.0, 8, 2, seed=4))}
    assert sum(other[key] != together[key] for key in other) > len(other) // 2


def test_samples_follow_the_distribution() -> None:
    model = model_of("llama", "segment")
    row = contexts()[0]
    with torch.no_grad():
        ids = torch.tensor(row.tokens)[None]
        probability_V = (tiny("llama")(ids).logits[0, -1] / 1.5).softmax(-1).numpy()
    count = 4000
    drawn = Counter(a.tokens[0] for a in model.generate([row], Sampling(1.5, 1, samples=count)))
    found_V = np.array([drawn[token] for token in range(VOCABULARY)]) / count
    sigma_V = np.sqrt(probability_V * (1 - probability_V) / count)
    assert (np.abs(found_V - probability_V) < 5 * sigma_V + 1e-4).all()


@pytest.mark.parametrize("family", CONFIGS)
def test_choose_is_the_exact_argmax(family: str) -> None:
    kind = "segment" if family in TREE_FAMILIES else "rows"
    model, rows = model_of(family, kind), contexts(1)
    draw = np.random.default_rng(0)
    options = [[*draw.integers(0, 12, size), 7] for size in (1, 2, 2, 3, 3, 4, 5, 1) for _ in range(4)]
    options = [list(option) for option in dict.fromkeys(map(tuple, options))]
    options.append(options[0][:-1])  # a prefix of another option is an option too
    options = [list(option) for option in dict.fromkeys(map(tuple, options))]
    slow = Model(tiny(family), None, "rows", STOP)
    with torch.no_grad():
        for choice in model.choose(rows, options):
            context = rows[choice.row].tokens
            full = [Row([*context, *o], [0.0] * len(context) + [1.0] * len(o)) for o in options]
            tree = PrefixTree.build(full)
            logp_M = slow.logprobs(tree).double()
            total_R = torch.zeros(len(options), dtype=torch.float64)
            total_R.index_add_(0, torch.tensor(tree.row_M), logp_M)
            assert abs(choice.logprob - float(total_R.max())) < 1e-4
            assert float(total_R[choice.option]) > float(total_R.max()) - 1e-4


def test_many_rounds_grow_the_slots() -> None:
    model, rows = model_of("llama", "segment"), contexts()
    long = {a.row: a.tokens for a in model.generate(rows, Sampling(max_tokens=90))}
    slow = {a.row: a.tokens for a in model_of("llama", "rows").generate(rows, Sampling(max_tokens=90))}
    assert max(map(len, slow.values())) > 40
    assert sum(long[row] == slow[row] for row in slow) >= len(slow) - 1  # a tie within rounding may part ways


def test_what_cannot_be_is_refused() -> None:
    model = model_of("llama", "segment")
    row = contexts()[0]
    with pytest.raises(DataError, match="temperature"):
        list(model.generate([row], Sampling(temperature=-1)))
    with pytest.raises(DataError, match="same as option"):
        list(model.choose([row], [[1, 2], [1, 2]]))
    with pytest.raises(ModelError, match="longer than"):
        list(model.generate([Row([1] * 300, [0.0] * 300)], Sampling()))
    with pytest.raises(ModelError, match="vocabulary"):
        list(model.generate([Row([VOCABULARY], [0.0])], Sampling()))
    full = Row([1] * 250, [0.0] * 250)
    (answer,) = model.generate([full], Sampling(max_tokens=50, temperature=1.0, seed=1))
    assert len(answer.tokens) <= 6  # the model has 256 positions
    assert list(model.generate([], Sampling())) == []
