"""The ladder's prompt against the best of 40 prompts that a person would try, on rows that neither saw.

    python benchmarks/tasks/convert.py trec sst2 ag_news_test
    python benchmarks/ladder.py --model DIR --out runs/ladder

For support triage and public label sets. Both arms use the same base model, training rows and held-out rows,
and as many answers: the person has all 40 answer --first held-out rows, has the best --finalists answer all
of them, and keeps the best; `finetooth baseline` searches. Both then answer --test-rows other rows. A set
whose result is in --out is not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src")]

from finetooth.config.load import load_task  # noqa: E402
from finetooth.data.render.renderer import Renderer  # noqa: E402
from finetooth.data.render.turns import answer_turn  # noqa: E402
from finetooth.evaluation.candidates import ModelCandidate  # noqa: E402
from finetooth.evaluation.graders.named import BUILT_IN  # noqa: E402
from finetooth.evaluation.prompting.demonstrations import Nearest, drawn, question_text  # noqa: E402
from finetooth.evaluation.prompting.spec import Indexes, index_of  # noqa: E402
from finetooth.evaluation.prompts import Prompt  # noqa: E402
from finetooth.evaluation.statistics import compare  # noqa: E402
from finetooth.model.api import Model  # noqa: E402
from finetooth.quality.prepare import assemble  # noqa: E402
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl  # noqa: E402
from finetooth.runs import asking, base_ranking, prompt_search  # noqa: E402
from finetooth.runs.context import RunContext  # noqa: E402
from finetooth.runs.embeddings import embedder_of  # noqa: E402
from finetooth.types import Example, Message  # noqa: E402

# What a person calls the rows and the labels of a set, and whom the prompt plays.
SETS = {
    "support-triage": ("message", "intent", "a support agent of a bike rental"),
    "trec": ("question", "answer type", "an expert in quiz questions"),
    "sst2": ("sentence", "sentiment", "a film critic"),
    "ag_news_test": ("article", "topic", "a newspaper editor"),
}
INSTRUCTIONS = {  # of the task
    "support-triage": "Name what the customer wants.",
    "trec": "What kind of thing does the question ask for?",
    "sst2": "Is this sentence positive or negative?",
    "ag_news_test": "What is the topic of this article?",
}
WORDINGS = {
    "none": "",
    "classify": "Classify the {noun}.",
    "what": "What is the {what} of this {noun}?",
    "persona": "You are {who}. Read the {noun} and decide its {what}.",
    "best": "Choose the label that fits the {noun} best.",
    "careful": "Think about what the {noun} is about. Then give only the label, nothing else.",
}
LISTINGS = {
    "none": "",
    "comma": "Answer with one of: {comma}.",
    "dashes": "Labels:\n{dashes}",
    "bars": "Options: {bars}",
}
FRAMES = {  # a question, and where the answer follows
    "plain": "{text}",
    "label": "Text: {text}\nLabel:",
    "qa": "Q: {text}\nA:",
    "named": "{Noun}: {text}\n{What}:",
    "hash": "### {Noun}\n{text}\n### {What}\n",
    "arrow": '"{text}" ->',
    "which": "{text}\n\nWhich label fits?",
}


@dataclass(frozen=True)
class HandPrompt:
    """A prompt as a person writes it, and a Layout: how its parts become messages.

    wording, listing, frame: keys of the tables above. at: the instruction is the system message or begins the
    first user message. block: demonstrations stand in one user message, with this between them; "": they are
    turns. free: the answer is generated, not chosen among the labels.
    """

    wording: str
    listing: str = "comma"
    frame: str = "plain"
    at: str = "system"
    shots: int = 0
    how: str = "balanced"
    draw: int = 1
    block: str = ""
    free: bool = False

    def messages(
        self, example: Example, words: dict[str, str], demos: Sequence[Example]
    ) -> tuple[Message, ...]:
        """The messages of a row. words: what the tables' names in braces stand for."""
        head = f"{WORDINGS[self.wording]}\n{LISTINGS[self.listing]}".strip().format(**words)

        def framed(one: Example) -> str:
            return FRAMES[self.frame].format(text=question_text(one), **words)

        solved = [(framed(demo), answer_turn(demo).content) for demo in demos]
        asked = [framed(example)]
        if self.block:
            asked = [self.block.join([*(f"{question} {answer}" for question, answer in solved), *asked])]
            solved = []
        turns = [
            Message(role, text)
            for pair in solved
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        turns.append(Message("user", asked[0]))
        if head and self.at == "system":
            return (Message("system", head), *turns)
        return (replace(turns[0], content=f"{head}\n\n{turns[0].content}".strip()), *turns[1:])


H = HandPrompt
PROMPTS = [
    H("classify"),
    H("what"),
    H("persona", "dashes"),
    H("best", "bars", "label"),
    H("classify", "comma", "label", "user"),
    H("what", "dashes", "qa", "user"),
    H("none", "comma", "plain", "user"),
    H("careful"),
    H("classify", "none"),
    H("what", "comma", "named", "user"),
    H("persona", "comma", "which"),
    H("classify", free=True),
    H("classify", shots=1),
    H("what", "comma", "named", "user", 1),
    H("none", "none", "arrow", "user", 1),
    H("best", "dashes", shots=1, draw=2),
    H("classify", shots=2),
    H("what", "comma", "label", "user", 2, draw=2),
    H("persona", "bars", "qa", shots=2, how="random"),
    H("best", "comma", "hash", "user", 2, block="\n\n"),
    H("classify", "comma", "plain", shots=2, how="bm25"),
    H("careful", "comma", "label", "user", 2, block="\n---\n"),
    H("classify", shots=4),
    H("what", "comma", "plain", "system", 4, draw=2),
    H("persona", "dashes", "plain", "system", 4, draw=3),
    H("none", "none", "plain", "user", 4),
    H("best", "comma", "label", "user", 4, block="\n\n"),
    H("what", "comma", "named", "user", 4, block="\n\n", draw=2),
    H("none", "none", "arrow", "user", 4, block="\n"),
    H("classify", "comma", "plain", "system", 4, "bm25"),
    H("what", "comma", "named", "user", 4, "bm25", block="\n\n"),
    H("careful", "comma", "plain", "system", 4, "vectors"),
    H("classify", shots=4, free=True),
    H("classify", shots=8),
    H("what", "comma", "plain", "system", 8, draw=2),
    H("none", "none", "qa", "user", 8),
    H("persona", "comma", "label", "system", 8, "random", 2),
    H("best", "dashes", "named", "user", 8, block="\n\n", draw=3),
    H("classify", "comma", "plain", "system", 8, "bm25"),
    H("what", "none", "plain", "system", 8, free=True),
]


@dataclass(frozen=True)
class Laid:
    """A HandPrompt as the layout of a Prompt, in the words of a set."""

    prompt: HandPrompt
    words: dict[str, str]

    def messages(
        self, example: Example, listing: str, demos: Sequence[Example], has_labels: bool
    ) -> tuple[Message, ...]:
        """As Layout.messages."""
        return self.prompt.messages(example, self.words, demos)


def words_of(name: str, labels: Sequence[str]) -> dict[str, str]:
    """What the names in braces stand for."""
    noun, what, who = SETS[name]
    listed = {
        "comma": ", ".join(labels),
        "bars": " | ".join(labels),
        "dashes": "\n".join(f"- {one}" for one in labels),
    }
    return {
        "noun": noun,
        "what": what,
        "who": who,
        "Noun": noun.capitalize(),
        "What": what.capitalize(),
        **listed,
    }


def hand_candidate(
    hand: HandPrompt, words: dict[str, str], context: RunContext, model: Model, indexes: Indexes
) -> ModelCandidate:
    """The base model under a person's prompt."""
    rows = context.prepared.train
    layout: Any = Laid(hand, words)
    prompt = Prompt("hand", layout=layout)
    if hand.how in ("bm25", "vectors"):
        prompt = replace(prompt, nearest=Nearest(indexes(hand.how), hand.shots))
    elif hand.shots:
        prompt = replace(prompt, demos=drawn(hand.shots, rows, hand.draw, hand.how == "balanced"))
    renderer = Renderer(context.base_tokenizer)
    asked = asking.candidate(context, "label", model, prompt, renderer)
    return replace(asked, labels=None) if hand.free else asked


def right(candidate: ModelCandidate, examples: Sequence[Example]) -> list[float]:
    """The score of each answer; of a generated one its first line counts."""
    texts = {one.index: (one.text.strip().splitlines() or [""])[0] for one in candidate.predict(examples)}
    return [BUILT_IN["label"](example, texts[row]).value or 0.0 for row, example in enumerate(examples)]


def by_hand(
    words: dict[str, str],
    context: RunContext,
    model: Model,
    indexes: Indexes,
    rows: Sequence[Example],
    first: int,
    finalists: int,
) -> tuple[HandPrompt, list[dict[str, Any]]]:
    """The person's choice, and every prompt with its scores: all on the first rows, the best on all."""
    table: list[dict[str, Any]] = []
    for hand in PROMPTS:
        scores = right(hand_candidate(hand, words, context, model, indexes), rows[:first])
        table.append({**asdict(hand), "first": fmean(scores), "scores": scores})
        print(json.dumps(table[-1]), flush=True)
    ranked = sorted(range(len(PROMPTS)), key=lambda at: -table[at]["first"])[:finalists]
    for at in ranked:
        table[at]["scores"] += right(
            hand_candidate(PROMPTS[at], words, context, model, indexes), rows[first:]
        )
        table[at]["all"] = fmean(table[at]["scores"])
    return PROMPTS[max(ranked, key=lambda at: table[at]["all"])], table


def task_of(name: str, given: argparse.Namespace) -> Path:
    """The task file of a set: random rows to train, held out and for the comparison."""
    folder = given.out / name
    source = HERE.parent / "examples" / name if name == "support-triage" else given.data / name
    rows = list(read_jsonl(source / "train.jsonl"))
    order = np.random.default_rng(3).permutation(len(rows))
    sides = {"validation": given.held_out, "train": given.rows, "test": given.test_rows}
    at = 0
    for side, count in sides.items():
        write_jsonl(folder / f"{side}.jsonl", [rows[row] for row in order[at : at + count]])
        at += count
    data = {side: f"{side}.jsonl" for side in sides} | {"format": "labels", "allow": ["leak"]}
    task = {"name": name, "model": given.model, "instruction": INSTRUCTIONS[name], "data": data, "seed": 1}
    write_json(folder / "task.json", task | {"evaluate": {"grader": "label"}})
    return folder / "task.json"


def measured(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Both choices and their scores on the rows that neither saw."""
    task = load_task(task_of(name, given))
    test = assemble(task).sides["test"]
    context = RunContext(task, given.out / name / "run", Console(quiet=True))
    started = time.perf_counter()
    prepared = base_ranking.without_test(task)
    budget = len(PROMPTS) * given.first + given.finalists * (given.held_out - given.first)
    ladder = prompt_search.find(context, prepared, budget, None, lambda *_: None)
    searched = time.perf_counter()
    print(f"{name}: {ladder.found.winner.trial.title} {ladder.found.winner.score}", flush=True)
    model = context.initial_model()
    indexes = index_of(context.prepared.train, embedder_of(model))
    words = words_of(name, context.prepared.labels)
    hand, table = by_hand(
        words, context, model, indexes, ladder.held_out.examples, given.first, given.finalists
    )
    tried = time.perf_counter()
    own = right(asking.candidate_of_spec(context, "label", model, ladder.winner, indexes=indexes), test)
    theirs = right(hand_candidate(hand, words, context, model, indexes), test)
    against = compare(theirs, own)
    return {
        "set": name,
        "rows": [len(rows) for rows in (context.prepared.train, ladder.held_out.examples, test)],
        "ladder": {
            "prompt": ladder.found.winner.trial.title,
            "held_out": ladder.found.winner.score,
            "test": fmean(own),
            "answers": ladder.answered,
            "seconds": searched - started,
        },
        "hand": {
            **asdict(hand),
            "held_out": max(row["all"] for row in table if "all" in row),
            "test": fmean(theirs),
            "answers": sum(len(row["scores"]) for row in table),
            "seconds": tried - searched,
        },
        "difference": [against.difference, against.low, against.high],
        "prompts": table,
    }


def main() -> None:
    """Print and keep a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="directory or name of the base model")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--rows", type=int, default=300, help="training rows, default %(default)s")
    parser.add_argument("--held-out", type=int, default=48, help="rows that choose, default %(default)s")
    parser.add_argument("--test-rows", type=int, default=100, help="default %(default)s")
    parser.add_argument("--first", type=int, default=20, help="rows for all 40, default %(default)s")
    parser.add_argument("--finalists", type=int, default=8, help="that answer all, default %(default)s")
    parser.add_argument("--data", type=Path, default=HERE / "tasks" / "data", help="the converted sets")
    parser.add_argument("--out", type=Path, default=Path("runs/ladder"), help="for tasks and results")
    given = parser.parse_args()
    for name in given.sets:
        file = given.out / name / "result.json"
        if not file.is_file():
            write_json(file, measured(name, given))
        print(
            json.dumps({key: value for key, value in read_json(file).items() if key != "prompts"}), flush=True
        )


if __name__ == "__main__":
    main()
