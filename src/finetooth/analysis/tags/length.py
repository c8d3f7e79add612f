"""Tags of an answer's length and end: too long, too short, cut off, past its end."""

from __future__ import annotations

import re

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags.base import Evidence, Tag, TagContext, free_text, shorten
from finetooth.evaluation.graders.forms import folded
from finetooth.evaluation.graders.shared import expected_answers

LONGER = 1.5  # times the 95th percentile of the training answers, and the row's own expected answer
SHORTER = 0.5  # times the 5th percentile, and the row's own
LEAST = 20  # characters by which an answer is too long, at least
# What begins another turn: of a chat template, or of a text that goes on with the next question.
_TURN = re.compile(
    r"<\|?(?:im_start|im_end|endoftext|eot_id|start_header_id|end_of_turn|start_of_turn|user|assistant)\|?>"
    r"|</s>|\[/?INST\]|^#{2,}\s*(?:Instruction|Response|Input|Question|User)\b:?"
    r"|^(?:User|Human|Assistant|Question|Q|Input|Instruction)\s?:\s",
    re.IGNORECASE | re.MULTILINE,
)


def _too_long(row: AnsweredRow, context: TagContext) -> Evidence | None:
    if not free_text(row, context) or context.high is None:
        return None
    size = len(row.text.strip())
    own = max((len(one.strip()) for one in expected_answers(row.example)), default=0)
    most = LONGER * max(context.high, own)
    if size <= max(most, LEAST + max(context.high, own)):
        return None
    return Evidence(f"{size:,} characters; 95% of the training answers have at most {context.high:,}")


def _too_short(row: AnsweredRow, context: TagContext) -> Evidence | None:
    expected = [one.strip() for one in expected_answers(row.example)]
    text = row.text.strip()
    if not text:
        return None if "" in expected else Evidence("the answer is empty")
    if not free_text(row, context) or context.low is None:
        return None
    least = SHORTER * min([context.low, *map(len, expected)])
    if len(text) >= least:
        return None
    return Evidence(f"{len(text):,} characters; 95% of the training answers have at least {context.low:,}")


def _goes_on(row: AnsweredRow) -> int | None:
    """Where an answer should have ended: the wanted one is complete, or it starts another turn."""
    text = row.text
    turn = _TURN.search(text)
    if turn and turn.start() > 0 and not _TURN.search("\n".join(expected_answers(row.example))):
        return turn.start()
    if row.stop != "length":
        return None
    for want in expected_answers(row.example):
        at = len(text) - len(text.lstrip())
        end = at + len(want.strip())
        complete = want.strip() and folded(text[at:end]).casefold() == folded(want).casefold()
        if complete and text[end:].strip() and not (text[end - 1].isalnum() and text[end].isalnum()):
            return end
    return None


def _no_stop(row: AnsweredRow, context: TagContext) -> Evidence | None:
    if row.chosen or (end := _goes_on(row)) is None:
        return None
    return Evidence(f"goes on after the end of the answer: {shorten(row.text[end:])}", end, len(row.text))


def _cut_off(row: AnsweredRow, context: TagContext) -> Evidence | None:
    if row.stop != "length" or row.chosen or _goes_on(row) is not None:
        return None
    tokens = f" of {row.completion_tokens:,} tokens" if row.completion_tokens else ""
    start = max(0, len(row.text) - 40)
    return Evidence(f"the answer was cut off at the limit{tokens}", start, len(row.text))


TAGS = (
    Tag("too-long", "too long", "More than 1.5 times as long as 95% of the training answers.", _too_long),
    Tag(
        "too-short",
        "too short",
        "Empty, or less than half as long as 95% of the training answers.",
        _too_short,
    ),
    Tag("cut-off", "cut off", "The answer reached the limit of its length before its end.", _cut_off),
    Tag(
        "no-stop-token",
        "does not stop",
        "The wanted answer is complete, and the model goes on: to the limit, or with another turn.",
        _no_stop,
    ),
)
