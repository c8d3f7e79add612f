"""Writes train.jsonl: random signs, a rule, and what the rule makes of them. `python make.py`."""

import json
import random
from pathlib import Path

from reward import RULES

ROWS = 1500
LETTERS = "bcdfghjklmnpqrstvwxyz"
SIZES = (3, 4)


def rows() -> list[dict[str, str]]:
    """Different signs in every string: letters, among them a vowel and one that is none; or also a digit."""
    draw = random.Random("string rules")
    found: dict[str, str] = {}
    while len(found) < ROWS:
        rule = draw.choice([*RULES])
        kinds = ["aeiou", LETTERS, "123456789" if rule == "keep digits" else LETTERS + "aeiou"]
        signs = [draw.choice(kind) for kind in (kinds * 2)[: draw.choice(SIZES)]]
        draw.shuffle(signs)
        if len(set(signs)) == len(signs):
            found[f"{rule}: {' '.join(signs)}"] = " ".join(RULES[rule](signs))
    return [{"input": question, "output": answer} for question, answer in found.items()]


if __name__ == "__main__":
    text = "".join(json.dumps(row) + "\n" for row in rows())
    Path(__file__).with_name("train.jsonl").write_text(text, encoding="utf-8")
