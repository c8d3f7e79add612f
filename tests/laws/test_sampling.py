"""Law 11: what is generated is what `logprobs` says; greedy equals the stock model; no batch effects."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_for_tests import (
    TREE_FAMILIES,
    TWO_FAMILIES,
    VOCABULARY,
    families,
    family_param,
    tiny,
    tiny_model_dir,
)
from transformers import AttentionInterface

from finetooth.errors import DataError, ModelError
from finetooth.model.api import Model
from finetooth.model.attention import interface
from finetooth.model.generation import sampling as sampling_module
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
        AttentionInterface.register(interface.NAME, interface.attention)
        hf.set_attn_implementation(interface.NAME)
    return Model(hf, None, kind, STOP)


@pytest.mark.parametrize(
    ("family", "kind"),
    [family_param(family, "segment") for family in TREE_FAMILIES] + [("llama", "dense"), ("gpt-neo", "rows")],
)
@pytest.mark.parametrize(
    ("temperature", "top_p"), [(0.0, 1.0), pytest.param(0.8, 1.0, marks=pytest.mark.full), (0.8, 0.5)]
)
def test_logprobs_of_completions(family: str, kind: str, temperature: float, top_p: float) -> None:
    model, rows = model_of(family, kind), contexts()
    sampling = Sampling(temperature=temperature, max_tokens=12, samples=2, top_p=top_p)
    answers = list(model.generate(rows, sampling))
    assert Counter(answer.row for answer in answers) == dict.fromkeys(range(len(rows)), 2)
    for answer in answers:
        tokens = [*rows[answer.row].tokens, *answer.tokens]
        scored = [0.0] * len(rows[answer.row]) + [1.0] * len(answer.tokens)
        logp_M = model.logprobs(PrefixTree.build([Row(tokens, scored)]), temperature or 1.0)
        assert torch.allclose(logp_M, torch.tensor(answer.logprobs), atol=1e-4)
        assert (answer.stop == "stop") == (answer.tokens[-1] in STOP)
        assert answer.stop == "stop" or len(answer.tokens) == 12


@pytest.mark.parametrize("family", families())
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


@pytest.mark.parametrize("family", families(chosen=TWO_FAMILIES))
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
        choices = list(model.choose(rows, options))
        assert sorted(choice.row for choice in choices) == list(range(len(rows)))
        for choice in choices:
            context = rows[choice.row].tokens
            full = [Row([*context, *o], [0.0] * len(context) + [1.0] * len(o)) for o in options]
            tree = PrefixTree.build(full)
            logp_M = slow.logprobs(tree).double()
            total_R = torch.zeros(len(options), dtype=torch.float64)
            total_R.index_add_(0, torch.tensor(tree.row_M), logp_M)
            assert abs(choice.logprob - float(total_R.max())) < 1e-4
            assert float(total_R[choice.option]) > float(total_R.max()) - 1e-4


def test_the_share_of_a_choice_is_its_probability_among_the_options() -> None:
    model, rows = model_of("llama", "segment"), contexts(1)
    draw = np.random.default_rng(1)
    options = [[*draw.integers(0, 12, size), 7] for size in (1, 2, 3, 4) for _ in range(6)]
    options = [list(option) for option in dict.fromkeys(map(tuple, options))]
    with torch.no_grad():
        alone = {choice.row: choice.option for choice in model.choose(rows, options)}
        for choice in model.choose(rows, options, shares=True):
            assert choice.option == alone[choice.row]
            context = rows[choice.row].tokens
            full = [Row([*context, *o], [0.0] * len(context) + [1.0] * len(o)) for o in options]
            tree = PrefixTree.build(full)
            total_R = torch.zeros(len(options), dtype=torch.float64)
            total_R.index_add_(0, torch.tensor(tree.row_M), model.logprobs(tree).double())
            assert choice.share == pytest.approx(float(total_R.softmax(0)[choice.option]), rel=3e-4)


def test_the_distribution_over_the_options_is_exact() -> None:
    """By brute force: the softmax of all options' total log-probabilities, and the share at a temperature."""
    model, rows = model_of("llama", "segment"), contexts(1)
    draw = np.random.default_rng(2)
    options = [[*draw.integers(0, 12, size), 7] for size in (1, 2, 3, 4) for _ in range(6)]
    options.append(options[-1][:-1])
    options = [list(option) for option in dict.fromkeys(map(tuple, options))]
    with torch.no_grad():
        shares = {
            heat: {one.row: one.share for one in model.choose(rows, options, shares=True, temperature=heat)}
            for heat in (0.5, 4.0)
        }
        for choice in model.choose(rows, options, distribution=True):
            context = rows[choice.row].tokens
            full = [Row([*context, *o], [0.0] * len(context) + [1.0] * len(o)) for o in options]
            tree = PrefixTree.build(full)
            total_R = torch.zeros(len(options), dtype=torch.float64)
            total_R.index_add_(0, torch.tensor(tree.row_M), model.logprobs(tree).double())
            assert choice.logprobs == pytest.approx(total_R.tolist(), abs=1e-4)
            assert choice.share == pytest.approx(float(total_R.softmax(0).max()), rel=1e-4)
            assert choice.option == max(range(len(options)), key=lambda at: choice.logprobs[at])
            for heat, found in shares.items():
                exact = float((total_R / heat).softmax(0).max())
                assert found[choice.row] == pytest.approx(exact, rel=3e-4), heat


def allowed(probability_V: np.ndarray, top_k: int | None, top_p: float) -> np.ndarray:
    """What may be sampled, from the definitions: zero the rest and renormalise, top-k first."""
    order = np.argsort(-probability_V)
    kept_V = np.zeros(len(order))
    likeliest = order[: top_k or None]
    kept_V[likeliest] = probability_V[likeliest]
    kept_V /= kept_V.sum()
    total = 0.0
    for token in order:
        if total >= top_p:
            kept_V[token] = 0.0
        total += kept_V[token]
    return np.asarray(kept_V / kept_V.sum())


@pytest.mark.parametrize("likely", [4, 512])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(5, 1.0), (None, 0.6), (9, 0.5), (0, 0.97), (1, 1.0), (200, 0.1)]
)
def test_top_k_and_top_p(
    top_k: int | None, top_p: float, likely: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling_module, "LIKELY", likely)
    row = contexts()[0]
    with torch.no_grad():
        logits_V = tiny("llama")(torch.tensor(row.tokens)[None]).logits[0, -1].double()
    want_V = allowed((logits_V / 1.5).softmax(-1).numpy(), top_k, top_p)
    count = 3000
    sampling = Sampling(1.5, 1, samples=count, top_k=top_k, top_p=top_p)
    drawn = Counter(a.tokens[0] for a in model_of("llama", "segment").generate([row], sampling))
    assert set(drawn) <= set(np.flatnonzero(want_V).tolist())
    found_V = np.array([drawn[token] for token in range(VOCABULARY)]) / count
    assert (np.abs(found_V - want_V) < 5 * np.sqrt(want_V * (1 - want_V) / count) + 1e-9).all()


def test_rows_and_lanes_sample_the_same() -> None:
    rows = contexts()
    sampling = Sampling(1.0, 10, samples=2, seed=5, top_k=20, top_p=0.9)
    for family in ("llama", "gemma2", "gpt2", "gpt-oss"):
        lanes, slow = (
            {(a.row, a.sample): a.tokens for a in model_of(family, kind).generate(rows, sampling)}
            for kind in ("segment", "rows")
        )
        assert sum(lanes[key] == slow[key] for key in slow) >= len(slow) - 1  # a draw may hit a boundary


def test_stop_strings(tmp_path: Path) -> None:
    model = Model.load(tiny_model_dir(tmp_path))
    assert model.tokenizer is not None
    row = Row([5, 9, 11], [0.0] * 3)
    free = Sampling(1.3, 40, seed=2)
    (whole,) = model.generate([row], free)
    decode = model.tokenizer.decode
    tried = spanning = inside = 0
    for start in range(0, len(whole.text) - 8, 3):
        string = whole.text[start : start + 1 + start % 6]
        if "\ufffd" in string:
            continue
        (cut,) = model.generate([row], replace(free, stop=("never to be found", string)))
        ends = [at for at in range(len(whole.tokens) + 1) if string in decode(whole.tokens[:at])]
        assert cut.tokens == whole.tokens[: ends[0]]
        assert cut.text == whole.text[: whole.text.find(string)]
        assert cut.stop == "string"
        assert len(cut.logprobs) == len(cut.tokens)
        tried += 1
        last = decode(cut.tokens[-1:])
        spanning += string not in last
        inside += string in last and string != last
    assert tried > 8
    assert spanning
    assert inside
    (same,) = model.generate([row], replace(free, stop=("never to be found",)))
    assert (same.text, same.tokens, same.stop) == (whole.text, whole.tokens, whole.stop)


def test_what_cannot_be_is_refused() -> None:
    model = model_of("llama", "segment")
    row = contexts()[0]
    wrong: list[tuple[str, Any]] = [("temperature", -1), ("top_p", 0.0), ("top_p", 1.5), ("top_k", -1)]
    for name, value in [*wrong, ("stop", "text"), ("stop", ("",)), ("samples", 0), ("max_tokens", 0)]:
        with pytest.raises(DataError, match=name):
            model.generate([row], replace(Sampling(), **{name: value}))
    with pytest.raises(ModelError, match="tokenizer"):
        model.generate([row], Sampling(stop=("x",)))
    with pytest.raises(DataError, match="same as option"):
        model.choose([row], [[1, 2], [1, 2]])
    with pytest.raises(DataError, match="no options"):
        model.choose([row], [])
    with pytest.raises(ModelError, match="longer than"):
        model.choose([Row([1] * 256, [0.0] * 256)], [[1, 2], [2]])
    with pytest.raises(ModelError, match="longer than"):
        list(model.generate([Row([1] * 300, [0.0] * 300)], Sampling()))
    with pytest.raises(ModelError, match="vocabulary"):
        list(model.generate([Row([VOCABULARY], [0.0])], Sampling()))
    full = Row([1] * 250, [0.0] * 250)
    (answer,) = model.generate([full], Sampling(max_tokens=50, temperature=1.0, seed=1))
    assert len(answer.tokens) <= 6  # the model has 256 positions
    assert list(model.generate([], Sampling())) == []


@pytest.mark.parametrize(("top_k", "top_p"), [(None, 0.9), (None, 0.5), (150, 1.0)])
def test_ties_are_not_decided_by_other_rows(top_k: int | None, top_p: float) -> None:
    """Rounded logits tie; a flat row in the call, which needs all tokens sorted, changes no other's draw."""
    generator = torch.Generator().manual_seed(0)
    sharp_V = torch.full((151936,), -30.0)
    sharp_V[torch.randperm(151936, generator=generator)[:200]] = torch.randn(200, generator=generator)
    sharp_V = sharp_V.bfloat16().float()
    sampling = Sampling(1.0, 1, top_k=top_k, top_p=top_p)
    for drawn in np.linspace(0.01, 0.99, 12):
        alone, _ = sampling_module.sample_tokens(sharp_V[None], [drawn], sampling)
        both, _ = sampling_module.sample_tokens(
            torch.stack([sharp_V, torch.zeros_like(sharp_V)]), [drawn, 0.3], sampling
        )
        assert alone[0] == both[0]


def test_damaged_weights_give_no_answer() -> None:
    model = model_of("llama", "segment")
    with torch.no_grad():
        model.hf.lm_head.weight[3, 0] = float("nan")
    with pytest.raises(ModelError, match="NaN"):
        list(model.generate(contexts(), Sampling(max_tokens=2)))
    with pytest.raises(ModelError, match="NaN"):
        list(model.choose(contexts(), [[3, 7], [5, 7]]))
