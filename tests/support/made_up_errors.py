"""An invented analysis of errors, as errors.json has it, of any size; and texts that want to act."""

from __future__ import annotations

import random
from typing import Any

LABELS = ["billing", "refund", "card_arrival", "pin_blocked", "transfer_timing", "verify_identity"]
QUESTIONS = [
    "When will the new card that I ordered last week arrive? I am travelling on Friday.",
    "I put money back and it still does not show. What happened to the refund?",
    "My PIN does not work any more, it says blocked after three tries.",
    "Why was I charged 14.20 when the receipt in the shop said 12.40?",
    "The app wants a picture of my passport again. How do I prove who I am? " + "It asked twice. " * 30,
]
TAGS = [
    ("confusion", "One label for another", "another label of the list than expected"),
    ("near-label", "Nearly a label", "a label in another spelling"),
    ("off-list", "Not a label", "no label of the list"),
    ("number", "Number not in the question", "a number that the question does not support"),
    ("too-long", "Much too long", "longer than 95% of the expected answers, and half as long again"),
]
FLIPS = ("fixed", "broken", "still wrong", "still right")
HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<!--<script>",
    "]]></style></textarea></title><svg onload=document.title='owned'>",
    "a\u2028b\u2029c",
    "lone \ud800 and \udfff surrogates",
    "nul \x00 bell \x07 escape \x1b[31mred",
    "{{ 7*7 }} {% raw %} ${7*7} &lt;b&gt; &amp; \"' `",
    "\u202egnirts ,txet",
    "javascript:document.title='owned'",
]


def made_up_errors(n: int = 60, wrong: float = 0.3, seed: int = 0, against: bool = True) -> dict[str, Any]:
    """An analysis of `n` rows whose parts agree with each other."""
    draw = random.Random(seed)
    rows = [_row(draw, index, wrong, against) for index in range(n)]
    bad = [row for row in rows if row["wrong"]]
    clusters = _clusters(bad)
    for index, cluster in enumerate(clusters):
        for row in bad:
            row["cluster"] = index if row["id"] in cluster["ids"] else row["cluster"]
    flips = {kind: sum(row["flip"] == kind for row in rows) for kind in FLIPS} if against else None
    return {
        "run": "runs/support-triage",
        "against": "runs/support-triage-1" if against else None,
        "n": n,
        "wrong": len(bad),
        "grader": "label",
        "rows": rows,
        "tags": [_tag(rows, *tag) for tag in TAGS],
        "issues": _issues(bad) if against else [],
        "clusters": clusters,
        "confusions": _confusions(rows, bad),
        "slices": {"tested": 84, "found": _slices(rows)},
        "training": [
            {"id": f"train-{k}", "kind": kind, "words": words, "file": "tickets.csv", "line": 40 + k}
            for k, (kind, words) in enumerate(
                [
                    ("label noise", "its label is refund; its 9 nearest rows say billing"),
                    ("contradiction", "the same question as row 31, with another answer"),
                ]
            )
        ],
        "flips": flips,
        "asked_again": {"rows": n, "changed": n // 150} if against else None,
    }


def _row(draw: random.Random, index: int, share: float, against: bool) -> dict[str, Any]:
    want = draw.choice(LABELS)
    wrong = draw.random() < share
    got = want if not wrong else draw.choice([label for label in LABELS if label != want])
    text, tags = got, []
    if wrong:
        name = draw.choice([tag[0] for tag in TAGS])
        texts = {"near-label": f"{want}s", "off-list": f"Dear customer, {got} it is", "number": f"{got} 2024"}
        text = texts.get(name, got)
        start, end = (len(got) + 1, len(text)) if name == "number" else (None, None)
        tags = [{"tag": name, "words": f"{want} expected, {text} answered", "start": start, "end": end}]
        if draw.random() < 0.3:
            tags.append({"tag": "too-long", "words": f"{len(text)} characters", "start": 0, "end": 4})
            tags = tags if tags[0]["tag"] != "too-long" else tags[:1]
    was_wrong = draw.random() < (0.75 if wrong else 0.08)
    before = {"text": draw.choice(LABELS) if was_wrong else want, "score": float(not was_wrong)}
    flip = FLIPS[2 * (was_wrong == wrong) + (not was_wrong)]
    return {
        "id": f"validation-{index:05}",
        "question": f"{QUESTIONS[index % len(QUESTIONS)]} (ticket {index})",
        "want": want,
        "text": text,
        "score": float(not wrong),
        "wrong": wrong,
        "stop": "length" if draw.random() < 0.02 else "stop",
        "confidence": round(draw.uniform(0.2, 0.9) if wrong else draw.uniform(0.5, 1), 3),
        "file": "tickets.csv",
        "line": index + 2,
        "before": before if against else None,
        "flip": flip if against else None,
        "tags": tags,
        "cluster": None,
    }


def _tag(rows: list[dict[str, Any]], tag: str, title: str, about: str) -> dict[str, Any]:
    having = [row for row in rows if any(one["tag"] == tag for one in row["tags"])]
    unjudged = {"confirmed": 0, "rejected": 0, "precision": None, "low": None, "high": None, "others": 0}
    unjudged["headline"] = True
    counts = {"rows": len(having), "wrong": sum(row["wrong"] for row in having)}
    return {"tag": tag, "title": title, "about": about, **counts, **unjudged}


def _issues(bad: list[dict[str, Any]]) -> list[dict[str, Any]]:
    states = ["new", "persisting", "regressed", "flickering", "fixed"]
    found = []
    for (tag, _, _), state in zip(TAGS, states, strict=True):
        ids = [row["id"] for row in bad if any(one["tag"] == tag for one in row["tags"])]
        now = 0 if state == "fixed" else len(ids)
        before = {"new": 0, "fixed": 11, "regressed": len(ids) // 2}.get(state, len(ids) + 1)
        sure = state in ("fixed", "regressed")
        words = "proven by the paired test" if sure else f"n={len(ids)}, not proven"
        numbers = {"p": 0.0004, "adjusted": 0.002} if sure else {"p": None, "adjusted": None}
        issue = {"tag": tag, "slice": "language is de" if state == "regressed" else "", "rows": 40}
        found.append({**issue, "now": now, "before": before, "state": state, "words": words, **numbers})
        found[-1]["ids"] = ids
    return found


def _clusters(bad: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for kind, title in enumerate(("card, arrive, travelling", "money back, refund, show")):
        ids = [row["id"] for row in bad if row["question"].startswith(QUESTIONS[kind])]
        found.append(
            {"title": title, "rows": len(ids), "ids": ids, "typical": ids[:3], "words": title.split(", ")}
        )
    return [cluster for cluster in found if cluster["rows"]]


def _confusions(rows: list[dict[str, Any]], bad: list[dict[str, Any]]) -> list[dict[str, Any]]:
    cells: dict[tuple[str, str], list[str]] = {}
    for row in bad:
        if row["text"] in LABELS and row["text"] != row["want"]:
            cells.setdefault((row["want"], row["text"]), []).append(row["id"])
    found = []
    for (want, got), ids in sorted(cells.items(), key=lambda item: -len(item[1]))[:8]:
        of = sum(row["want"] == want for row in rows)
        found.append({"want": want, "got": got, "rows": len(ids), "of": of, "low": 0.02, "high": 0.4})
        found[-1] |= {"train_noise": 3 if len(found) == 1 else None, "ids": ids}
    return found


def _slices(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ids = [row["id"] for row in rows if row["question"].startswith(QUESTIONS[4])]
    one = {"conditions": ["more than 60 words in the question", "language is de"], "rows": len(ids)}
    one |= {"units": len(ids), "error": 0.61, "low": 0.48, "high": 0.72, "others": 0.24, "p": 0.0003}
    return [{**one, "adjusted": 0.031, "ids": ids}]
