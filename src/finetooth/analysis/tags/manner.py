"""Tags of an answer's manner: a refusal, and another language than the wanted one."""

from __future__ import annotations

import re
from collections import Counter

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags.base import (
    Evidence,
    Tag,
    TagContext,
    free_text,
    gold_text,
    script_of,
    source_text,
)
from finetooth.quality.rules.language import TEXT, language

BEGINNING = 300  # characters of an answer in which a refusal stands
RARE = 0.02  # share of the training answers in a language up to which it is not one of the task's
LONG = 40  # letters of an answer whose language is judged
FOREIGN = 0.3  # share of letters of scripts that neither training answers nor the row have
PLAIN = 0.15  # share of the words of a text that show that it is English
_PLAIN_WORDS = (
    "the and of to is that it with are for this was by as from were have has you your not but they their can "
    "his her which will its be or at there what would"
)
_ENGLISH = frozenset(_PLAIN_WORDS.split())
_DOES = (
    r"(?:help|assist|answer|provide|comply|fulfil|respond|do that|do this|complete|generate|create|write"
    r"|offer|give|share|discuss|engage|process|support|determine|tell|access|summari[sz]e|translate|classify"
    r"|extract|make|perform|say)"
)
_CANNOT = (
    r"(?:can(?:not|['’]?t| not)|won['’]?t|will not|(?:do not|don['’]t) feel comfortable"
    r"|(?:am|['’]m)(?: currently)? (?:not able|unable|not allowed|not permitted|not comfortable) (?:to|with))"
)
_REFUSAL = re.compile(
    rf"\bI ?{_CANNOT}(?: (?:really|directly|actually|possibly|currently))? {_DOES}\w*\b"
    rf"|\bI['’]m {_CANNOT[len('(?:') :].split('|', 1)[0] and ''}(?:not able|unable) to {_DOES}\b"
    r"|\bas an? (?:AI|artificial intelligence|(?:large )?language model)\b"
    r"|\bI(?:['’]m| am) (?:just |only )?an? (?:AI|(?:large )?language model)\b"
    r"|\bI (?:do not|don['’]t) have (?:access to|the ability|sufficient|personal"
    r"|enough (?:information|context))"
    r"|\b(?:I(?:['’]m| am) sorry|sorry|apologies|I apologi[sz]e)\b[^.!?\n]{0,40}\b(?:but )?"
    rf"(?:I|we) (?:{_CANNOT}|can['’]?t|cannot)(?! (?:find|see)\w*\b)"
    r"|\b(?:I|we) must (?:respectfully )?(?:decline|refuse)\b|\bI(?:['’]d| would) (?:prefer|rather) not\b"
    r"|\bI (?:decline|refuse) to\b|\bI(?:['’]m| am) (?:not able|unable) to\b|\b(?:against|violates?) my"
    r" (?:guidelines|programming|policy|policies)\b|\bunable to (?:help|assist|comply|fulfil+|answer)\b"
    r"|\b(?:ich kann (?:dir |ihnen |euch )?(?:dabei |damit |das )?(?:leider )?nicht"
    r"|tut mir leid, aber|als KI)\b"
    r"|\b(?:je ne peux pas|je suis désolée?, mais|en tant qu['’]IA)\b"
    r"|\b(?:no puedo (?:ayudar|responder|proporcionar)|lo siento, pero|como (?:una )?IA)\b",
    re.IGNORECASE,
)


def _refusal(row: AnsweredRow, context: TagContext) -> Evidence | None:
    if row.chosen:
        return None
    found = _REFUSAL.search(row.text[:BEGINNING])
    if found is None or _REFUSAL.search(gold_text(row.example)):
        return None
    return Evidence(f"refuses: {found[0]}", found.start(), found.end())


def _wrong_language(row: AnsweredRow, context: TagContext) -> Evidence | None:
    text = row.text
    if not free_text(row, context) or not context.answers or len(text) < LONG // 2:
        return None
    gold = gold_text(row.example)
    if script := _foreign_script(row, context):
        return Evidence(f"letters of the script {script.capitalize()}", *_stretch(text, script))
    if sum(map(str.isalpha, text)) < LONG or not (total := sum(context.languages.values())):
        return None
    wanted = "English" if _plainly_english(gold) else language(gold)
    usual = {name for name, count in context.languages.items() if count > RARE * total}
    for start in dict.fromkeys((0, max(0, len(text) - TEXT))):
        part = text[start : start + TEXT]
        if (wanted or "English") == "English" and usual == {"English"} and _plainly_english(part):
            continue
        given = language(part) if len(part) >= LONG else ""
        if given and given != wanted and (wanted or given not in usual):
            asked = wanted or " or ".join(sorted(usual))
            return Evidence(f"in {given}, not in {asked}", start, min(len(text), start + TEXT))
    return None


def _foreign_script(row: AnsweredRow, context: TagContext) -> str:
    """The script of many of an answer's letters that neither training answers nor the row have; or ""."""
    if not {script_of(char) for char in set(row.text)} - context.scripts - {""}:
        return ""
    own = gold_text(row.example) + source_text(row.example)
    known = context.scripts | {script_of(char) for char in set(own)}
    counts = Counter(filter(None, map(script_of, row.text)))
    foreign = {script: count for script, count in counts.items() if script not in known}
    if counts.total() < LONG // 2 or sum(foreign.values()) < FOREIGN * counts.total():
        return ""
    return max(foreign, key=lambda one: foreign[one])


def _plainly_english(text: str) -> bool:
    """Whether many words of a text are those that English is made of: then no model has to be asked."""
    words = text.casefold().split()
    return bool(words) and text.isascii() and sum(word in _ENGLISH for word in words) >= PLAIN * len(words)


def _stretch(text: str, script: str) -> tuple[int, int]:
    """From the first to the last letter of a script."""
    places = [at for at, char in enumerate(text) if script_of(char) == script]
    return places[0], places[-1] + 1


TAGS = (
    Tag("refusal", "refusal", "Declines to answer, where the expected answer does not.", _refusal),
    Tag(
        "wrong-language",
        "wrong language",
        "In another language or script than the expected answers; short texts are not judged.",
        _wrong_language,
    ),
)
