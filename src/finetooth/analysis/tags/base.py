"""What a tag is, and what tags know of a task besides the answered row: `TagContext`."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetooth.analysis.answered import AnsweredRow
from finetooth.evaluation.graders import GraderSpec
from finetooth.evaluation.graders.shared import expected_answers
from finetooth.evaluation.graders.structured import parse
from finetooth.quality.rules.language import language
from finetooth.types import Answer, Example

SOURCE = 40  # words of an input from which it counts as a source: a text that the answer is about
MOST_CHECKED = 1000  # training answers on which the tags are tried
FEWEST = 10  # training answers for bounds of length and the like
SAMPLED = 400  # training answers whose language is looked at
COMMON = 0.005  # share of the training answers that hold a word, from which it is no news in an answer
JSON_SHARE = 0.95  # of the training answers are JSON: it is what is asked for
SHORTEST_COPY = 8  # words in a row that are a copy
WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a tag holds of an answer. words: for the reader. start, end: the characters of the answer that
    show it, None where it is the whole answer, or what it lacks.
    """

    words: str
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Tag:
    """A kind of error. name: short, its key. title: for headings. about: one sentence on what it looks for.

    detect: a pure function that gives the evidence, or None where the tag does not hold.
    """

    name: str
    title: str
    about: str
    detect: Callable[[AnsweredRow, TagContext], Evidence | None]


@dataclass(frozen=True, eq=False)
class TagContext:
    """What the tags know of a task, from its training rows.

    labels: the allowed ones. labelled: answers are labels. several: of them to an answer. vocabulary:
    casefolded word -> training rows with it. new_words: casefolded word -> training answers whose input lacks
    it, of `answers` in all. low, high: the 5th and 95th percentile of the answers' characters, None for too
    few. languages: of the answers, by how many. scripts: of their letters. wants_json: answers are JSON.
    keys: those of objects, by how many of `objects`; kinds: key -> kinds of its values. problem: says how a
    JSON text violates the grader's schema, "" where it does not. copied: the words in a row that training
    answers copy from their input. held, half: training answers that were held out, and what is known without
    them, on which the tags are tried.
    """

    labels: tuple[str, ...] = ()
    labelled: bool = False
    several: bool = False
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    new_words: Mapping[str, int] = field(default_factory=dict)
    answers: int = 0
    low: int | None = None
    high: int | None = None
    languages: Mapping[str, int] = field(default_factory=dict)
    scripts: frozenset[str] = frozenset()
    wants_json: bool = False
    objects: int = 0
    keys: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)
    problem: Callable[[str], str] | None = None
    copied: int = 0
    held: tuple[Example, ...] = ()
    half: TagContext | None = None

    @classmethod
    def of(
        cls,
        train: Sequence[Example],
        labels: Sequence[str],
        grader: GraderSpec | Sequence[GraderSpec] = "auto",
        schema: Any = None,
    ) -> TagContext:
        """From the rows of training, without reading a model. labels: the allowed ones, () for free answers.

        grader: the task's evaluate.grader. schema: a JSON Schema, else that of the grader. GradeError for an
        invalid schema.
        """
        specs = [grader] if isinstance(grader, str | Mapping) else list(grader)
        named = [spec if isinstance(spec, str) else str(spec.get("name", "")) for spec in specs]
        for spec in specs:
            if schema is None and isinstance(spec, Mapping) and spec.get("name") == "json":
                schema = spec.get("schema")
        fixed = cls(
            labels=tuple(labels),
            labelled=bool(labels),
            several="labels" in named[:1],
            wants_json="json" in named or schema is not None,
            problem=None if schema is None else schema_problem(schema),
        )
        rows = [row for row in train if row.target]
        held = rows[1::2][:MOST_CHECKED]
        apart = {id(row) for row in held}
        half = _known(fixed, [row for row in rows if id(row) not in apart]) if len(rows) >= FEWEST else None
        return replace(_known(fixed, rows), held=tuple(held), half=half)

    def common(self, word: str) -> bool:
        """Whether training answers often have a casefolded word that is not in their input: it is no news."""
        return self.new_words.get(word, 0) >= max(2, COMMON * self.answers)


def schema_problem(schema: Any) -> Callable[[str], str]:
    """A function that says how a JSON text violates a schema, "" where it does not.

    The grader of JSON looks at the text in its watched process, since a pattern in a schema could run for
    ever. GradeError for an invalid schema.
    """
    from finetooth.evaluation.graders.watched import WatchedGrader  # here: it is rarely needed

    grader = WatchedGrader("json", {"schema": schema}, None, "json (schema)", 10.0)

    def problem(text: str) -> str:
        return grader(Example("", (), (Answer(text),)), text).reason  # beside itself: only the schema counts

    return problem


def source_text(example: Example) -> str:
    """All that the model is given: the texts of the context, and the tools."""
    parts = [turn.content for turn in example.context]
    parts += [str(turn.more) for turn in example.context if turn.more]
    return "\n".join([*parts, *map(str, example.tools)] if example.tools else parts)


def gold_text(example: Example) -> str:
    """All expected answers of a row, one to a line."""
    return "\n".join(expected_answers(example))


def has_source(example: Example) -> bool:
    """Whether the input is long enough to be what the answer is about."""
    return sum(turn.content.count(" ") for turn in example.context) >= SOURCE


def free_text(row: AnsweredRow, context: TagContext) -> bool:
    """Whether the answer was written, and is no label."""
    return not row.chosen and not context.labelled


def folded_words(text: str) -> list[str]:
    """The words of a text, casefolded, without apostrophes."""
    return [word.replace("’", "'") for word in WORD.findall(text.casefold())]


@functools.lru_cache(4096)
def script_of(char: str) -> str:
    """The script of a letter by its Unicode name: LATIN, CYRILLIC, CJK ...; "" for no letter."""
    return unicodedata.name(char, "").split(" ")[0].split("-")[0] if char.isalpha() else ""


def shorten(text: str, most: int = 60) -> str:
    """A text on one line, at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def json_kind(value: Any) -> str:
    """The kind of a JSON value in words."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _known(fixed: TagContext, rows: Sequence[Example]) -> TagContext:
    """What rows of training tell."""
    answers = [row.target for row in rows]
    counts: Counter[str] = Counter()
    vocabulary: Counter[str] = Counter()
    for row in rows:
        own, given = set(folded_words(row.target)), set(folded_words(source_text(row)))
        counts.update(own - given)
        vocabulary.update(own | given)
    sizes = sorted(len(answer.strip()) for answer in answers)
    enough = len(sizes) >= FEWEST
    sample = answers[:: max(1, len(answers) // SAMPLED)]
    languages = Counter(name for answer in sample if (name := language(answer)))
    asked = replace(
        fixed,
        vocabulary=vocabulary,
        new_words=counts,
        answers=len(answers),
        low=sizes[int(0.05 * (len(sizes) - 1))] if enough else None,
        high=sizes[round(0.95 * (len(sizes) - 1))] if enough else None,
        languages=languages,
        scripts=frozenset(filter(None, map(script_of, set("".join(answers))))),
        copied=_copied(rows[:: max(1, len(rows) // SAMPLED)]) if enough else 0,
    )
    return _json_known(asked, answers)


def _json_known(fixed: TagContext, answers: Sequence[str]) -> TagContext:
    values = [value for answer in answers if (value := _container(answer)) is not None]
    wanted = fixed.wants_json or (len(answers) >= FEWEST and len(values) >= JSON_SHARE * len(answers))
    if not wanted or fixed.problem is not None:
        return replace(fixed, wants_json=wanted)
    objects = [value for value in values if isinstance(value, dict)]
    if len(objects) < max(FEWEST, JSON_SHARE * len(values)):
        return replace(fixed, wants_json=True)
    kinds: dict[str, set[str]] = {}
    for one in objects:
        for key, value in one.items():
            kinds.setdefault(key, set()).add(json_kind(value))
    keys = Counter(key for one in objects for key in one)
    frozen = {key: frozenset(seen) for key, seen in kinds.items()}
    return replace(fixed, wants_json=True, objects=len(objects), keys=keys, kinds=frozen)


def _container(text: str) -> Any:
    """The object or list of a text; None where it is none."""
    if text.lstrip()[:1] not in ("{", "[", "`"):
        return None
    try:
        value = parse(text)
    except ValueError:
        return None
    return value if isinstance(value, dict | list) else None


def longest_copy(words: Sequence[str], source: Sequence[str], least: int) -> tuple[int, int]:
    """(start, length) of the longest run of `least` words or more that the source has; or (0, 0)."""
    places: dict[tuple[str, ...], int] = {}
    for place in range(len(source) - least + 1 if len(words) >= least else 0):
        places.setdefault(tuple(source[place : place + least]), place)
    best = 0, 0
    at = 0
    while at <= len(words) - least:
        size = 0
        if (place := places.get(tuple(words[at : at + least]), -1)) >= 0:
            size = least
            while words[at + size : at + size + 1] == source[place + size : place + size + 1] != []:
                size += 1
            best = max(best, (at, size), key=lambda run: run[1])
        at += max(1, size - least + 1)
    return best


def _copied(rows: Iterable[Example]) -> int:
    """The 98th percentile of the longest runs of words that training answers copy from their input."""
    texts = ((folded_words(row.target), folded_words(source_text(row))) for row in rows)
    runs = sorted(longest_copy(words, source, SHORTEST_COPY)[1] for words, source in texts)
    return runs[round(0.98 * (len(runs) - 1))] if runs else 0
