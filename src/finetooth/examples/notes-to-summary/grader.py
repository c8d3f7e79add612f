"""Faithfulness of a summary to its notes: no invented name or number, and no number left out."""

import re

from finetooth import Example, Score

NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
WORD = re.compile(r"[^\W\d_]+")
# Capitalised only at the start of a sentence; any other capitalised word counts as a name.
OPENERS = (
    "a after all an and as at because before both but by during each first for from he her his if in it its "
    "no nobody not now of on one only or she so some still that the then there these they this to today "
    "tomorrow two when while with work"
)


def faithful(example: Example, text: str) -> Score:
    """From 0 to 1: the share of the answer's numbers and names that occur in the notes (precision), times the
    share of the reference summary's numbers that occur in the answer (recall).

    Names are capitalised words, compared without case. Repetitions count once.
    """
    notes, want = example.context[-1].content, example.target
    wanted = set(NUMBER.findall(want))
    if not wanted:
        return Score(None, error="the expected summary has no number")
    stated = _stated(text)
    invented = stated - set(NUMBER.findall(notes)) - {word.lower() for word in WORD.findall(notes)}
    missing = wanted - stated
    kept = 1 - len(invented) / len(stated) if stated else 0.0
    parts = [("not in the notes", invented), ("missing", missing)]
    reason = "; ".join(f"{name}: {', '.join(sorted(found))}" for name, found in parts if found)
    return Score(kept * (1 - len(missing) / len(wanted)), reason, text, want)


def _stated(text: str) -> set[str]:
    """The numbers and lower-cased names in a text."""
    names = {word.lower() for word in WORD.findall(text) if word[0].isupper()}
    return set(NUMBER.findall(text)) | (names - set(OPENERS.split()))
