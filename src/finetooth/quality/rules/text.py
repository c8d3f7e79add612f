"""Rules about the text of single rows: encoding errors, invisible characters, HTML, and empty texts.

Rows whose roles are out of order are rejected when the file is read, not here.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finetooth.config.values import format_count_of, plural
from finetooth.privacy.masking import mask
from finetooth.quality.findings import Edit, Finding, Hit, Severity, View, question
from finetooth.quality.repair.text_repair import NAMES, fix_encoding, has_tags, invisible, strip_html
from finetooth.types import Example

COMMON = 0.02  # share of rows from which an answer such as "none" counts as intended
MOST = 0.5  # share of rows with HTML above which HTML counts as part of the task
_AROUND = 30  # characters shown on either side of an error
LONGEST = 60  # characters shown of a text without content
PLACEHOLDERS = {
    *("n/a", "na", "#n/a", "none", "null", "nil", "nan", "todo", "to do", "tbd", "tbc", "fixme", "xxx"),
    *(
        "not available",
        "no answer",
        "no input",
        "noinput",
        "<noinput>",
        "<none>",
        "placeholder",
        "lorem ipsum",
    ),
    *("undefined", "empty", "(empty)", "<empty>", "(none)", "[deleted]", "[removed]", "missing"),
}
# Placeholders that may be real answers: the moons of Venus, the symbol of sodium, the opposite of full.
_MAY_BE_MEANT = {"na", "none", "null", "nil", "nan", "undefined", "empty", "missing", "xxx"}
# Punctuation without meaning of its own; brackets and operators may be an answer, ":)" a message.
_NOTHING = re.compile(r"[\s.,…·•\-–—_?!*#~/\\|'\"`“”‘’]*")
_ABOUT_HTML = re.compile(
    r"\b(?:x?html5?|css|xml|xpath|markup|markdown|tags?|entit(?:y|ies)|javascript|jsx?|dom|react|vue|php|"
    r"web ?pages?|browser|hyperlinks?|snippet|code|element|selector|bootstrap|template)\b",
    re.IGNORECASE,
)
_DOCUMENT = re.compile(r"\s*(?:```|<!doctype|<html\b|<\?xml|<svg\b)", re.IGNORECASE)


def texts(example: Example) -> list[str]:
    """Every text of an example: its messages, then its answers."""
    return [*(message.content for message in example.context), *(answer.text for answer in example.answers)]


def _total(view: View) -> int:
    return sum(map(len, view.sides.values()))


def _rows(count: int, view: View) -> str:
    return format_count_of(count, _total(view), "row")


def encoding(view: View) -> Iterator[Finding]:
    """Rule `encoding` (review): mojibake, and characters lost in an earlier conversion (U+FFFD)."""
    lost: list[Hit] = []
    repaired: list[Hit] = []
    edits: list[Edit] = []
    for side, example in view.rows():
        parts = [text for text in texts(example) if not text.isascii()]
        wrong = next((text for text in parts if fix_encoding(text) != text), "")
        gone = next((text for text in parts if "\ufffd" in text), "")
        if wrong:
            repaired.append(Hit.of(example, side, _before_and_after(wrong)))
            edits.append(Edit(example.id, "text", "fix_encoding"))
        elif gone:
            lost.append(Hit.of(example, side, _around(gone, gone.index("\ufffd"))))
    if not lost and not repaired:
        return
    summary, fix = [], []
    if repaired:
        summary.append(
            f"{_rows(len(repaired), view)} {plural(len(repaired), 'has', 'have')} broken characters, such as "
            "Ã© for é or an invisible character for ’: the text was once read in the wrong encoding."
        )
        fix.append("`data.clean: [fix_encoding]` or --fix repairs these.")
    if lost:
        summary.append(
            f"{_rows(len(lost), view)} {plural(len(lost), 'has', 'have')} lost characters, shown as \ufffd: "
            "they were replaced when the text was converted."
        )
        fix.append("Lost characters cannot be repaired: export the data from its source again, as UTF-8.")
    facts = {"mendable": len(repaired), "lost": len(lost)}
    yield Finding(
        "encoding", "review", " ".join(summary), (*repaired, *lost), " ".join(fix), tuple(edits), facts
    )


def _around(text: str, at: int) -> str:
    """The text around a position, on one line, with personal data masked."""
    start = max(0, at - 200)  # mask complete values before cutting the part to show
    masked = mask(text[start : at + 200])
    place = len(mask(text[start:at]))
    left, right = max(0, place - _AROUND), place + _AROUND
    shown = ("…" if start or left else "") + masked[left:right]
    shown = "".join(
        repr(char)[1:-1] if unicodedata.category(char) == "Cc" and char not in "\t\n\r" else char
        for char in shown
    )
    return " ".join(shown.split()) + ("…" if right < len(masked) or at + 200 < len(text) else "")


def _before_and_after(text: str) -> str:
    """The first part of a text that fix_encoding changes, before and after."""
    fixed = fix_encoding(text)
    at = next((k for k, (a, b) in enumerate(zip(text, fixed, strict=False)) if a != b), len(fixed))
    return f"{_around(text, at)} -> {_around(fixed, at)}"


def control_characters(view: View) -> Iterator[Finding]:
    """Rule `control-characters` (review; info if all are zero-width formatting): invisible characters."""
    counts: Counter[str] = Counter()
    hits: list[tuple[int, Hit]] = []
    edits: list[Edit] = []
    for side, example in view.rows():
        found = Counter("".join(map(invisible, texts(example))))
        if found:
            counts.update(found.keys())
            named = ", ".join(f"{_named(char)} x {times}" for char, times in found.most_common())
            hits.append((found.total(), Hit.of(example, side, named)))
            edits.append(Edit(example.id, "text", "normalise_space"))
    if not hits:
        return
    hits.sort(key=lambda item: -item[0])
    listed = ", ".join(f"{_named(char)} in {rows:,}" for char, rows in counts.most_common(5))
    harmless = all(unicodedata.category(char) == "Cf" and char not in "\u202d\u202e" for char in counts)
    yield Finding(
        "control-characters",
        "info" if harmless else "review",
        f"{_rows(len(hits), view)} {plural(len(hits), 'holds', 'hold')} invisible characters, which "
        f"only the model sees: {listed}.",
        tuple(hit for _, hit in hits),
        "`data.clean: [normalise_space]` or --fix removes them.",
        tuple(edits),
        {"rows": {_named(char): rows for char, rows in counts.most_common()}},
    )


def _named(char: str) -> str:
    return f"U+{ord(char):04X}" + (f" ({NAMES[char]})" if char in NAMES else "")


@dataclass(frozen=True, slots=True)
class _HtmlRow:
    side: str
    example: Example
    evidence: str
    in_question: bool
    in_answer: bool
    tags: tuple[bool, bool]  # in the questions and in the answers, not only entities


def html(view: View) -> Iterator[Finding]:
    """Rule `html`: leftover tags and entities (review); info if most questions or answers have tags.

    Rows about HTML or code, and texts that are complete documents, are skipped.
    """
    found = list(_html_rows(view))
    total = _total(view)
    asked, answered = sum(row.in_question for row in found), sum(row.in_answer for row in found)
    tagged = [sum(row.tags[part] for row in found) for part in (0, 1)]
    usual = [count > MOST * total for count in tagged]
    left = [row for row in found if (row.in_question and not usual[0]) or (row.in_answer and not usual[1])]
    if any(usual):
        part, count = ("answers", tagged[1]) if usual[1] else ("questions", tagged[0])
        yield Finding(
            "html",
            "info",
            f"{_rows(count, view)} have HTML tags in their {part}; HTML seems to be part of the task.",
            tuple(Hit.of(row.example, row.side, row.evidence) for row in found),
            "Nothing to do if the HTML is intended; `data.clean: [strip_html]` removes it.",
            facts={"questions": asked, "answers": answered},
        )
    elif left:
        yield Finding(
            "html",
            "review",
            f"{_rows(len(left), view)} {plural(len(left), 'has', 'have')} leftover HTML, such as tags or "
            "&amp; for &. The model would learn to expect it and, if it is in answers, to write it.",
            tuple(Hit.of(row.example, row.side, row.evidence) for row in left),
            "`data.clean: [strip_html]` or --fix turns it into plain text.",
            tuple(Edit(row.example.id, "text", "strip_html") for row in left),
            {"questions": asked, "answers": answered},
        )


def _html_rows(view: View) -> Iterator[_HtmlRow]:
    for side, example in view.rows():
        asked = [message.content for message in example.context if _has_html(message.content)]
        answered = [answer.text for answer in example.answers if _has_html(answer.text)]
        parts = [*asked, *answered]
        if parts and not any(_ABOUT_HTML.search(strip_html(text)) for text in texts(example)):
            first = parts[0]
            at = next(
                (k for k, (a, b) in enumerate(zip(first, strip_html(first), strict=False)) if a != b),
                len(first) - _AROUND,
            )
            tags = any(map(has_tags, asked)), any(map(has_tags, answered))
            yield _HtmlRow(side, example, _around(first, max(0, at)), bool(asked), bool(answered), tags)


def _has_html(text: str) -> bool:
    return ("<" in text or "&" in text) and not _DOCUMENT.match(text) and strip_html(text) != text


def lacks_content(text: str) -> bool:
    """Whether a text is empty, only punctuation, or a placeholder such as n/a or TODO."""
    if len(text) > 200:
        return _NOTHING.fullmatch(text) is not None
    return _NOTHING.fullmatch(text) is not None or text.strip().strip(".!:").casefold() in PLACEHOLDERS


def empty_answers(examples: Sequence[Example]) -> dict[str, str]:
    """Ids of the rows with an answer without content, and that answer.

    Labels do not count, nor answers that more than COMMON of all rows have: those are intended.
    """
    found = [
        (example.id, answer.text.strip())
        for example in examples
        if "label" not in example.tags
        for answer in example.answers
        if lacks_content(answer.text) and not answer.more.get("tool_calls")
    ]
    return _rare(found, len(examples))


def empty_questions(examples: Sequence[Example]) -> dict[str, str]:
    """Ids of the rows with a question without content, and that question. Plain text has none."""
    found = [
        (example.id, asked.strip())
        for example in examples
        if example.context and lacks_content(asked := question(example))
    ]
    return _rare(found, len(examples))


def _rare(found: Sequence[tuple[str, str]], total: int) -> dict[str, str]:
    counts = Counter(text.casefold() for _, text in found)
    most = max(2, COMMON * total)
    return {id: text for id, text in found if not text or counts[text.casefold()] <= most}


def empty_answer(view: View) -> Iterator[Finding]:
    """Rule `empty-answer` (review): answers that are empty, only punctuation, or a rare placeholder.

    Words that may be intended, such as `None` if things are counted, are reported but not edited.
    """
    found = empty_answers([row for _, row in view.rows()])
    intended = {id for id, text in found.items() if text.strip(".!: ").casefold() in _MAY_BE_MEANT}
    yield from _empty(view, "empty-answer", "answer", found, "review", intended)


def trivial_question(view: View) -> Iterator[Finding]:
    """Rule `trivial-question` (review): questions without content; info if all have a system message."""
    found = empty_questions([row for _, row in view.rows()])
    instructed = {
        row.id for _, row in view.rows() if any(message.role == "system" for message in row.context)
    } & set(found)
    severity: Severity = "info" if len(instructed) == len(found) else "review"
    yield from _empty(view, "trivial-question", "question", found, severity, instructed)


def _empty(
    view: View,
    rule: str,
    part: str,
    found: dict[str, str],
    severity: Severity,
    kept: set[str] | frozenset[str] = frozenset(),
) -> Iterator[Finding]:
    if not found:
        return
    rows = [(side, row) for side, row in view.rows() if row.id in found]
    found = {id: text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for id, text in found.items()}
    counts = Counter(f"'{text}'" if text else "empty" for text in found.values())
    listed = ", ".join(f"{text} ({times:,})" for text, times in counts.most_common(5))
    edits = tuple(Edit(row.id, "drop") for _, row in rows if row.id not in kept)
    yield Finding(
        rule,
        severity,
        f"{_rows(len(rows), view)} {plural(len(rows), 'has', 'have')} {'an' if part == 'answer' else 'a'} "
        f"{part} without content: {listed}.",
        tuple(Hit.of(row, side, f"the {part} is {found[row.id]!r}") for side, row in rows),
        "Look at the rows. Fill in the missing text, or drop the rows with `data.clean: [drop_empty]`"
        + (" or --fix." if not kept else "; --fix keeps those that may be intended." if edits else "."),
        edits,
        {"texts": dict(counts.most_common(20))},
    )
