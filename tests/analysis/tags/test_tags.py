"""Each tag on answers that a reader can judge."""

from __future__ import annotations

import time

import pytest
from tagged_rows import answered, asked, found, prose_rows

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags import TagContext, tag_rows
from finetooth.analysis.tags.figures import figures
from finetooth.errors import GradeError
from finetooth.types import Answer, Example, Message

PROSE = TagContext.of(prose_rows(60), ())
SOURCE = (
    "Sales rose from 1,200 units in 2019 to 1,500 on March 3rd 2020 at 14:30. "
    "Margin: 12.5%. Anna Kovacs said so."
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,234.5 and twenty-five", [1234.5, 25]),
        ("two hundred and six; 3.5 million; 12%", [206, 3.5e6, 12]),
        ("1. First\n2. Second 7", [1, 2, 7]),
        ("2020-03-04 at 5:30", [2020, 3, 4, 5, 30]),
        ("$20-30, the 14th", [20, 30, 14]),
        ("half a dozen", [0.5, 12]),
    ],
)
def test_numbers_of_a_text(text: str, values: list[float]) -> None:
    read = [figure.value for figure in figures(text)]
    if text.startswith("1. "):
        assert read == [1, 2, 7]  # "First", "Second", 7: the marks of the list are none
    else:
        assert read == values


@pytest.mark.parametrize(
    "text",
    [
        "They sold 1500 units in 2020.",
        "An increase of 300 units, or 25%.",
        "Sales rose by 25 percent in total.",
        "On 3/3/2020 at 2:30 pm.",
        "The margin was 12.5 percent, so 13% or so.",
        "1. Sales rose.\n2. Anna spoke.\n3. The margin is fine.",
        "There are two of them.",
        "About one thousand five hundred units.",
    ],
)
def test_numbers_of_the_input_in_other_forms_are_supported(text: str) -> None:
    assert "unsupported-number" not in found(asked(SOURCE, "x", text))


@pytest.mark.parametrize(
    "text", ["They sold 1,600 units.", "It was 2:35 pm.", "In 2018.", "A margin of 17%."]
)
def test_other_numbers_are_not_supported(text: str) -> None:
    evidence = found(asked(SOURCE, "x", text))["unsupported-number"]
    assert text[evidence.start : evidence.end].strip("%") in text and "the input has no" in evidence.words


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("According to Peter Smith, sales rose.", "unsupported-entity"),
        ("Write to sales@example.com for more.", "unsupported-entity"),
        ("See https://example.com/x for more.", "unsupported-entity"),
        ("The order KV-2231 was sold.", "unsupported-entity"),
        ("She said: “we will never ever sell again”.", "unsupported-quote"),
        ("According to anna kovács and Anna Kovács, sales rose.", None),
        ("Kovacs spoke on Monday. Sales rose. However, Margin fell.", None),
        ("It says “Sales rose from 1,200 units”.", None),
    ],
)
def test_names_and_quotes(text: str, tag: str | None) -> None:
    tags = {
        name
        for name in found(asked(SOURCE, "x", text))
        if name.startswith("unsupported-e") or "quote" in name
    }
    assert tags == ({tag} if tag else set())


def test_chosen_labels_and_label_tasks_have_no_unsupported_content() -> None:
    context = TagContext(labels=("Peter 7",), labelled=True)
    assert found(asked(SOURCE, "x", "Peter 7"), context) == {}
    assert found(asked(SOURCE, "x", "Yes, Peter 7", chosen=True)) == {}


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("billing", None),
        ("Billing.", "near-miss-label"),
        ("biling", "near-miss-label"),
        ("refund request", "near-miss-label"),
        ("The label is refund_requests", None),
        ("I think it is billing, mostly", "near-miss-label"),
        ("complaint", "off-list-label"),
        ("", None),
    ],
)
def test_written_labels(text: str, tag: str | None) -> None:
    context = TagContext(labels=("billing", "refund_requests", "delivery"), labelled=True)
    tags = found(asked("q", "delivery", text), context)
    assert {name for name in tags if "label" in name} == ({tag} if tag else set())
    assert found(asked("q", "delivery", text, chosen=True), context).keys() <= {"too-short"}


def test_every_invented_label_is_off_the_list() -> None:
    labels = ("billing", "refund_requests", "delivery", "technical issue")
    context = TagContext(labels=labels, labelled=True)
    invented = [
        f"{one} {two}" for one in ("quantum", "solar", "velvet") for two in ("storm", "harvest", "parade")
    ]
    assert all("off-list-label" in found(asked("q", "billing", one), context) for one in invented)


def test_labels_in_lists() -> None:
    context = TagContext(labels=("red", "green", "blue"), labelled=True, several=True)
    assert found(asked("q", "red, blue", "red, purple"), context).keys() == {"off-list-label"}
    assert found(asked("q", "red, blue", "red, Blues"), context).keys() == {"near-miss-label"}
    assert found(asked("q", "red, blue", "red, green"), context) == {}


SCHEMA = {
    "type": "object",
    "required": ["name", "age"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "kind": {"enum": ["a", "b"]},
    },
}
VIOLATIONS = [
    '{"name": "Ann", "age": "7"}',
    '{"name": "Ann"}',
    '{"name": "Ann", "age": -1}',
    '{"name": "Ann", "age": 7, "kind": "c"}',
    '{"name": "Ann", "age": 7, "more": 1}',
    '{"name": "Ann", "age": 7',
    '["Ann", 7]',
    "Ann is 7",
    '{"name": "Ann", "age": 7} {"name": "Bob", "age": 8}',
]
VALID = [
    '{"name": "Ann", "age": 7}',
    '```json\n{"age": 7, "name": "Ann", "kind": "a"}\n```',
    'Here: {"name": "", "age": 0}',
]


def test_all_violations_of_a_schema_are_found_and_no_others() -> None:
    context = TagContext.of([], (), {"name": "json", "schema": SCHEMA})
    for text in VIOLATIONS:
        assert "broken-format" in found(asked("q", VALID[0], text), context), text
    for text in VALID:
        assert "broken-format" not in found(asked("q", VALID[0], text), context), text
    with pytest.raises(GradeError):
        TagContext.of([], (), "auto", {"type": "nonsense"})


def test_training_answers_show_the_form_of_json() -> None:
    train = [
        Example(f"r{at}", (Message("user", f"n{at}"),), (Answer(f'{{"name": "n{at}", "age": {at}}}'),))
        for at in range(40)
    ]
    context = TagContext.of(train, ())
    wrong = [
        '{"name": "x"}',
        '{"name": 1, "age": 2}',
        '{"name": "x", "age": 2, "z": 1}',
        "[1]",
        "no",
        '{"name": "x", ',
    ]
    for text in wrong:
        assert "broken-format" in found(answered(train[0], text), context), text
    assert "broken-format" not in found(answered(train[0], '{"age": 5, "name": "y"}'), context)
    cut = found(answered(train[0], '{"name": "x", "age": }'), context)["broken-format"]
    assert cut.start is not None


def test_length_is_measured_by_training_answers_and_the_row() -> None:
    row = prose_rows(1, seed=9)[0]
    assert "too-long" in found(
        answered(row, " ".join([row.target, row.context[0].content, row.target])), PROSE
    )
    assert "too-short" in found(answered(row, "It costs 4."), PROSE)
    assert "too-short" in found(answered(row, "  "), PROSE)
    long = Example("long", row.context, (Answer(row.target * 4),))
    assert not {"too-long"} & found(answered(long, row.target * 4), PROSE).keys()
    short = Example("short", row.context, (Answer("It is 4."),))
    assert "too-short" not in found(answered(short, "It is 5."), PROSE)


def test_cut_off_is_told_from_not_stopping() -> None:
    row = asked("q", "the blue door", "the blue door and then the green", stop="length")
    assert {"no-stop-token"} == found(row).keys()
    assert found(row)["no-stop-token"].start == len("the blue door")
    assert "cut-off" in found(asked("q", "the blue door", "the red door and th", stop="length"))
    assert "cut-off" in found(asked("q", "the blue door", "the blue doormat", stop="length"))
    assert "no-stop-token" in found(asked("q", "yes", "yes\nUser: and this?\nAssistant: no"))
    assert found(asked("q", "yes", "yes, it is")) == {}
    assert found(asked("q", "yes\nQuestion: is it?", "no\nQuestion: is it?")) == {}  # the answers have turns


@pytest.mark.parametrize(
    ("text", "looped"),
    [
        ("I like it a lot. I like it a lot. I like it a lot.", True),
        ("no, no, no", False),
        ("ja ja ja ja ja ja ja", True),
        ("the the the the", True),
        ("a1" * 30, True),
        ("-" * 80 + " table " + "=" * 80, False),
        ("Once upon a time there was a king. Once upon a time there was a queen.", False),
    ],
)
def test_loops(text: str, looped: bool) -> None:
    assert ("repetition" in found(asked("q", "x", text))) == looped


def test_a_loop_that_is_wanted_is_none() -> None:
    text = "row your boat row your boat row your boat"
    assert "repetition" not in found(asked("sing", text, text))


def test_stretches_of_the_input_are_found_unless_they_are_wanted() -> None:
    row = prose_rows(1, seed=5)[0]
    copy = "Here it is. " + row.context[0].content
    evidence = found(answered(row, copy), PROSE)["copied-context"]
    assert copy[evidence.start : evidence.end] in row.context[0].content
    wanted = Example("a", row.context, (Answer(copy),))
    assert "copied-context" not in found(answered(wanted, copy), PROSE)


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that request.", True),
        ("As an AI language model I have no opinion.", True),
        ("I’m unable to assist with this.", True),
        ("I cannot answer without more context.", True),
        ("Es tut mir leid, aber das geht nicht.", True),
        ("Sorry, I could not find any flights on Monday.", False),
        ("You cannot return it after 30 days, sorry.", False),
        ("Planes can't fly to the moon.", False),
    ],
)
def test_refusals(text: str, refuses: bool) -> None:
    assert ("refusal" in found(asked("q", "x", text))) == refuses
    assert "refusal" not in found(asked("q", "I'm sorry, but I can't help with that.", text))


def test_another_language_or_script_than_the_wanted() -> None:
    row = prose_rows(1, seed=3)[0]
    german = (
        "Die Laterne wird von Hand gemacht und kostet sehr wenig, sagen die Kunden auf dem Markt jeden Tag."
    )
    assert "German" in found(answered(row, german), PROSE)["wrong-language"].words
    assert (
        "Cyrillic"
        in found(answered(row, "Фонарь из Лиссабона стоит очень мало денег."), PROSE)["wrong-language"].words
    )
    assert "wrong-language" not in found(answered(row, "Guten Tag!"), PROSE)
    assert "wrong-language" not in found(answered(row, row.target), PROSE)
    drift = row.target + " " + german * 3
    assert found(answered(row, drift), PROSE)["wrong-language"].start > 0


@pytest.mark.parametrize(
    "text",
    [
        "Run `pip instal` or see https://example.com/instal and C:\\instal\\filse.",
        "The getUserNmae function and NASDAQQ are fine.",
        "The colour of the neighbour's theatre was analysed in the catalogue.",
        "Die Straße ist gesperrt, weil die Brücke heute leider repariert werden muss und niemand fährt.",
        "```\nretrun valeu\n```",
    ],
)
def test_what_is_no_misspelling(text: str) -> None:
    assert "misspelling" not in found(asked("q", "x", text))


def test_words_of_the_row_and_of_training_are_known() -> None:
    text = "The recieved parcel was fine."
    assert "recieved" in found(asked("q", "x", text))["misspelling"].words
    assert "misspelling" not in found(asked("a recieved parcel", "x", text))
    assert "misspelling" not in found(asked("q", "it was recieved", text))
    assert "misspelling" not in found(asked("q", "x", text), TagContext(vocabulary={"recieved": 1}))


@pytest.mark.parametrize(
    "unit", ["a", "ab-", "A1-", "word ", "1,", "“", "I am ", "x.y/", "Name of ", "\\a{", "5:30 "]
)
def test_hostile_answers_take_no_longer_than_others(unit: str) -> None:
    text = (unit * 20_000)[:20_000]
    start = time.process_time()
    found(asked(SOURCE, "x", text), PROSE)
    assert time.process_time() - start < 3


def test_many_rows_are_tagged_fast() -> None:
    rows = [answered(row, row.target) for row in prose_rows(2_000, seed=2)]
    tag_rows(rows[:10], PROSE)  # the dictionary is loaded
    start = time.process_time()
    tag_rows(rows, PROSE)
    assert time.process_time() - start < 4  # 20,000 in 40 s; 12 s measured


def test_rows_without_a_grade_or_a_context_are_tagged_too() -> None:
    bare = AnsweredRow(Example("a", (), ()), "text 7 by Peter", None)
    assert found(bare) == {} and found(bare, PROSE).keys() <= {"too-short"}
