"""Iterations side by side: what is called fixed or new has changed in the answers, not in their tags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetooth.analysis.answered import AnsweredRow
from finetooth.rundir import write_json
from finetooth.runs.error_analysis import CONSISTENCY, RunAnswers, analyse, answers_digest, further_answers
from finetooth.types import Answer, Example, Message

ASKED = [f"What does the customer of parcel {at} want?" for at in range(60)]


def _example(at: int, answer: str) -> Example:
    return Example(f"r{at}", (Message("user", ASKED[at % 60]),), (Answer(answer),))


def _run(name: str, texts: Sequence[str], train: Sequence[str], **more: Any) -> RunAnswers:
    """A run whose answers are half wrong, trained on rows with these answers."""
    rows = [AnsweredRow(_example(at, "x"), text, float(at % 2)) for at, text in enumerate(texts)]
    trained = [_example(at, text) for at, text in enumerate(train)]
    return RunAnswers(Path(name), rows, trained, {"grader": "f1"}, (), "f1", **more)


def _states(found: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(one["tag"], one["slice"]): one["state"] for one in found["issues"]}


def test_the_same_answers_are_never_fixed_or_new() -> None:
    """The second run was trained on shorter answers, beside which the same answers are too long."""
    answers = [
        f"She wants the parcel {at} sent again, before the end of this very month." for at in range(60)
    ]
    long = [
        f"He wants the whole amount {at} back, and he wants it before the end of May." for at in range(40)
    ]
    short = [f"A refund of {at}." for at in range(40)]
    first, second = _run("first", answers, long), _run("second", answers, short)
    assert any(tag["tag"] == "too-long" and tag["rows"] == 60 for tag in analyse(second)["tags"])
    assert not any(tag["tag"] == "too-long" and tag["rows"] for tag in analyse(first)["tags"])
    states = _states(analyse(second, [first]))
    assert states and set(states.values()) <= {"persisting", "present"}, states


def test_inconsistency_is_compared_where_both_were_asked_again() -> None:
    answers = ["A parcel."] * 60
    unstable = {f"r{at}": ["A letter.", "A bill.", "A parcel."] for at in range(60)}
    stable = {id: ["A parcel."] * 3 for id in unstable}

    def of(one: dict[str, list[str]], other: dict[str, list[str]]) -> dict[tuple[str, str], str]:
        runs = [_run("one", answers, answers, others=one), _run("two", answers, answers, others=other)]
        found = analyse(runs[1], runs[:1])
        return {key: state for key, state in _states(found).items() if key[0] == "inconsistent"}

    assert of({}, unstable) == of(unstable, {}) == {}, "nobody has asked one of them again"
    assert of(unstable, stable) == {("inconsistent", ""): "fixed"}
    assert of(stable, unstable) == {("inconsistent", ""): "new"}
    some = {id: texts for id, texts in unstable.items() if int(id[1:]) < 20}
    found = analyse(
        _run("two", answers, answers, others=some), [_run("one", answers, answers, others=unstable)]
    )
    (issue,) = (one for one in found["issues"] if one["tag"] == "inconsistent")
    assert (issue["rows"], issue["before"], issue["now"], issue["state"]) == (20, 10, 10, "persisting")


def test_further_answers_belong_to_the_answers_beside_which_they_were_asked(tmp_path: Path) -> None:
    rows = _run("one", ["A parcel."] * 4, []).rows
    (tmp_path / CONSISTENCY).parent.mkdir()
    write_json(tmp_path / CONSISTENCY, {"beside": answers_digest(rows), "answers": {"r0": ["A letter."]}})
    assert further_answers(tmp_path, rows) == {"r0": ["A letter."]}
    assert further_answers(tmp_path, _run("one", ["A letter."] * 4, []).rows) == {}, "of other weights"
