"""The user's own tags: by a pattern, by a function, by examples."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags import TAGS, TagContext, tag_rows
from finetooth.analysis.tags.custom import ByExample, custom_tags, nearest_tag, similar_rows
from finetooth.errors import ConfigError
from finetooth.types import Answer, Example, Message


def answered(text: str, id: str = "a") -> AnsweredRow:
    return AnsweredRow(Example(id, (Message("user", "why?"),), (Answer("so"),)), text, 0.0)


def tagged(tags, text: str) -> dict:
    return tag_rows([answered(text)], TagContext(), tags.tags)[0]


def test_a_pattern_and_a_function_find_what_they_describe(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def shouts(example, text):\n    return text.isupper()\n"
        "def says(example, text):\n    return 'says no' if 'no' in text else ''\n"
    )
    given = {
        "impolite": {"pattern": r"(?i)\bread the (manual)\b", "title": "Impolite"},
        "shouts": {"function": "mine.py:shouts"},
        "says no": {"function": "mine.py:says"},
    }
    tags = custom_tags(given, tmp_path)
    text = "Please Read the manual"
    found = tagged(tags, text)["impolite"]
    assert (text[found.start : found.end], tags.tags[0].title) == ("Read the manual", "Impolite")
    assert tagged(tags, "WHAT?").keys() == {"shouts"}
    assert tagged(tags, "well, no")["says no"].words == "says no"
    assert tagged(tags, "well, yes") == {}


def test_a_pattern_that_would_run_for_ever_is_stopped() -> None:
    tags = custom_tags({"evil": {"pattern": r"(a+)+$"}}, seconds=0.5)
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"tags.yaml: evil .*longer than.* row a"):
        tagged(tags, "a" * 60 + "!")
    assert time.monotonic() - start < 20
    assert tagged(tags, "aaa").keys() == {"evil"}  # in a new process


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": {"patern": "a"}}, "unknown key 'patern'. Did you mean pattern?"),
        ({"x": {"pattern": "(a"}}, "'\\(a' is not a regular expression: missing \\)"),
        ({"x": {"pattern": "a", "examples": []}}, "found pattern and examples"),
        ({"x": {"title": "a"}}, "expected one of pattern, function, examples, found none"),
        ({"x": "a"}, "expected one of pattern, function, examples"),
        ({"x": {"examples": ["r1", "r2", "r3", "r4", "r4"]}}, "4 rows are too few .* 10 are advised"),
        ({"x": {"function": "nowhere.py:f"}}, "there is no such file"),
        ({"x": {"function": "nowhere"}}, "expected file.py:function"),
        ({"misspelling": {"pattern": "a"}}, "is a tag that finetooth has"),
        (["x"], "expected names of tags"),
    ],
)
def test_what_is_wrong_is_said(given, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        custom_tags(given, tmp_path, [tag.name for tag in TAGS])


def test_a_function_that_crashes_is_named_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "def f(example, text):\n    return 1 / 0\ndef g(example, text):\n    return 3\n"
    )
    for name, message in (
        ("f", "row a: ZeroDivisionError"),
        ("g", "returned int, expected True, False or words"),
    ):
        tags = custom_tags({"x": {"function": f"bad.py:{name}"}}, tmp_path)
        with pytest.raises(ConfigError, match=message):
            tagged(tags, "text")


def vectors(seed: int, planted: int, rows: int = 400, wide: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Rows of noise around one common direction, as hidden states are; the first `planted` share another."""
    draw = np.random.default_rng(seed)
    made = draw.normal(size=(rows, wide)) + 8 * draw.normal(size=wide)
    made[:planted] += 1.2 * draw.normal(size=wide)
    return made, np.arange(planted)


def test_examples_find_the_others_of_their_cluster_and_few_else() -> None:
    recall, false = [], []
    for seed in range(20):
        vectors_RD, planted = vectors(seed, 40)
        found = nearest_tag(vectors_RD, planted[:10])
        assert found is not None
        score_R, threshold = found
        recall.append(np.mean(score_R[10:40] >= threshold))
        false.append(np.mean(score_R[40:] >= threshold))
    assert np.mean(recall) >= 0.9 and np.mean(false) <= 0.02


def test_examples_without_anything_in_common_find_next_to_nothing() -> None:
    shares = []
    for seed in range(30):
        found = nearest_tag(vectors(seed, 0)[0], range(10))
        shares.append(0.0 if found is None else float(np.mean(found[0] >= found[1])))
    assert np.mean(shares) <= 0.1


def test_rows_like_the_examples_are_tagged_by_id() -> None:
    vectors_RD, _ = vectors(3, 40)
    ids = [f"r{at}" for at in range(400)]
    tag = ByExample("x", "x", "x", (*ids[:10], "gone"))
    found = similar_rows(tag, ids, vectors_RD)
    assert found["r0"].words == "one of the tag's examples" and "similarity" in found["r20"].words
    few = ByExample("x", "x", "x", ("r0", "gone", "lost", "left", "away"))
    assert similar_rows(few, ids, vectors_RD).keys() == {"r0"}
    with pytest.raises(ConfigError, match="too few"):
        nearest_tag(vectors_RD, [1, 1, 2, 3, 4])
