"""Write train.jsonl: rules with random characters, and the output of each. `python make.py`."""

import json
import random
from pathlib import Path

from reward import RULES

ROWS = 2400
SIZES = (3, 4)
KINDS = ("aeiou", "bcdfghjklmnpqrstvwxyz", "123456789")


def rows() -> list[dict[str, str]]:
    """Distinct strings of 3 or 4 different characters, among them a vowel, a consonant and a digit."""
    draw = random.Random("string rules")
    found: dict[str, str] = {}
    while len(found) < ROWS:
        rule, size = draw.choice([*RULES]), draw.choice(SIZES)
        signs = [draw.choice(kind) for kind in (*KINDS, *draw.choices(KINDS, k=size - 3))]
        draw.shuffle(signs)
        if len(set(signs)) == size:
            answer = " ".join(RULES[rule](sign) for sign in signs)
            found[f"{rule}: {' '.join(signs)}"] = " ".join(answer.split())
    return [{"input": question, "output": answer} for question, answer in found.items()]


if __name__ == "__main__":
    text = "".join(json.dumps(row) + "\n" for row in rows())
    Path(__file__).with_name("train.jsonl").write_text(text, encoding="utf-8")
