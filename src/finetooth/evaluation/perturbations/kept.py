"""What a perturbation leaves as it is: what bears the answer, and what the task wrote rather than the user.

* A template that the rows share: their common beginning and end, whole lines, and `name:` in front of lines.
* Options: lettered or numbered lines, and names of labels where two or more are listed.
* The expected answer: its label, or for generated answers every word of it.
* Addresses on the web and of mail, and code between fences.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetooth.types import Example, Message

SHARED = 0.05  # of the rows: a line that so many have is the template's
FEWEST = 3  # rows with a line of the template, at least
WORD = re.compile(r"\w+")
_OPTION = re.compile(r"^[ \t]*\(?(?:[A-Za-z]|\d{1,2})[.)]\s.*$", re.MULTILINE)
_PREFIX = re.compile(r"^[^\W\d][\w ]{0,30}:(?=\s)", re.MULTILINE)
_LINE = re.compile(r"^.*\S.*$", re.MULTILINE)
_FIXED = re.compile(r"```.*?```|\w+://\S+|\S+@\S+|www\.\S+", re.DOTALL)

Free = Callable[[int, int], bool]  # whether the text from start to end may change


def question(example: Example) -> str:
    """The last message of the user; "" without one, as in plain text."""
    return next((turn.content for turn in reversed(example.context) if turn.role == "user"), "")


def with_question(example: Example, text: str) -> tuple[Message, ...]:
    """The example's context with another text as the user's last message."""
    at = max(index for index, turn in enumerate(example.context) if turn.role == "user")
    last = example.context[at]
    return (
        *example.context[:at],
        Message(last.role, text, last.weight, last.more),
        *example.context[at + 1 :],
    )


def _beginning(texts: Sequence[str]) -> str:
    """The longest beginning of all texts."""
    first, last = min(texts), max(texts)
    pairs = zip(first, last, strict=False)
    return first[: next((at for at, (one, other) in enumerate(pairs) if one != other), len(first))]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept in the questions of one task. lines: whole lines, and beginnings of lines, of a template.

    head, tail: what all questions begin and end with, whole words. labels: of the task.
    """

    lines: frozenset[str] = frozenset()
    head: str = ""
    tail: str = ""
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Sequence[Example], labels: Sequence[str] = ()) -> Kept:
        """From rows of the task."""
        texts = [text for row in rows if (text := question(row))]
        counts: Counter[str] = Counter()
        for text in texts:
            found = {match.group().strip() for match in _LINE.finditer(text)} if "\n" in text else set()
            counts.update(found | {match.group() for match in _PREFIX.finditer(text)})
        least = max(FEWEST, SHARED * len(texts))
        lines = frozenset(line for line, count in counts.items() if count >= least)
        if len(set(texts)) < FEWEST:
            return cls(lines, labels=tuple(labels))
        head = re.sub(r"\w+$", "", _beginning(texts))
        tail = re.sub(r"^\w+", "", _beginning([text[::-1] for text in texts])[::-1])
        return cls(lines, head, tail if WORD.search(tail) else "", tuple(labels))

    def free(self, example: Example, text: str) -> Free:
        """Whether a stretch of this question may change."""
        spans = [match.span() for match in _FIXED.finditer(text)]
        spans += [match.span() for match in _OPTION.finditer(text)]
        spans += [match.span() for match in _PREFIX.finditer(text) if match.group() in self.lines]
        spans += [match.span() for match in _LINE.finditer(text) if match.group().strip() in self.lines]
        spans += [(0, len(self.head)), (len(text) - len(self.tail), len(text))]
        words: set[str] = set()
        if example.tags.get("label"):
            spans += self._label_spans(example, text)
        else:
            words = {word.casefold() for answer in example.answers for word in WORD.findall(answer.text)}
        spans = [(low, high) for low, high in spans if low < high]

        def free(start: int, end: int) -> bool:
            inside = any(low < max(end, start + 1) and start < high for low, high in spans)
            return not inside and not (
                words and words & {one.casefold() for one in WORD.findall(text[start:end])}
            )

        return free

    def _label_spans(self, example: Example, text: str) -> list[tuple[int, int]]:
        """Where the question names the expected label, or labels to choose from."""
        found: dict[str, list[tuple[int, int]]] = {}
        for label in dict.fromkeys((*self.labels, example.target.strip())):
            if len(label) > 1:
                pattern = rf"(?<!\w){re.escape(label)}(?!\w)"
                found[label] = [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]
        named = [label for label, spans in found.items() if spans]
        listed = named if len(named) > 1 else [label for label in named if label == example.target.strip()]
        return [span for label in listed for span in found[label]]
