"""Generate milktooth's instruction rows: short chats after which the model follows its template and stops.

    python recipes/milktooth/make_instructions.py --text .staging/milktooth/train.jsonl \
        --out .staging/milktooth/instructions.jsonl

Each row is {"messages": [...]} of one kind of exercise below, filled by the seed from vocabulary.py and
messages.jsonl (2,315 messages to an invented shop, each with the team it is for). No row of any evaluation
set or example is used, and none of the exercises is a task that finetooth's results are shown on.
The kinds: choose a label from a list, with and without demonstrations in earlier turns; the team of a
message; sentiment; copy; extract; answer from a sentence; yes or no; odd one out; opposites; change of case;
first or last word; categories; small talk. With --text, one row in ten goes on with a passage of the corpus
(passages.py), so that the text is not forgotten over the chats.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import passages
from vocabulary import (
    ADJECTIVES,
    CATEGORIES,
    FEELINGS,
    NAMES,
    OPPOSITES,
    PLACES,
    SMALL_TALK,
    THINGS,
    TIMES,
    TOPICS,
    VERBS,
)

MESSAGES: list[dict[str, str]] = [
    json.loads(line)
    for line in Path(__file__).with_name("messages.jsonl").read_text(encoding="utf-8").splitlines()
]
TEAMS = sorted({message["label"] for message in MESSAGES})

Chat = tuple[str, list[tuple[str, str]]]  # system message or "", then (question, answer) turns


def fact(rng: random.Random) -> dict[str, str]:
    """A sentence about who did what, where and when, with its parts."""
    parts = {
        "who": rng.choice(NAMES),
        "did": rng.choice(VERBS),
        "what": f"the {rng.choice(ADJECTIVES)} {rng.choice(THINGS)}",
        "where": rng.choice(PLACES),
        "when": rng.choice(TIMES),
    }
    order = rng.choice(
        [
            "{who} {did} {what} in front of {where} {when}.",
            "{When} {who} {did} {what} near {where}.",
            "Near {where}, {who} {did} {what} {when}.",
            "It was {who} who {did} {what} behind {where} {when}.",
        ]
    )
    parts["sentence"] = order.format(When=parts["when"].capitalize(), **parts)
    return parts


def topic_sentence(rng: random.Random, topic: str) -> str:
    """A sentence of the topic."""
    return rng.choice(TOPICS[topic]).format(name=rng.choice(NAMES))


def label_from_list(rng: random.Random) -> Chat:
    """One of the listed labels, the list in the system message or in the question."""
    labels = rng.sample(sorted(TOPICS), rng.randint(2, 6))
    answer = rng.choice(labels)
    listed = rng.choice([", ".join(labels), "\n".join(f"- {label}" for label in labels), " | ".join(labels)])
    ask = rng.choice(
        [
            "Answer with one of: {}.",  # as finetooth's own prompts list labels
            "Answer with one of these labels: {}",
            "Choose one label and write nothing else.\n{}",
            "What is the text about? Possible answers:\n{}",
            "Classify the text. The labels are {}",
        ]
    ).format(listed)
    sentence = topic_sentence(rng, answer)
    if rng.random() < 0.5:
        return ask, [(sentence, answer)]
    return "", [
        (rng.choice(["{ask}\n\nText: {text}", "{text}\n\n{ask}"]).format(ask=ask, text=sentence), answer)
    ]


def label_from_shots(rng: random.Random) -> Chat:
    """Demonstrations as earlier turns; half of the time the labels' names say nothing about their meaning."""
    topics = rng.sample(sorted(TOPICS), rng.randint(2, 3))
    names = topics
    if rng.random() < 0.5:
        names = rng.sample(CATEGORIES["colour"] + CATEGORIES["animal"] + list("ABCDEFG"), len(topics))
    turns = [(topic, name) for topic, name in zip(topics, names, strict=True) for _ in range(2)]
    rng.shuffle(turns)
    turns.append(rng.choice(turns))
    listed = f"Answer with one of: {', '.join(names)}."
    # Without a list nothing would tell the first answers, and they are trained on too.
    system = rng.choice(["", listed, "Name the topic."]) if names is topics else listed
    return system, [(topic_sentence(rng, topic), name) for topic, name in turns]


def team_of_message(rng: random.Random) -> Chat:
    """The team that a customer's message is for, among some or all of the teams."""
    teams = rng.sample(TEAMS, rng.choice([2, 3, 4, len(TEAMS)]))
    listed = f"Answer with one of: {', '.join(teams)}."
    ask = rng.choice(
        ["Which team is this for?", "Name the team that should get the message.", "Sort the message."]
    )
    said = rng.sample(
        [message for message in MESSAGES if message["label"] in teams], rng.choice([1, 1, 1, 3])
    )
    return f"{ask} {listed}", [(message["text"], message["label"]) for message in said]


def sentiment(rng: random.Random) -> Chat:
    """Positive or negative, under several pairs of names."""
    kind = rng.choice(sorted(FEELINGS))
    openings, endings = FEELINGS[kind]
    text = f"{rng.choice(openings)} {rng.choice(endings)}{rng.choice(['.', '!', ''])}"
    good, bad = rng.choice([("positive", "negative"), ("good", "bad"), ("happy", "unhappy"), ("yes", "no")])
    question = "Did the writer like it?" if good == "yes" else "How does the writer feel?"
    answer = good if kind == "positive" else bad
    return f"{question} Answer {good} or {bad}.", [(text, answer)]


def repeat(rng: random.Random) -> Chat:
    """Copy a text."""
    text = rng.choice(
        [fact(rng)["sentence"], " ".join(rng.sample(THINGS, rng.randint(2, 5))), rng.choice(NAMES)]
    )
    ask = rng.choice(["Repeat: {}", "Say this again: {}", "Copy the text.\n{}", "Write exactly this:\n{}"])
    return "", [(ask.format(text), text)]


def extract(rng: random.Random) -> Chat:
    """The part of a sentence that is asked for."""
    parts = fact(rng)
    key, names = rng.choice(
        [("who", ["person", "name"]), ("where", ["place"]), ("when", ["time"]), ("what", ["thing", "object"])]
    )
    ask = f"Extract the {rng.choice(names)} from the sentence."
    sentence = parts["sentence"]
    answer = parts[key] if parts[key] in sentence else parts[key].capitalize()
    return (ask, [(sentence, answer)]) if rng.random() < 0.5 else ("", [(f"{ask}\n{sentence}", answer)])


def answer_from_sentence(rng: random.Random) -> Chat:
    """A question that the given sentence answers."""
    parts = fact(rng)
    key, ask = rng.choice(
        [
            ("who", f"Who {parts['did']} {parts['what']}?"),
            ("what", f"What was it that {parts['who']} {parts['did']}?"),
            ("when", f"When was it that {parts['who']} {parts['did']} {parts['what']}?"),
        ]
    )
    return "", [(f"{parts['sentence']} {ask}", parts[key][0].upper() + parts[key][1:] + ".")]


def yes_or_no(rng: random.Random) -> Chat:
    """A fact about a category, or about a given sentence."""
    truth = rng.random() < 0.5
    if rng.random() < 0.5:
        category, other = rng.sample(sorted(CATEGORIES), 2)
        word = rng.choice(CATEGORIES[category if truth else other])
        return "", [
            (f"Does '{word}' belong to the group '{category}'? Answer yes or no.", "yes" if truth else "no")
        ]
    parts = fact(rng)
    name = parts["who"] if truth else rng.choice([other for other in NAMES if other != parts["who"]])
    return "Answer yes or no.", [(f"{parts['sentence']} Was it {name}?", "yes" if truth else "no")]


def odd_one_out(rng: random.Random) -> Chat:
    """The word of another category."""
    category, other = rng.sample(sorted(CATEGORIES), 2)
    odd = rng.choice(CATEGORIES[other])
    words = [*rng.sample(CATEGORIES[category], rng.randint(2, 4)), odd]
    rng.shuffle(words)
    ask = rng.choice(
        ["Which word does not belong: {}?", "Find the odd one out: {}", "Name the word that does not fit. {}"]
    )
    return "", [(ask.format(", ".join(words)), odd)]


def opposite(rng: random.Random) -> Chat:
    """The opposite of a word."""
    pair = rng.choice(OPPOSITES).split()
    rng.shuffle(pair)
    ask = rng.choice(["What is the opposite of {}?", "Give the opposite: {}", "{} is the opposite of what?"])
    return "", [(ask.format(pair[0]), pair[1])]


def change_case(rng: random.Random) -> Chat:
    """Upper or lower case."""
    words = " ".join(rng.sample(THINGS + NAMES, rng.randint(1, 3)))
    upper = rng.random() < 0.5
    ask = f"Write in {'capital' if upper else 'small'} letters: "
    return "", [(ask + words, words.upper() if upper else words.lower())]


def pick_word(rng: random.Random) -> Chat:
    """The first, last or n-th word."""
    words = rng.sample(THINGS + [word for words in CATEGORIES.values() for word in words], rng.randint(3, 6))
    place, index = rng.choice([("first", 0), ("last", -1), ("second", 1), ("third", 2)])
    ask = rng.choice(["What is the {} word? {}", "Give the {} word of this list: {}"])
    return "", [(ask.format(place, rng.choice([" ", ", "]).join(words)), words[index])]


def category_of(rng: random.Random) -> Chat:
    """The group that a word belongs to, from a list or with demonstrations."""
    groups = rng.sample(sorted(CATEGORIES), rng.randint(3, 5))
    asked = [rng.choice(groups) for _ in range(rng.choice([1, 1, 3, 4]))]
    system = f"Name the group of the word: {', '.join(groups)}."
    return system, [(rng.choice(CATEGORIES[group]), group) for group in asked]


def small_talk(rng: random.Random) -> Chat:
    """A greeting, a thank-you, who the model is."""
    return "", [rng.choice(SMALL_TALK)]


KINDS: list[tuple[Callable[[random.Random], Chat], int]] = [
    (label_from_list, 6),
    (label_from_shots, 5),
    (team_of_message, 8),
    (sentiment, 2),
    (repeat, 2),
    (extract, 3),
    (answer_from_sentence, 2),
    (yes_or_no, 2),
    (odd_one_out, 1),
    (opposite, 1),
    (change_case, 1),
    (pick_word, 1),
    (category_of, 3),
    (small_talk, 1),
]


def messages(chat: Chat) -> list[dict[str, str]]:
    """The chat as a list of role and content."""
    system, turns = chat
    said = [{"role": "system", "content": system}] if system else []
    for question, answer in turns:
        said += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return said


def generate(rows: int, seed: int, texts: Sequence[str] = ()) -> list[dict[str, object]]:
    """`rows` different chats, drawn with the weights of KINDS; the seed decides all of them.

    texts: passages, for one row in ten.
    """
    rng = random.Random(seed)
    kinds, weights = zip(*KINDS, strict=True)
    seen: dict[str, None] = {}
    for _ in range(50 * rows):
        if texts and rng.random() < 0.1:
            chat = messages(passages.go_on(rng, rng.choice(texts)))
        else:
            chat = messages(rng.choices(kinds, weights)[0](rng))
        seen.setdefault(json.dumps({"messages": chat}, ensure_ascii=False))
        if len(seen) == rows:
            break
    return [json.loads(line) for line in seen]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(".staging/milktooth/instructions.jsonl"))
    parser.add_argument("--text", type=Path, help="rows of the corpus, as prepare.py wrote them")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    texts = passages.drawn(options.text, options.seed) if options.text else []
    rows = generate(options.rows, options.seed, texts)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines)} rows in {options.out}")


if __name__ == "__main__":
    main()
