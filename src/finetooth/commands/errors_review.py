"""The review of `finetooth errors`: go through the wrong rows, say which tags are right, correct answers.

Every action is appended to RUN/errors/annotations.jsonl at once, so nothing is lost however a review ends.
Texts are shown as they are: what is hidden cannot be judged. The run is locked while the review is open.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from finetooth.analysis.annotations import (
    CONFIRM,
    REJECT,
    Annotations,
    Precision,
    annotate,
    precision,
    random_orders,
    read_annotations,
    tagged_rows,
)
from finetooth.analysis.review_order import review_order, reviewed
from finetooth.commands.review_keys import BACK, NEXT, Keys, standard_keys
from finetooth.evaluation.graders import without_options
from finetooth.evaluation.verdict_words import percent
from finetooth.report.row_text import VISIBLE
from finetooth.runs.workspace import occupied

LONGEST = 1_500  # characters of a text; of a longer one the beginning and the end
HELP = "y confirm  n reject  1-9 choose tags  c correct  t note  space next  b back  / search  q quit"
NOTHING = "Nothing was typed, so nothing was changed."


@dataclass(frozen=True, slots=True)
class Review:
    """What a review has added. left: wrong rows that are not reviewed yet."""

    verdicts: int
    answers: int
    notes: int
    left: int
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The counts."""
        return {"verdicts": self.verdicts, "answers": self.answers, "notes": self.notes, "left": self.left}

    def print(self, console: Console) -> None:
        """One line of counts."""
        console.print(
            f"Tags judged: {self.verdicts}; answers corrected: {self.answers}; notes: {self.notes}. "
            f"Wrong rows not reviewed yet: {self.left:,}."
        )


def review(
    path: Path,
    analysis: Mapping[str, Any],
    console: Console,
    keys: Keys | None = None,
    labels: Sequence[str] = (),
) -> Review:
    """Show one wrong row after the other and do what is typed, until `q` or the end of the input.

    path: the run, locked for as long as the review is open. analysis: as in errors.json. keys: where the
    commands come from; by default the terminal, or lines of standard input if that is none. labels: of a task
    with a label set; by default those that its validation rows expect. ConfigError where the run is in use.
    """
    with occupied(path):
        session = _Session(path, analysis, console, labels)
        if keys is not None:
            session.go(keys)
        else:
            with standard_keys() as standard:
                session.go(standard)
        return session.result()


class _Session:
    """Where a review stands: the row that is shown, the tags that are chosen, what was added."""

    def __init__(
        self, path: Path, analysis: Mapping[str, Any], console: Console, labels: Sequence[str]
    ) -> None:
        self._path, self._console = path, console
        self._titles = {tag["tag"]: tag["title"] for tag in analysis["tags"]}
        self._tagged, self._orders = tagged_rows(analysis["rows"]), random_orders(analysis["rows"])
        self._known = read_annotations(path)
        self._rows = review_order(analysis["rows"], self._known)
        self._at = 0
        self._chosen: list[int] = []
        self._searched = ""
        self._added = {"verdict": 0, "answer": 0, "note": 0}
        if not labels and without_options(analysis["grader"]) == "label":
            labels = sorted({row["want"] for row in analysis["rows"]})
        self._labels = list(labels)

    def result(self) -> Review:
        """What was added, and what is left."""
        left = sum(not reviewed(row, self._known) for row in self._rows)
        return Review(self._added["verdict"], self._added["answer"], self._added["note"], left)

    def go(self, keys: Keys) -> None:
        """Take commands until the end. Ctrl-C ends a review like `q`."""
        if not self._rows:
            self._console.print("No row is wrong.")
            return
        self._show(keys)
        try:
            while (key := keys.key()) not in ("", "q"):
                self._take(key, keys)
        except KeyboardInterrupt:
            self._console.print()

    def _take(self, key: str, keys: Keys) -> None:
        if key in (NEXT, BACK):
            self._move(1 if key == NEXT else -1, keys)
        elif key in "yn":
            self._judge(key == "y", keys)
        elif key.isdecimal():
            self._choose(int(key), keys)
        elif key == "c":
            self._correct(keys)
        elif key == "t":
            note = keys.line("note: ", self._known.notes.get(self._row["id"], ""))
            if note is None:
                self._say(NOTHING)
            else:
                self._add([{"id": self._row["id"], "note": _clean(note)}])
                self._say("Noted.")
        elif key == "/":
            self._search(keys)
        else:
            self._say(HELP if key in "?h" else f"{key!a} is no command. {HELP}")

    @property
    def _row(self) -> Mapping[str, Any]:
        return self._rows[self._at]

    # Actions

    def _move(self, by: int, keys: Keys) -> None:
        to = self._at + by
        if not 0 <= to < len(self._rows):
            left = self.result().left
            end = "all are reviewed" if not left else f"{left:,} are not reviewed yet"
            self._say("This is the first row." if by < 0 else f"That was the last row; {end}.")
            return
        self._at, self._chosen = to, []
        self._show(keys)

    def _choose(self, number: int, keys: Keys) -> None:
        if not 1 <= number <= min(len(self._row["tags"]), 9):
            self._say(f"There is no tag {number} here.")
            return
        self._chosen = sorted({*self._chosen} ^ {number - 1})
        if keys.typed:
            self._show(keys)

    def _judge(self, right: bool, keys: Keys) -> None:
        """Confirm or reject the chosen tags, or all; when every tag of the row is judged, go on."""
        row, tags = self._row, self._row["tags"]
        if not tags:
            self._say("This row has no tag to judge; c corrects its expected answer, t adds a note.")
            return
        names = dict.fromkeys(tags[number]["tag"] for number in self._chosen or range(len(tags)))
        verdict = CONFIRM if right else REJECT
        self._add([{"id": row["id"], "tag": name, "verdict": verdict} for name in names])
        self._chosen = []
        known = precision(self._known, self._tagged, self._orders)
        told = "; ".join(f"{self._titles.get(name, name)}: {_so_far(known[name])}" for name in names)
        if not keys.typed:
            self._say(told)
        if reviewed(row, self._known):
            self._move(1, keys)
        elif keys.typed:
            self._show(keys)
        if keys.typed:  # below the row, which has cleared the screen
            self._say(told)

    def _correct(self, keys: Keys) -> None:
        row = self._row
        now = self._known.answers.get(row["id"], row["want"])
        given = "" if self._labels or "\n" in now else now
        answer = keys.line("expected answer: ", given)
        while answer is not None and self._labels and answer not in self._labels:
            near = _nearest(answer, self._labels)
            if near and near.casefold() == answer.casefold():
                answer = near
                break
            self._say(f"{answer!r} is none of the {len(self._labels)} labels.")
            if not near:
                self._say(f"They are: {', '.join(self._labels[:30])}")
                return  # nothing was changed
            self._say(f"Did you mean {near}?")
            answer = keys.line("expected answer: ", near) if keys.typed else None
        if answer is None:
            self._say(NOTHING)
        else:
            self._add([{"id": row["id"], "answer": _clean(answer)}])
            self._say(f"Expected answer: {self._known.answers.get(row['id'], '')}")

    def _search(self, keys: Keys) -> None:
        """Go to the next row that has these words; without words, to the next one of the last search."""
        words = (keys.line("search: ") or self._searched).casefold()
        self._searched = words
        for step in range(1, len(self._rows) + 1):
            at = (self._at + step) % len(self._rows)
            row = self._rows[at]
            tags = (f"{self._titles.get(one['tag'], '')} {one['words']}" for one in row["tags"])
            text = "\n".join((row["id"], row["question"], row["want"], row["text"], *tags)).casefold()
            if words and words in text:
                self._move(at - self._at, keys)
                return
        self._say(f"No wrong row has {words!r}." if words else "Search for which words?")

    def _add(self, lines: list[dict[str, Any]]) -> None:
        annotate(self._path, lines)
        for line in lines:
            self._added[next(key for key in self._added if key in line)] += 1
        self._known = read_annotations(self._path)

    # What is shown

    def _say(self, text: str) -> None:
        self._console.print(text, style="dim")

    def _show(self, keys: Keys) -> None:
        if keys.typed and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._console.clear()
        self._console.print(row_view(self._row, self._known, self._titles, self._chosen, self._place()))
        if keys.typed:
            self._say(HELP)

    def _place(self) -> str:
        return f"{self._at + 1:,} of {len(self._rows):,}"


def row_view(
    row: Mapping[str, Any],
    known: Annotations,
    titles: Mapping[str, str],
    chosen: Sequence[int] = (),
    place: str = "",
) -> Group:
    """A row for the terminal: where it is, what was asked, expected and answered, and its tags.

    titles: of the tags. chosen: numbers of tags that the next verdict is about. place: of the row, in words.
    """
    where = f"{row['file']}, row {row['line']}" if row["file"] and row["line"] is not None else row["file"]
    sure = f"confidence {percent(row['confidence'])}" if row["confidence"] is not None else ""
    facts = " · ".join(filter(None, (place, row["id"], where, row["flip"], sure)))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim")
    table.add_column(overflow="fold")
    _entry(table, "question", Text(_short(row["question"])))
    _entry(table, "expected", Text(_short(row["want"]), "green"))
    if corrected := known.answers.get(row["id"]):
        _entry(table, "corrected", Text(_short(corrected), "bold green"))
    answer = _highlighted(row)
    if row["stop"] == "length":
        answer.append(" (truncated)", "dim")
    _entry(table, "answered", answer)
    if row["before"]:
        score = row["before"]["score"]
        mark = {None: "", 1: " (right)", 0: " (wrong)"}.get(score, f" (score {score})")
        _entry(table, "before", Text.assemble(_short(row["before"]["text"]), (mark, "dim")))
    for number, one in enumerate(row["tags"]):
        verdict = known.verdicts.get((row["id"], one["tag"]))
        mark = {True: "✓", False: "✗", None: " "}[verdict]
        line = Text().append(f"{mark} ", {True: "bold green", False: "bold red", None: ""}[verdict])
        line.append(titles.get(one["tag"], one["tag"]), "reverse" if number in chosen else "bold")
        line.append(f"  {_short(one['words'])}")
        _entry(table, f"{number + 1}" if number < 9 else "", line)
    if note := known.notes.get(row["id"]):
        _entry(table, "note", Text(_short(note)))
    return Group(Text(f"\n{facts}", "bold"), table)


def _entry(table: Table, name: str, value: Text) -> None:
    table.add_row(Text(f"{name:>9}"), value)


def _highlighted(row: Mapping[str, Any]) -> Text:
    """The answer with the evidence of its tags underlined."""
    if len(row["text"]) > LONGEST:
        return Text(_short(row["text"]))
    text = Text((row["text"] or "(empty)").translate(VISIBLE))
    for one in row["tags"]:
        if one["start"] is not None and one["end"] is not None:
            text.stylize("underline red", one["start"], one["end"])
    return text


def _short(text: str) -> str:
    if len(text) > LONGEST:
        half = LONGEST // 2
        text = f"{text[:half]} [… {len(text) - 2 * half:,} characters …] {text[-half:]}"
    return text.translate(VISIBLE)


def _so_far(one: Precision) -> str:
    """What the judgements of a tag say; those behind a skipped row and of rows searched for are apart."""
    said = f"{one.confirmed} of {one.judged} right" if one.judged else ""
    return "; ".join(filter(None, (said, f"{one.others} outside its random sample" if one.others else "")))


def _nearest(word: str, labels: Sequence[str]) -> str:
    """The label that is spelled most alike; "" if none is."""
    folded = {label.casefold(): label for label in labels}
    near = difflib.get_close_matches(word.casefold(), folded, 1)
    return folded[near[0]] if near else ""


def _clean(text: str) -> str:
    """What can be written as UTF-8: a terminal with another encoding gives lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")
