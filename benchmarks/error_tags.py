"""How often each tag of error analysis is wrong, and what it finds: python benchmarks/error_tags.py.

False alarms: the expected answers of four public sets as if a model had given them, from rows that do not
tell what is expected, so that no tag can look it up. The tags know one half of each set as training rows; the
other half is reported, with Wilson intervals at 95%. --tune shows the first half, on which the tags were
tuned: what they know is then its even rows. Recall: errors that are planted in the reported half.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src")]

from finetooth.analysis.answered import AnsweredRow  # noqa: E402
from finetooth.analysis.tags import TAGS, Evidence, TagContext, gold_rows, silent_tags, tag_rows  # noqa: E402
from finetooth.quality.intervals import wilson  # noqa: E402
from finetooth.types import Answer, Example, Message  # noqa: E402

DATA = Path(os.environ.get("FINETOOTH_DATA") or HERE.parents[1] / "shared" / "data")
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "As an AI language model, I do not have personal opinions.",
    "I cannot provide this information.",
    "Unfortunately, I am unable to assist with this request.",
    "I don't have enough information to answer.",
    "Sorry, I can't answer that question.",
)
Pair = tuple[str, str]  # input, answer


def dialogues() -> Iterator[Pair]:
    """Turns of the assistant in sgd_sample: the dialogue so far and what is to be said, and the words."""
    for file in sorted((DATA / "sgd_sample").glob("*/dialogues_*.json")):
        for dialogue in json.loads(file.read_text(encoding="utf-8")):
            before: list[str] = []
            for turn in dialogue["turns"]:
                if turn["speaker"] == "SYSTEM":
                    acts = [
                        f"{act['act']} {act['slot']}: {', '.join(act['values'])}"
                        for frame in turn["frames"]
                        for act in frame["actions"]
                    ]
                    yield "\n".join([*before, f"({'; '.join(acts)})"]), turn["utterance"]
                before.append(f"{turn['speaker'].title()}: {turn['utterance']}")


def data_to_text() -> Iterator[Pair]:
    """Meaning representations of e2e_cleaned and the sentences that say them."""
    with (DATA / "e2e_cleaned" / "devel-fixed.no-ol.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["mr"], row["ref"]


def questions() -> Iterator[Pair]:
    """Paragraphs with questions of xquad_en, and the answers."""
    found = json.loads((DATA / "xquad_en" / "xquad.en.json").read_text(encoding="utf-8"))
    for article in found["data"]:
        for paragraph in article["paragraphs"]:
            for one in paragraph["qas"]:
                yield f"{paragraph['context']}\n\n{one['question']}", one["answers"][0]["text"]


def instructions() -> Iterator[Pair]:
    """Instructions of dolly_flan_6400 and the answers of people."""
    file = DATA / "dolly_flan_6400" / "google_flan-t5-xl_decode_output.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield row["instruction"], row["text"]


SETS: dict[str, Callable[[], Iterator[Pair]]] = {
    "sgd_sample": dialogues,
    "e2e_cleaned": data_to_text,
    "xquad_en": questions,
    "dolly_flan_6400": instructions,
}


def halves(name: str) -> tuple[list[Example], list[Example]]:
    """The rows of a set in two halves; rows with one input stand in the same."""
    sides: tuple[list[Example], list[Example]] = ([], [])
    for at, (asked, answer) in enumerate(SETS[name]()):
        if answer.strip():
            side = hashlib.sha256(asked.encode()).digest()[0] % 2
            sides[side].append(Example(f"{name}-{at}", (Message("user", asked),), (Answer(answer),)))
    for side in sides:
        random.Random(1).shuffle(side)
    return sides


def typo(text: str, draw: random.Random) -> str | None:
    """The text with one slip inside a lower-case word of six letters or more."""
    words = list(re.finditer(r"(?<![\w'’-])[a-z]{6,}(?![\w'’-])", text))
    if not words:
        return None
    word = draw.choice(words)
    letters, at = list(word[0]), draw.randrange(1, len(word[0]) - 2)
    kind = draw.randrange(4)
    if kind == 0:
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    elif kind == 1:
        del letters[at]
    elif kind == 2:
        letters.insert(at, draw.choice("abcdefghijklmnopqrstuvwxyz"))
    else:
        letters[at] = draw.choice("abcdefghijklmnopqrstuvwxyz".replace(letters[at], ""))
    changed = "".join(letters)
    return text[: word.start()] + changed + text[word.end() :] if changed != word[0] else None


def other_digit(text: str, draw: random.Random) -> str | None:
    """The text with one digit replaced; None without a number of two digits or more."""
    places = [at for number in re.finditer(r"\d[\d,.]*\d", text) for at in range(*number.span())]
    places = [at for at in places if text[at].isdigit()]
    if not places:
        return None
    at = draw.choice(places)
    return text[:at] + draw.choice("123456789".replace(text[at], "")) + text[at + 1 :]


def loop(text: str, draw: random.Random) -> str:
    """The text with its last one to eight words said over and over."""
    words = text.split()
    return " ".join(words + words[-min(len(words), draw.randint(2, 8)) :] * draw.randint(3, 6))


def other_name(text: str, draw: random.Random) -> str | None:
    """The text with a name in it replaced by a made-up one."""
    spans = list(re.finditer(r"(?<=[a-z,] )[A-Z][a-z]{3,}\b", text))
    if not spans:
        return None
    made = "".join(draw.choice(("Bra", "zon", "kel", "vis", "tor", "mun")) for _ in range(3)).title()
    one = draw.choice(spans)
    return text[: one.start()] + made + text[one.end() :]


PLANTS: dict[str, Callable[[str, random.Random], str | None]] = {
    "misspelling": typo,
    "unsupported-number": other_digit,
    "unsupported-entity": other_name,
    "repetition": loop,
    "refusal": lambda text, draw: draw.choice(REFUSALS),
}


def planted(rows: Sequence[Example], name: str, seed: int = 0) -> list[AnsweredRow]:
    """Answers with one planted error each, of rows that do tell what is expected."""
    draw = random.Random(seed)
    made = [(row, PLANTS[name](row.target, draw)) for row in rows]
    return [AnsweredRow(row, text, 0.0) for row, text in made if text is not None]


def shown(name: str, found: list[tuple[AnsweredRow, Evidence]], most: int) -> None:
    """Some false alarms, to be read."""
    for row, evidence in random.Random(3).sample(found, min(most, len(found))):
        print(f"    [{name}] {evidence.words} <- {row.text[:160]!r}")


def measured(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Of one set: tag -> false alarms, and planted errors that were found."""
    first, second = halves(name)
    train, judged = (first[::2], first[1::2]) if given.tune else (first, second)
    context = TagContext.of(train, ())
    silent = silent_tags(context)
    rows = list(gold_rows(judged))
    start = time.process_time()
    found: dict[str, list[tuple[AnsweredRow, Evidence]]] = defaultdict(list)
    for row, tags in zip(rows, tag_rows(rows, context), strict=True):
        for tag, evidence in tags.items():
            found[tag].append((row, evidence))
    seconds = time.process_time() - start
    print(f"{name}: {len(train):,} known, {len(rows):,} judged in {seconds:.1f} s", flush=True)
    result: dict[str, Any] = {"set": name, "rows": len(rows), "tags": {}, "planted": {}}
    result["silent"] = [[tag, long, share] for (tag, long), share in sorted(silent.items())]
    for tag in TAGS:
        hits = found[tag.name]
        low, high = wilson(len(hits), len(rows))
        quiet = ", ".join(f"{'long' if long else 'short'} inputs" for one, long in silent if one == tag.name)
        result["tags"][tag.name] = [len(hits), low, high, quiet]
        note = f"  silent: {quiet}" if quiet else ""
        print(f"  {tag.name:20} {len(hits):5} {len(hits) / len(rows):6.2%} [{low:.2%}, {high:.2%}]{note}")
        shown(tag.name, hits, given.show)
    for tag_name in PLANTS:
        wrong = planted(judged, tag_name)
        if not wrong:
            continue
        held = sum(tag_name in tags for tags in tag_rows(wrong, context))
        result["planted"][tag_name] = [held, len(wrong)]
        print(f"  planted {tag_name:20} {held:5} of {len(wrong):5} {held / len(wrong):6.1%}")
    return result


def main() -> None:
    """Print the table, and write it with --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--tune", action="store_true", help="measure inside the first half")
    parser.add_argument("--show", type=int, default=0, help="false alarms to show of each tag")
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    given = parser.parse_args()
    results = [measured(name, given) for name in given.sets]
    if given.out:
        given.out.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
