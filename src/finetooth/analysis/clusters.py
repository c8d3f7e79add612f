"""Wrong answers in clusters of like rows, each with a readable title and typical rows.

Rows are alike by the words of their question, of what was wanted and of what was answered (TF-IDF, reduced by
latent semantic analysis), and grouped by k-means; k is the one with the best silhouette. Of many wrong rows a
sample is clustered, and the others join the nearest centre. The same rows give the same clusters.

Axes: W wrong rows, D dimensions, K clusters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import normalize

from finetooth.analysis.answered import AnsweredRow
from finetooth.data.examples import normalise
from finetooth.data.split import uniform
from finetooth.evaluation.text_features import FUNCTION_WORDS
from finetooth.quality.findings import question

FEWEST_WRONG = 6  # wrong rows: of fewer there are no clusters
SMALLEST = 3  # rows of a cluster; a smaller one is none
MOST = 12  # clusters
SAMPLE, CHARACTERS, DIMENSIONS = 1_500, 2_000, 50
NEAR = 0.35  # least cosine to the centre of a cluster's rows
SHORT = 5  # words of an answer that is a label: compared as a whole
WEIGHTS = (1.0, 0.8, 0.8)  # of the question, of what was wanted and of what was answered
TYPICAL, TITLE_WORDS = 3, 3  # at most
COMMON = 0.15  # the share of a cluster's rows that a word of its title is in
MOST_OF = 0.6  # the share of a cluster's rows that one label speaks for

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Like wrong rows. words: those that distinguish their questions from rows with right answers.

    ids: the nearest to the centre first. typical: ids of up to three with different questions.
    """

    title: str
    words: tuple[str, ...]
    ids: tuple[str, ...]
    typical: tuple[str, ...]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.ids)


def clusters(rows: Sequence[AnsweredRow], seed: int = 0) -> list[Cluster]:
    """The clusters of the wrong rows, the largest first; wrong rows that are like no others are in none."""
    wrong = [row for row in rows if row.wrong]
    if len(wrong) < FEWEST_WRONG:
        return []
    order = sorted(range(len(wrong)), key=lambda at: (uniform(seed, wrong[at].id), at))
    sample = np.array(sorted(order[:SAMPLE]))
    place_WD = _places(wrong)
    if place_WD is None:
        return []
    centre_KD = _centres(place_WD[sample], seed)
    near_WK = place_WD @ centre_KD.T
    own_W = np.where(near_WK.max(axis=1) >= NEAR, near_WK.argmax(axis=1), -1)
    right = Counter(word for row in rows if row.score is not None and not row.wrong for word in _said(row))
    rights = sum(row.score is not None and not row.wrong for row in rows)
    found = []
    for k in range(len(centre_KD)):
        members = [at for at in np.argsort(-near_WK[:, k], kind="stable").tolist() if own_W[at] == k]
        if len(members) >= SMALLEST:
            found.append(_described([wrong[at] for at in members], right, rights))
    return sorted(found, key=lambda one: (-one.rows, one.title))


def _places(wrong: Sequence[AnsweredRow]) -> np.ndarray | None:
    """[W, D], of length 1; None where the rows have no words."""
    parts = []
    for weight, texts in zip(
        WEIGHTS,
        (
            [_question_words(row) for row in wrong],
            [_answer_words(_wanted(row)) for row in wrong],
            [_answer_words(_got(row)) for row in wrong],
        ),
        strict=True,
    ):
        if any(texts):
            kind = TfidfVectorizer(analyzer=list, sublinear_tf=True, max_features=5_000)
            parts.append(weight * kind.fit_transform(texts))
    if not parts:
        return None
    table = sparse.hstack(parts, format="csr")
    if min(table.shape) > DIMENSIONS + 1:
        table = TruncatedSVD(DIMENSIONS, random_state=0).fit_transform(table)
    else:
        table = table.toarray()
    place_WD: np.ndarray = normalize(table)
    return place_WD


def _centres(place_WD: np.ndarray, seed: int) -> np.ndarray:
    """[K, D], of length 1: of the k from 2 to MOST with the best silhouette; one centre for equal rows."""
    distinct = len(np.unique(place_WD.round(6), axis=0))
    if distinct < 3:
        centres = np.unique(place_WD.round(6), axis=0)
        return np.asarray(normalize(centres))
    best, most = (-1.0, np.zeros((0, 0))), min(MOST, distinct - 1, len(place_WD) // SMALLEST)
    for k in range(2, max(2, most) + 1):
        fitted = KMeans(k, n_init=4, random_state=seed).fit(place_WD)
        if len(set(fitted.labels_.tolist())) < 2:
            continue
        score = float(silhouette_score(place_WD, fitted.labels_, metric="cosine"))
        if score > best[0] + 1e-6:
            best = score, fitted.cluster_centers_
    return np.asarray(normalize(best[1] if best[1].size else place_WD.mean(axis=0, keepdims=True)))


def _described(rows: Sequence[AnsweredRow], right: Counter[str], rights: int) -> Cluster:
    """rows: the nearest to the centre first. right: how many of `rights` right rows have each word."""
    counts = Counter(word for row in rows for word in _said(row))
    share = {
        word: (count / len(rows), (right[word] + 0.5) / (rights + 1))
        for word, count in counts.items()
        if count >= max(2, COMMON * len(rows))
    }
    distinct = [word for word, (here, there) in share.items() if here > 1.5 * there]
    words = sorted(distinct, key=lambda word: (share[word][1] - share[word][0], word))[:TITLE_WORDS]
    got, want = _label([_got(row) for row in rows]), _label([_wanted(row) for row in rows])
    title = ", ".join(f'"{word}"' for word in words) or "various questions"
    title += f" answered as {got}" if got else " answered in various ways"
    title += f" (want: {want})" if want else ""
    typical: dict[str, str] = {}
    for row in rows:
        typical.setdefault(normalise(question(row.example)), row.id)
    ids = tuple(row.id for row in rows)
    return Cluster(title, tuple(words), ids, tuple(typical.values())[:TYPICAL])


def _label(texts: Sequence[str]) -> str:
    """The short answer that most of these are; "" if there is none."""
    text, rows = Counter(" ".join(text.split()) for text in texts).most_common(1)[0]
    return text if rows >= MOST_OF * len(texts) and 0 < len(text.split()) <= SHORT else ""


def _wanted(row: AnsweredRow) -> str:
    return row.want or row.example.target


def _got(row: AnsweredRow) -> str:
    return row.got or row.text


def _said(row: AnsweredRow) -> set[str]:
    return set(_question_words(row))


def _question_words(row: AnsweredRow) -> list[str]:
    words = _WORD.findall(question(row.example)[:CHARACTERS].casefold())
    return [word for word in words if len(word) > 1 and word not in FUNCTION_WORDS]


def _answer_words(text: str) -> list[str]:
    """The words of an answer; of a short one the whole, so that two labels with a common word differ."""
    words = _WORD.findall(text[:CHARACTERS].casefold())
    return [" ".join(words)] if 0 < len(words) <= SHORT else words
