"""The user's own tags, from a mapping (tags.yaml): a pattern, a function, or rows that have the error.

    impolite:
      pattern: "(?i)\\bread the manual\\b"
    wrong tone:
      function: mytags.py:wrong_tone        # (Example, text) -> bool, or words
    blames the customer:
      examples: [row 12, row 80, row 81, row 95, row 101]

Patterns and functions run in the watched process of custom graders, so that none can run for ever.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags.base import Evidence, Tag, TagContext
from finetooth.data.watched import Failed, Worker
from finetooth.errors import ConfigError

LOAD_SECONDS = 60.0  # a file may import large libraries
SECONDS = 5.0  # of a pattern or function for one answer
FEWEST, ADVISED = 5, 10  # examples of an error
WAYS = ("pattern", "function", "examples")
KEYS = (*WAYS, "title", "about")
_WORKER = Worker("finetooth.analysis.tags.worker")
_NAME = re.compile(r"[\w][\w .:/'-]{0,59}")


@dataclass(frozen=True, slots=True)
class ByExample:
    """A tag that is given by rows. examples: their ids, five or more. title, about: as of a Tag."""

    name: str
    title: str
    about: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CustomTags:
    """The user's tags: those that look at one answer, and those that need hidden states (`nearest_tag`)."""

    tags: tuple[Tag, ...] = ()
    by_example: tuple[ByExample, ...] = ()


def custom_tags(
    given: Mapping[str, Any] | None,
    folder: Path | None = None,
    known: Sequence[str] = (),
    where: str = "tags.yaml",
    seconds: float = SECONDS,
) -> CustomTags:
    """The tags of a mapping. folder: where functions may be. known: names of tags that are taken.

    where: the file, for messages. seconds: the most that one answer may take. ConfigError for a mapping that
    is none, a bad pattern or function, an unknown key.
    """
    if given is None:
        return CustomTags()
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"{where}: expected names of tags, as in `impolite: {{pattern: ...}}`, found {given!r}."
        )
    tags, by_example = [], []
    for name, entry in given.items():
        place = f"{where}: {name}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"{where}: {name!r} is no name of a tag. Expected words of 60 characters at most."
            )
        if name in known:
            raise ConfigError(f"{place} is a tag that finetooth has. Choose another name.")
        way = _way(entry, place)
        title, about = (str(entry.get(key, name)) for key in ("title", "about"))
        if way == "examples":
            by_example.append(ByExample(name, title, about, _examples(entry[way], place)))
        else:
            tags.append(Tag(name, title, about, _Watched(way, entry[way], folder, place, seconds)))
    return CustomTags(tuple(tags), tuple(by_example))


def _way(entry: Any, place: str) -> str:
    """How an entry says what its tag is: the one of WAYS that it has."""
    if not isinstance(entry, Mapping):
        raise ConfigError(
            f"{place}: expected one of {', '.join(WAYS)}, as in {{pattern: ...}}, found {entry!r}."
        )
    for key in entry:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, 1)
            hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(KEYS)}."
            raise ConfigError(f"{place}: unknown key {key!r}. {hint}")
    ways = [way for way in WAYS if way in entry]
    if len(ways) != 1:
        found = " and ".join(ways) or "none"
        raise ConfigError(f"{place}: expected one of {', '.join(WAYS)}, found {found}.")
    return ways[0]


def _examples(ids: Any, place: str) -> tuple[str, ...]:
    if not isinstance(ids, list):
        raise ConfigError(f"{place}: examples: expected a list of row ids, found {ids!r}.")
    distinct = tuple(dict.fromkeys(map(str, ids)))
    if len(distinct) < FEWEST:
        raise ConfigError(
            f"{place}: examples: {len(distinct)} rows are too few to find others like them. Name {FEWEST} or "
            f"more; {ADVISED} are advised."
        )
    return distinct


class _Watched:
    """Detects by a pattern or a function, in the watched process. ConfigError for one that cannot be used."""

    def __init__(self, way: str, value: Any, folder: Path | None, place: str, seconds: float) -> None:
        self._place, self._seconds = place, seconds
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{place}: {way}: expected a text, found {value!r}.")
        if way == "pattern":
            try:
                re.compile(value)
            except (re.error, RecursionError, OverflowError) as error:
                raise ConfigError(f"{place}: {value!r} is not a regular expression: {error}.") from None
        elif ":" not in value:
            raise ConfigError(f"{place}: function: expected file.py:function, found {value!r}.")
        elif folder is not None and ".py:" in value:
            value = str(folder / value)
        self._source = way, value, folder
        self._load()

    def _load(self) -> None:
        loaded = self._ask("load", *self._source, str(Path.cwd()), seconds=LOAD_SECONDS, doing="was loaded")
        self._handle, self._loaded_in = loaded["handle"], _WORKER.restarts

    def _ask(self, call: str, *values: Any, seconds: float, doing: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = _WORKER.ask(call, *values, seconds=seconds)
        except Failed as failed:
            raise ConfigError(f"{self._place} {failed} while it {doing}. Mend it in the file.") from None
        if "error" in answer:
            raise ConfigError(f"{self._place} failed while it {doing}: {answer['error']}")
        return answer

    def __call__(self, row: AnsweredRow, context: TagContext) -> Evidence | None:
        if _WORKER.start() != self._loaded_in:
            self._load()
        given = (self._handle, row.example, row.text)
        found = self._ask("detect", *given, seconds=self._seconds, doing=f"looked at row {row.id}")["found"]
        return Evidence(*found) if found else None


def nearest_tag(
    vectors_RD: np.ndarray, example_at: Sequence[int], strict: float = 0.5
) -> tuple[np.ndarray, float] | None:
    """(similarity of R rows to the examples of an error, the threshold from which the tag holds); or None.

    vectors_RD: a vector of each answered row, such as its mean hidden state. example_at: rows that are
    examples, five or more. A row's similarity is the mean cosine to its three nearest examples, itself left
    out, after the mean of all rows is taken off, since hidden states share most of their direction. The
    threshold lies between the median of the examples and the third quartile of other rows, at the share
    `strict` of the way up. None where the examples are no nearer to each other than other rows are to them:
    such an error cannot be found this way. ConfigError for too few examples.
    """
    at = np.array(sorted(set(example_at)))
    if len(at) < FEWEST:
        raise ConfigError(
            f"{len(at)} examples of an error are too few to find others. Name {FEWEST} or more."
        )
    centred_RD = np.asarray(vectors_RD, dtype=np.float64)
    centred_RD = centred_RD - centred_RD.mean(0)
    unit_RD = centred_RD / np.maximum(np.linalg.norm(centred_RD, axis=1, keepdims=True), 1e-12)
    cosine_RE = unit_RD @ unit_RD[at].T
    cosine_RE[at, np.arange(len(at))] = -np.inf  # leave one out
    near_R = np.sort(cosine_RE, axis=1)[:, -3:].mean(1)
    others = np.setdiff1d(np.arange(len(near_R)), at)
    if not len(others):
        return None
    # Other rows hold undiscovered errors of this kind, so their upper tail is cut off before it is looked at.
    low, high = float(np.quantile(near_R[others], 0.75)), float(np.quantile(near_R[at], 0.5))
    if high <= low or float(np.quantile(near_R[at], 0.25)) <= low:
        return None
    return near_R, low + strict * (high - low)


def similar_rows(tag: ByExample, ids: Sequence[str], vectors_RD: np.ndarray) -> dict[str, Evidence]:
    """Row id -> evidence, of the rows that are like a tag's examples, and of these. ids: of R vectors.

    Empty where fewer than five examples are among the ids, or they have nothing in common.
    """
    place = {one: at for at, one in enumerate(ids)}
    found = {one: Evidence("one of the tag's examples") for one in tag.examples if one in place}
    if len(found) < FEWEST or (near := nearest_tag(vectors_RD, [place[one] for one in found])) is None:
        return found
    score_R, threshold = near
    for at in map(int, np.flatnonzero(score_R >= threshold)):
        words = f"like the tag's examples: similarity {score_R[at]:.2f}, from {threshold:.2f} on"
        found.setdefault(ids[at], Evidence(words))
    return found
