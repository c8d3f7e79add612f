"""Cleaning: what each operation does to rows, that it counts right, and that position decides nothing."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from finetooth.config.cleaning import BALANCE, NAMES, TEXT, Operation, operations, validate_operations
from finetooth.errors import DataError
from finetooth.quality.repair import clean as module
from finetooth.quality.repair.clean import CleaningResult, clean
from finetooth.types import Answer, Example, Message


def row(id: str, asked: str, answer: str, label: bool = False, **tags: Any) -> Example:
    own = {"label": answer} if label else {}
    return Example(id, (Message("user", asked),), (Answer(answer),), {"file": "a", "line": 1, **own, **tags})


def run(rows: list[Example], *names: Any, seed: int = 1) -> CleaningResult:
    return clean(rows, operations(names), seed)


def test_the_names_of_the_task_are_the_operations_there_are() -> None:
    assert set(TEXT) == set(module.TEXT) and set(TEXT) < set(NAMES)


def test_text_operations_go_over_messages_answers_thoughts_and_calls() -> None:
    call = {"id": "ann@mail.org", "type": "function", "function": {"name": "send"}}
    call["function"] = {"name": "send", "arguments": '{"to": "ann@mail.org", "n": 1}'}
    talk = Example(
        "t",
        (
            Message("system", "You are ann@mail.org"),
            Message("user", "write"),
            Message("assistant", "", 1.0, {"tool_calls": [call], "reasoning_content": "to ann@mail.org"}),
            Message("tool", '{"from":"ann@mail.org","ok":true}'),
        ),
        (Answer("Sent to ann@mail.org."),),
        {},
    )
    (new,) = run([talk], "mask_pii").examples
    assert new.context[0].content == "You are [EMAIL]"
    (made,) = new.context[2].more["tool_calls"]
    assert made == call | {"function": {"name": "send", "arguments": '{"to": "[EMAIL]", "n": 1}'}}
    assert new.context[2].more["reasoning_content"] == "to [EMAIL]"
    assert new.context[3].content == '{"from":"[EMAIL]","ok":true}'
    assert new.target == "Sent to [EMAIL]."
    assert (new.id, new.tags) == ("t", {})


def test_json_answers_stay_json() -> None:
    rows = [row("a", "x", '{"name": "R&amp;D &quot;x&quot;",\n "n": 1.0}'), row("b", "x", '{"a": 1, "a": 2}')]
    done = run(rows, "strip_html", "normalise_space")
    assert json.loads(done.examples[0].target) == {"name": 'R&D "x"', "n": 1.0}
    assert done.examples[1] == rows[1]


def test_a_label_stays_equal_to_its_tag_and_unmasked() -> None:
    rows = [row("a", "call +49 30 1234567", "+49 30 1234567", label=True), row("b", "x", "a  b", label=True)]
    done = run(rows, "mask_pii", "normalise_space").examples
    assert [(new.context[0].content, new.target, new.tags["label"]) for new in done] == [
        ("call [PHONE]", "+49 30 1234567", "+49 30 1234567"),
        ("x", "a b", "a b"),
    ]


def test_a_row_that_a_text_operation_empties_is_dropped_with_the_reason() -> None:
    done = run([row("a", "x", "<br><br>"), row("b", "x", "fine")], "strip_html")
    assert [new.id for new in done.examples] == ["b"]
    assert done.dropped == {"a": "strip_html left its question or answer empty"}


def test_counts_and_examples_of_changes() -> None:
    rows = [row(str(k), f"mail ann{k}@mail.org" if k < 8 else "nothing", "ok") for k in range(10)]
    rows += [row("copy", "Nothing!", "OK")]
    done = run(rows, "dedupe", "mask_pii")
    first, second = done.steps
    assert (first.operation, first.kept, first.dropped, first.changed) == ("dedupe", 9, 2, 0)
    assert (second.kept, second.dropped, second.changed, len(second.examples)) == (9, 0, 8, 5)
    assert second.examples[0].before == "mail a***@***.org" and second.examples[0].after == "mail [EMAIL]"
    assert set(done.dropped) == {"9", "copy"} and "copy of 8" in done.dropped["9"]
    assert "ann" not in json.dumps([step.to_json() for step in done.steps])
    shown = run([row("a", "<b>ann@mail.org</b>", "x")], "strip_html").steps[0].examples[0]
    assert (shown.before, shown.after) == ("<b>[EMAIL]</b>", "[EMAIL]")


def test_a_change_at_the_end_of_a_long_text_is_shown() -> None:
    shown = run([row("a", "word " * 200 + "end\n\n", "x")], "normalise_space").steps[0].examples[0]
    assert shown.before.endswith("end\n\n") and shown.after.endswith("end")


def test_dropping_what_says_nothing() -> None:
    rows = [row(str(k), f"question {k}", f"answer {k}") for k in range(60)]
    rows += [row("n", "what?", "N/A"), row("q", "...", "an answer"), row("e", "what?", " ")]
    done = run(rows, "drop_empty")
    assert done.dropped == {
        "n": "its answer has no content",
        "q": "its question has no content",
        "e": "its answer has no content",
    }


def skewed(seed: int) -> list[Example]:
    draw = random.Random(seed)
    labels = draw.choices(["a", "b", "c"], [10, 3, 1], k=400)
    return [row(f"r{k}", f"text {k}", label, label=True, region=label * 2) for k, label in enumerate(labels)]


@pytest.mark.parametrize("by", ["label", "region"])
def test_balance_keeps_at_most_so_many_times_the_smallest_class(by: str) -> None:
    rows = skewed(3)
    before = Counter(new.target for new in rows)
    done = run(rows, {"balance": {"by": by, "max_ratio": 2.5}})
    after = Counter(new.target for new in done.examples)
    most = int(2.5 * before["c"])
    assert after == {name: min(count, most) for name, count in before.items()}
    assert done.steps[0].dropped == len(done.dropped) == 400 - after.total()
    assert str(before["c"]) in done.steps[0].note


def test_balance_chooses_by_a_hash_of_the_row_and_the_seed() -> None:
    rows = skewed(4)
    shuffled = random.Random(1).sample(rows, len(rows))
    operation = {"balance": {"by": "label", "max_ratio": 1}}
    kept, again, other = run(rows, operation), run(shuffled, operation), run(rows, operation, seed=2)
    assert {new.id for new in kept.examples} == {new.id for new in again.examples}
    assert {new.id for new in kept.examples} != {new.id for new in other.examples}
    positions = [int(new.id[1:]) for new in kept.examples if new.target == "a"]
    assert max(positions) > 300  # not the first ones
    assert [new.id for new in kept.examples] == sorted(
        (new.id for new in kept.examples), key=lambda i: int(i[1:])
    )


def test_balance_by_a_column_that_no_row_has_says_which_there_are() -> None:
    with pytest.raises(DataError, match=r"no row has 'colour'. The rows have: label, region"):
        run(skewed(1), {"balance": {"by": "colour", "max_ratio": 3}})
    some = [row("a", "x", "y", kind="k"), row("b", "x", "z")]
    assert len(run(some, {"balance": {"by": "kind", "max_ratio": 1}}).examples) == 2


def test_everything_twice_is_everything_once() -> None:
    draw = random.Random(9)
    parts = [
        "<b>x</b>",
        "Ã©",
        "ann@mail.org",
        "  two  ",
        "n/a",
        "&amp;",
        "\x92",
        "word",
        "\u200b",
        "+49 30 123456",
    ]
    rows = [row(str(k), "".join(draw.choices(parts, k=3)), draw.choice(parts)) for k in range(200)]
    names = [*NAMES[:-1], "dedupe"]
    done = run(rows, *names)
    again = run(done.examples, *names)
    assert [(new.id, new.context, new.answers) for new in again.examples] == [
        (new.id, new.context, new.answers) for new in done.examples
    ]
    assert not any(step.changed for step in again.steps)
    assert run(rows, *names) == done


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["dedup"], "there is no operation 'dedup'; did you mean dedupe"),
        (["normalize_space"], "did you mean normalise_space"),
        (["strip_htm"], "did you mean strip_html"),
        (["sort"], "the operations are fix_encoding, strip_html"),
        ("sort", "there is no operation 'sort'"),
        (3, "expected a list of operations"),
        ([3], "an operation is a name or {balance"),
        ([{"dedupe": {"by": "x"}}], "dedupe takes no options"),
        (["balance"], BALANCE),
        ([{"balance": {"by": "label"}}], BALANCE),
        ([{"balance": {"max_ratio": 3, "of": 1}}], BALANCE),
        ([{"balance": {"max_ratio": 0.5}}], "max_ratio must be a number of at least 1"),
        ([{"balance": {"max_ratio": True}}], "max_ratio must be a number of at least 1"),
        ([{"balance": {"by": 3, "max_ratio": 3}}], "by must be label or the name of a column"),
    ],
)
def test_a_wrong_operation_is_refused_with_what_to_write(value: Any, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        validate_operations(value)
    assert words in str(raised.value)


def test_operations_of_a_task() -> None:
    value = ["dedupe", {"strip_html": None}, {"balance": {"max_ratio": "3"}}]
    stored = validate_operations(value)
    assert stored == ["dedupe", "strip_html", {"balance": {"by": "label", "max_ratio": 3.0}}]
    assert validate_operations(stored) == stored and validate_operations("dedupe") == ["dedupe"]
    assert operations(stored)[-1] == Operation("balance", "label", 3.0)
