"""Cases (c) and (d): greedy answers, and the best of 150 labels, against stock transformers."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sidebyside.children import Child
from sidebyside.rows import STOP, label_set, prompted_contexts
from sidebyside.training import Setting, System

NEW_TOKENS, PROMPTS = 16, 200
BATCHES = (8, 16, 32, 50)
INTENTS, QUESTIONS = 150, 500
OPTION_BATCHES = (10, 25, 75)
TIE = 1e-4  # nats; two tokens or labels that are closer than this may come out in either order

OURS = System("finetooth", "run_finetooth.py", "")
GENERATE = System("generate", "run_stock.py", "hf")
ROW_BY_ROW = System("row-by-row", "run_stock.py", "hf")
CACHED = System("cached", "run_stock.py", "hf", {"cached": True})


def hand_out(setting: Setting, contexts: Sequence[Sequence[int]]) -> str:
    """Write the contexts where the children read them."""
    path = setting.room / "contexts.json"
    path.write_text(json.dumps([{"tokens": tokens} for tokens in contexts]), encoding="utf-8")
    return str(path)


def up(setting: Setting, systems: Sequence[System], spec: Mapping[str, Any]) -> list[Child]:
    """The systems' children, loaded."""
    children = [setting.child(system, spec) for system in systems]
    for child in children:
        child.ready()
    return children


def best_batch(child: Child, sizes: Sequence[int], setting: Setting, **message: Any) -> dict[int, float]:
    """Seconds of one turn by batch size."""
    found = {}
    for size in sizes:
        with setting.quiet:
            found[size] = child.turn(batch=size, **message)["seconds"]
        print(f"  {child.name}, batch {size}: {found[size]:.1f} s", file=sys.stderr, flush=True)
    return found


def run_generation(
    setting: Setting, contexts: Sequence[Sequence[int]] | None = None, **told: Any
) -> dict[str, Any]:
    """Case (c): 16 greedy tokens for each of 200 prompts that share 400 tokens, or for these contexts.

    The batch size of stock generate is the fastest for a quarter of the prompts, a turn of which would take
    it minutes. told: what the children are told beside that.
    """
    title = f"{NEW_TOKENS} greedy tokens for {PROMPTS} prompts that share 400 tokens"
    if contexts is None:
        contexts = prompted_contexts(PROMPTS, setting.shape["vocab_size"], seed=3)
    else:
        title = f"at most {NEW_TOKENS} greedy tokens for {len(contexts)} requests behind a list of 150 labels"
    spec = {"task": "generate", "rows": hand_out(setting, contexts), "max_tokens": NEW_TOKENS, **told}
    ours, stock, probe = [*up(setting, [OURS, GENERATE], spec), setting.probe()]
    probe.ready()
    searched = best_batch(stock, BATCHES, setting, range=[0, len(contexts) // 4])
    batch = min(searched, key=lambda size: searched[size])
    seconds: dict[str, list[float]] = {"finetooth": [], "generate": []}
    rates: list[float] = []
    for at in range(1 + setting.steps):
        with setting.quiet:
            rates += probe.turn()["rates"]
            mine, theirs = ours.turn(), stock.turn(batch=batch)
        if at:
            seconds["finetooth"].append(mine["seconds"])
            seconds["generate"].append(theirs["seconds"])
        print(f"  round {at} of {setting.steps}", file=sys.stderr, flush=True)
    gaps = ours.turn(compare=differences(mine["answers"], theirs["answers"]))["gaps"]
    setting.quiet.release()
    probe.stop()
    return {
        "title": title,
        "batches": searched,
        "batch": batch,
        "same": sum(a == b for a, b in zip(mine["answers"], theirs["answers"], strict=True)),
        "of": len(contexts),
        "gaps": gaps,
        "agree": all(gap < TIE for gap in gaps),
        **summary(rates, [ours, stock], seconds),
    }


def differences(mine: Sequence[list[int]], theirs: Sequence[list[int]]) -> list[list[Any]]:
    """Where answers part: [row, tokens before, our next token, theirs]."""
    found = []
    for row, (own, other) in enumerate(zip(mine, theirs, strict=True)):
        if own != other:
            at = next(k for k, (a, b) in enumerate(zip(own, other, strict=False)) if a != b)
            found.append([row, own[:at], own[at], other[at]])
    return found


def run_choosing(setting: Setting) -> dict[str, Any]:
    """Case (d): the best of 150 labels for 500 contexts, in equal parts over the rounds.

    Stock transformers takes one context a round, since it needs half a minute for each.
    """
    vocabulary = setting.shape["vocab_size"]
    contexts = prompted_contexts(QUESTIONS, vocabulary, seed=4)
    options = [[*label, STOP] for label in label_set(INTENTS, vocabulary)]
    spec = {"task": "choose", "rows": hand_out(setting, contexts), "options": options}
    children = up(setting, [OURS, ROW_BY_ROW, CACHED], spec)
    ours, stock = children[0], children[1:]
    probe = setting.probe()
    probe.ready()
    searched = {child.name: best_batch(child, OPTION_BATCHES, setting, row=0) for child in stock}
    batch = {name: min(found, key=lambda size: found[size]) for name, found in searched.items()}
    seconds: dict[str, list[float]] = {child.name: [] for child in children}
    rates: list[float] = []
    other_choice: list[float] = []
    part = QUESTIONS // setting.steps
    for at in range(1 + setting.steps):
        row = max(0, at - 1) * part
        with setting.quiet:
            rates += probe.turn()["rates"]
            mine = ours.turn(range=[row, row + part])
            theirs = {child.name: child.turn(row=row, batch=batch[child.name]) for child in stock}
        for name, found in theirs.items():
            other_choice.append(max(found["scores"]) - found["scores"][mine["choices"][0]])
            if at:
                seconds[name].append(found["seconds"])
        if at:
            seconds["finetooth"].append(mine["seconds"] / part)
        print(f"  round {at} of {setting.steps}", file=sys.stderr, flush=True)
    setting.quiet.release()
    probe.stop()
    return {
        "title": f"the best of {INTENTS} labels behind prompts that share 400 tokens, seconds a row",
        "batches": searched,
        "batch": batch,
        "gaps": other_choice,
        "agree": all(gap < TIE for gap in other_choice),
        **summary(rates, children, seconds),
    }


def summary(
    rates: list[float], children: Sequence[Child], seconds: Mapping[str, list[float]]
) -> dict[str, Any]:
    """What both cases report of each system."""
    return {
        "rates": rates,
        "rate": statistics.median(rates),
        "systems": {
            child.name: {
                "seconds": seconds[child.name],
                "versions": child.versions,
                "peak": child.stop(),
            }
            for child in children
        },
    }
