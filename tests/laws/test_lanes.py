"""Law 11, rows that come and go: what is generated does not depend on who is in; memory is bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_for_tests import (
    TREE_FAMILIES,
    TWO_FAMILIES,
    VOCABULARY,
    family_param,
    fastest,
    tiny,
    tiny_model_dir,
)
from transformers import AttentionInterface

from finetooth.model import api, capability
from finetooth.model.api import Model
from finetooth.model.attention import interface
from finetooth.model.generation import contexts, decode, prefixes
from finetooth.model.generation.decode import TreeDecoder
from finetooth.tree import Row
from finetooth.types import Completion, Sampling

STOP = frozenset(range(10))


class Watched(Model):
    """A model that writes down what it computes and what its decoders hold."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.computed: list[int] = []
        self.inside: list[int] = []
        self.held: list[int] = []
        self.waiting: list[int] = []
        self.decoder: TreeDecoder | None = None

    def _decoder(self, *args: Any, **kwargs: Any) -> Any:
        self.decoder = super()._decoder(*args, **kwargs)
        return self.decoder

    def _trunk(self, token_N: Any, *args: Any) -> Any:
        assert self.decoder is not None
        self.computed.append(len(token_N))
        self.inside.append(len(self.decoder._lane_R))
        self.held.append(self.decoder.slots())
        self.waiting.append(len(self.decoder._waiting))
        return super()._trunk(token_N, *args)


def watched(family: str, kind: str = "segment") -> Watched:
    hf = tiny(family)
    model = Watched(hf, None, kind, STOP)
    if kind != "rows":
        AttentionInterface.register(interface.NAME, interface.attention)
        speed = fastest(model, kind) if kind == "segment" else "stock"
        model.set_backend(capability.Backend(kind, speed))
    return model


def prompts(count: int, shared: int, own: tuple[int, int] = (1, 9), seed: int = 0) -> list[Row]:
    """Prompts with nested common beginnings: all share one, every other one a longer one."""
    draw = np.random.default_rng(seed)
    trunk, branch = draw.integers(10, VOCABULARY, shared), draw.integers(10, VOCABULARY, shared // 2)
    rows = []
    for number in range(count):
        tail = draw.integers(10, VOCABULARY, draw.integers(*own))
        tokens = np.concatenate([trunk, branch, tail] if number % 2 else [trunk, tail])
        rows.append(Row(tokens, np.zeros(tokens.size)))
    return rows


def by_key(answers: list[Completion]) -> dict[tuple[int, int], tuple[int, ...]]:
    return {(answer.row, answer.sample): answer.tokens for answer in answers}


def same(left: dict[Any, Any], right: dict[Any, Any], but: int = 1) -> bool:
    """Equal up to `but` answers, which rounding may turn where two tokens are as good."""
    return left.keys() == right.keys() and sum(left[key] != right[key] for key in left) <= but


@pytest.mark.parametrize(
    ("family", "kind"),
    [("llama", "dense"), *(family_param(family, "segment", chosen=TWO_FAMILIES) for family in TREE_FAMILIES)],
)
def test_rows_enter_and_leave(family: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, sampling = prompts(7, 30), Sampling(1.0, 10, samples=2, seed=1)
    want = by_key(list(watched(family, "rows").generate(rows, sampling)))
    monkeypatch.setitem(decode.ROWS, "cpu", 4)
    monkeypatch.setattr(prefixes, "MAX_SEGMENT", 16)
    monkeypatch.setattr(contexts, "PREFILL_TOKENS", {"cpu": 24})
    model = watched(family, kind)
    got = list(model.generate(rows, sampling))
    assert same(by_key(got), want)
    assert len({len(answer.tokens) for answer in got}) > 2, "answers that end at different times"
    assert max(model.inside) == 4
    places = list(zip(model.inside, model.waiting, strict=True))[model.inside.index(4) :]
    assert np.mean([inside for inside, waiting in places if waiting]) > 2.5, "places are filled again"


def test_what_is_shared_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(decode.ROWS, "cpu", 5)
    rows = prompts(30, 120)
    model = watched("llama")
    answers = list(model.generate(rows, Sampling(1.0, 6, samples=3)))
    distinct = {tuple(row.tokens) for row in rows}
    own = sum(len(tokens) - (180 if tokens[120:] and len(tokens) > 180 else 120) for tokens in distinct)
    appended = sum(len(answer.tokens) - 1 for answer in answers)
    assert sum(model.computed) == 180 + own + appended
    assert max(model.held) < 180 + 5 * (16 + 5) + 16, "the shared stretches and five lanes of each kind"


@pytest.mark.full
def test_long_answers_stay_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "KEYS_BYTES", 400 * 512)  # a slot takes 512 bytes
    rows, sampling = prompts(40, 12, own=(1, 40)), Sampling(1.0, 30, seed=3)
    model = watched("llama")
    got = by_key(list(model.generate(rows, sampling)))
    assert model.decoder is not None
    budget = model.decoder._budget
    assert budget == 400
    assert 3 < max(model.inside) < 12, "memory, not the number of rows, is the limit here"
    assert max(model.held) <= budget
    assert not model.decoder._lane_R, "all have left"
    assert same(got, by_key(list(watched("llama", "rows").generate(rows, sampling))))
    monkeypatch.setattr(api, "KEYS_BYTES", 0)
    tall = [Row([11] * 200, [0.0] * 200), rows[0], rows[1]]  # the first takes more than the budget
    assert len(list(model.generate(tall, sampling))) == 3


def test_answers_come_as_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(decode.ROWS, "cpu", 2)
    model = watched("llama")
    answers = model.generate(prompts(12, 10), Sampling(1.0, 20, seed=1))
    next(answers)
    assert len(model.computed) < 22, "the others were not waited for"
    assert torch.is_grad_enabled(), "between answers the caller's mode holds"
    assert not torch.is_inference_mode_enabled()
    assert len(list(answers)) == 11


def test_with_an_adapter(tmp_path: Path) -> None:
    models = [Model.load(tiny_model_dir(tmp_path / kind), attention=kind) for kind in ("segment", "rows")]
    for model in models:
        model.add_lora(4, seed=0)
        for name, weight in model.named_trainable().items():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(len(name)))
    lanes, slow = (by_key(list(model.generate(prompts(8, 60), Sampling(max_tokens=8)))) for model in models)
    assert same(lanes, slow)


@pytest.mark.parametrize("kind", ["segment", "dense"])
def test_prompts_longer_than_the_window(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = prompts(8, 60, own=(1, 40))  # the window is 8
    want = by_key(list(watched("mistral", "rows").generate(rows, Sampling(max_tokens=12))))
    assert same(by_key(list(watched("mistral", kind).generate(rows, Sampling(max_tokens=12)))), want)
    monkeypatch.setattr(prefixes, "MAX_SEGMENT", 5)
    assert same(by_key(list(watched("mistral", kind).generate(rows, Sampling(max_tokens=12)))), want)


def test_searches_enter_and_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = prompts(20, 30)
    draw = np.random.default_rng(0)
    options = [
        list(o) for o in {tuple(draw.integers(10, 16, draw.integers(1, 5)).tolist()) for _ in range(60)}
    ]
    want = {choice.row: choice for choice in watched("qwen2", "rows").choose(rows[:6], options)}
    monkeypatch.setitem(decode.BRANCHING_ROWS, "cpu", 3)
    monkeypatch.setitem(decode.BRANCHING_TOKENS, "cpu", 0)
    model = watched("qwen2")
    got = {choice.row: choice for choice in model.choose(rows, options)}
    assert sorted(got) == list(range(20))
    assert max(model.inside) == 3
    for row, choice in want.items():
        assert got[row].option == choice.option
        assert abs(got[row].logprob - choice.logprob) < 1e-4


def test_stretches_cover_what_is_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "MAX_SEGMENT", 7)
    monkeypatch.setattr(prefixes, "MIN_SAVED", 3)
    draw = np.random.default_rng(0)
    for _ in range(200):
        lists = {tuple(draw.integers(0, 2, draw.integers(1, 14)).tolist()) for _ in range(8)}
        sorted_C = [np.array(tokens) for tokens in sorted(lists)]
        tails = prefixes.tails(sorted_C)
        users: dict[int, int] = {}
        for rank, tail in enumerate(tails):
            line = [*tail.ancestors(), tail]
            assert [part.start for part in line] == [0, *(part.stop for part in line[:-1])]
            assert tail.stop == sorted_C[rank].size
            assert all(0 < len(part) <= 7 for part in line)
            for part in line[:-1]:
                users[id(part)] = users.get(id(part), 0) + 1
                for tokens in sorted_C[part.low : part.high]:
                    same_tokens = tokens[: part.stop] == sorted_C[rank][: part.stop]
                    assert same_tokens.all()
                assert part.low <= rank < part.high
        stretches = {id(part): part for tail in tails for part in tail.ancestors()}
        assert all(part.users == users[key] == part.high - part.low for key, part in stretches.items())
        kept = sum(len(part) for part in stretches.values()) + sum(map(len, tails))
        assert kept <= sum(tokens.size for tokens in sorted_C)
