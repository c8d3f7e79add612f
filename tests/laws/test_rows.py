"""Law 1 for `rows`: padded batches, where they are used, compute what the stock model says of each row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gate import gate
from models_for_tests import assert_same_gradients, families, forest, gradients, stock_logprobs, tiny

from finetooth.model import capability
from finetooth.model import rows as stock_rows
from finetooth.model.api import Model
from finetooth.tree import PrefixTree, Row


@pytest.mark.parametrize("limits", gate([(4096, 512), (40, 512), (4096, 30)], [(40, 512)]))
@pytest.mark.parametrize("family", families())
def test_rows_are_the_stock_model(
    family: str, limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row a call, and in padded batches of any size where the proof allows them."""
    monkeypatch.setattr(stock_rows, "TOKENS", limits[0])
    monkeypatch.setattr(stock_rows, "PLACES", limits[1])
    hf, rows = tiny(family), forest(1, scale=2)
    model = Model(hf, None, "rows", frozenset())
    want_M = stock_logprobs(hf, rows)
    want_M.sum().backward()
    want = gradients(hf)
    proven = capability.rows_can_be_padded(model.hf, Model.wrap)
    assert proven == (family != "phi3-longrope")
    for padded in {False, proven}:
        model.padded = padded
        got_M = model.logprobs(PrefixTree.build(rows))
        got_M.sum().backward()
        assert torch.allclose(got_M, want_M, atol=1e-5)
        assert_same_gradients(gradients(hf), want, 1e-5)


def test_no_row_is_computed_twice() -> None:
    calls: list[tuple[int, ...]] = []
    hf = tiny("bloom")
    hf.register_forward_pre_hook(
        lambda module, args, given: calls.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    model = Model(hf, None, "rows", frozenset())
    long, short = [1, 2, 3, 4, 5, 6], [7, 8]
    tree = PrefixTree.build([Row(t, [0.0] + [1.0] * (len(t) - 1)) for t in (long[:4], short, long, long)])
    model.logprobs(tree)
    model.padded = True
    model.logprobs(tree)
    assert calls == [(1, 6), (1, 4), (1, 2), (2, 6)]


@pytest.mark.parametrize("planted", ["scaled", "mixed", "refused"])
def test_padding_that_changes_a_row_is_not_used(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(tiny("bloom"), None, "rows", frozenset())
    forward = type(model.hf).forward

    def changed(self: Any, attention_mask: Any = None, **given: Any) -> Any:
        out = forward(self, attention_mask=attention_mask, **given)
        if attention_mask is not None and planted == "refused":
            raise TypeError("no mask, please")
        if attention_mask is not None:
            out.logits = out.logits * 1.01 if planted == "scaled" else out.logits.roll(1, 0)
        return out

    monkeypatch.setattr(type(model.hf), "forward", changed)
    assert not capability.rows_can_be_padded(model.hf, Model.wrap)
