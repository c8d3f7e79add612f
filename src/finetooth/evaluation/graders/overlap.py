"""Graders that say how much of an expected text an answer has: token F1, ROUGE, BLEU, chrF.

All take the best of several expected answers (BLEU and chrF use them jointly, as they are defined), and give
1 to an answer that equals one of them but for white space. Typographic forms do not matter. In scripts
without spaces between words (Chinese, Japanese, Thai, Lao, Burmese, Khmer) every character is a word.
"""

from __future__ import annotations

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from unicodedata import category

from rapidfuzz.distance import Indel, LCSseq

from finetooth.evaluation.graders.forms import fold, normalise_text
from finetooth.evaluation.graders.shared import difference, expected_answers, no_expected_answer
from finetooth.types import Example, Score

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
WORDS = re.compile(r"[^\W_]+")  # for ASCII text the tokens of rouge-score; other letters count too
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff"
)
lcs_length = LCSseq.similarity  # the length of the longest one
Similarity = Callable[[str, str], tuple[float, str]]  # (answer, expected) -> (value, reason)


def _best(example: Example, text: str, similarity: Similarity) -> Score:
    expected = expected_answers(example)
    if not expected:
        return no_expected_answer()
    text, got = fold(text), normalise_text(text)
    scores = []
    for answer in map(fold, expected):
        want = normalise_text(answer)
        value, reason = (1.0, "") if normalise_text(text) == want else similarity(text, answer)
        scores.append(Score(min(value, 1.0), reason, got, want))
    return max(scores, key=lambda score: score.value or 0.0)


def f1(example: Example, text: str) -> Score:
    """F1 of words, without case, ASCII punctuation and the articles a, an, the (SQuAD: Rajpurkar 2016)."""
    return _best(example, text, _word_f1)


def _word_f1(text: str, answer: str) -> tuple[float, str]:
    got, want = Counter(_squad_words(text)), Counter(_squad_words(answer))
    reason = difference([*(want - got).elements()], [*(got - want).elements()], "not expected")
    if not got or not want:
        return float(got == want), reason
    return 2 * (got & want).total() / (got.total() + want.total()), reason


def _squad_words(text: str) -> list[str]:
    return ARTICLES.sub(" ", spaced(text).lower().translate(PUNCTUATION)).split()


def rouge1(example: Example, text: str) -> Score:
    """F of shared words: ROUGE-1 (Lin 2004, section 2), without stemming."""
    return _best(example, text, functools.partial(_rouge_n, n=1))


def rouge2(example: Example, text: str) -> Score:
    """F of shared pairs of words: ROUGE-2. One expected word has none: then equal words are 1."""
    return _best(example, text, functools.partial(_rouge_n, n=2))


def rouge_l(example: Example, text: str) -> Score:
    """F of the longest common subsequence of words: ROUGE-L (Lin 2004, section 3.1), without stemming."""
    return _best(example, text, _rouge_l)


def _rouge_n(text: str, answer: str, n: int) -> tuple[float, str]:
    got, want = _words(text), _words(answer)
    if len(want) < n:
        return float(got == want), ""
    grams = [Counter(zip(*(words[at:] for at in range(n)), strict=False)) for words in (got, want)]
    return _f_measure((grams[0] & grams[1]).total(), grams[0].total(), grams[1].total())


def _rouge_l(text: str, answer: str) -> tuple[float, str]:
    got, want = _words(text), _words(answer)
    if not want:
        return float(not got), ""
    return _f_measure(lcs_length(want, got), len(got), len(want))


def _words(text: str) -> list[str]:
    return (WORDS if text.isascii() else _words_with_marks()).findall(spaced(text.lower()))


@functools.cache
def _words_with_marks() -> re.Pattern[str]:
    """WORDS, in which a letter keeps its vowel signs and accents, which are no letters themselves."""
    marks = "".join(char for char in map(chr, range(0x300, 0xFE30)) if category(char).startswith("M"))
    return re.compile(rf"[^\W_](?:[^\W_]|[{marks}])*")


def spaced(text: str) -> str:
    """The text with spaces around each character (with its marks) of a script that writes none."""
    return text if text.isascii() else _unspaced().sub(r" \1 ", text)


@functools.cache
def _unspaced() -> re.Pattern[str]:
    marks = "".join(char for char in map(chr, range(0xE00, 0x1800)) if category(char).startswith("M"))
    return re.compile(f"([{UNSPACED}][{marks}]*)")


def _f_measure(shared: int, got: int, want: int) -> tuple[float, str]:
    precision, recall = (shared / got if got else 0.0), shared / want
    value = 2 * precision * recall / (precision + recall) if shared else 0.0
    return value, f"precision {precision:.2f}, recall {recall:.2f}"


def bleu(example: Example, text: str) -> Score:
    """Sentence BLEU by sacrebleu, over 100: exponential smoothing, effective order, its 13a tokens."""
    return _by_sacrebleu("bleu", example, text)


def chrf(example: Example, text: str) -> Score:
    """Sentence chrF2 by sacrebleu, over 100: letters in groups of 1 to 6, for languages of any script."""
    return _by_sacrebleu("chrf", example, text)


def _by_sacrebleu(name: str, example: Example, text: str) -> Score:
    def similarity(text: str, answer: str) -> tuple[float, str]:
        wants = [_tokens(name, fold(want)) for want in expected_answers(example)]
        found = _metric(name, True).sentence_score(_tokens(name, text), wants)
        return found.score / 100, f"{name} {found.score:.1f}"

    return _best(example, text, similarity)


def _tokens(name: str, text: str) -> str:
    """The text as sacrebleu gets it. chrF counts characters and needs no words."""
    return spaced(text) if name == "bleu" else text


def rouge(text: str, answer: str, n: int | None) -> float:
    """ROUGE of shared groups of n words; of the longest common subsequence for None."""
    return (_rouge_l(text, answer) if n is None else _rouge_n(text, answer, n))[0]


def fuzzy(text: str, answer: str) -> float:
    """Twice the longest common subsequence of characters over both lengths: rapidfuzz's ratio / 100."""
    return Indel.normalized_similarity(text, answer)


def sentence_bleu(text: str, answer: str) -> float:
    """Sentence BLEU by sacrebleu, over 100."""
    return float(_metric("bleu", True).sentence_score(text, [answer]).score) / 100


def gleu(text: str, answer: str) -> float:
    """Shared groups of 1 to 4 words over those of the longer text (Wu et al. 2016, section 6)."""
    got, want = text.split(), answer.split()
    grams = [
        Counter(gram for n in range(1, 5) for gram in zip(*(words[at:] for at in range(n)), strict=False))
        for words in (got, want)
    ]
    most = max(grams[0].total(), grams[1].total())
    return (grams[0] & grams[1]).total() / most if most else 1.0


def corpus(name: str, examples: Sequence[Example], texts: Sequence[str]) -> dict[str, Any]:
    """BLEU or chrF of all answers together, from 0 to 100, and the signature that says how it was counted.

    It is not the mean of the rows' scores: n-grams are counted over the whole set.
    """
    rows = [[_tokens(name, fold(want)) for want in expected_answers(example)] for example in examples]
    texts = [_tokens(name, fold(text)) for text in texts]
    most = max(map(len, rows))
    streams = [[row[at] if at < len(row) else None for row in rows] for at in range(most)]
    metric = _metric(name, False)
    value = metric.corpus_score(texts, streams).score
    return {"value": value, "signature": str(metric.get_signature())}


@functools.cache
def _metric(name: str, sentence: bool) -> Any:
    from sacrebleu import BLEU, CHRF  # here: it is slow to import, and few need it

    return CHRF() if name == "chrf" else BLEU(effective_order=sentence)
