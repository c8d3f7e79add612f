"""Personal data and secrets: planted ones are found (B4), look-alikes are not, and none is shown."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from private_values import AROUND, KINDS, harmless, secret

from finetooth.config.task import DataConfig
from finetooth.privacy.masking import mask, redact, redacted_form
from finetooth.privacy.patterns import KINDS as KIND_NAMES
from finetooth.privacy.patterns import find, is_card, is_iban
from finetooth.quality.findings import Finding, View
from finetooth.quality.rules.personal_data import personal_data, secrets
from finetooth.types import Answer, Example, Message

CHECKSUMMED = ("iban", "card")
SECRETS = {"key", "jwt", "pem", "password"}


@pytest.mark.parametrize("kind", KINDS)
def test_planted_values_are_found(kind: str) -> None:
    draw = random.Random(7)
    found = 0
    for _ in range(500):
        text = draw.choice(AROUND).format(KINDS[kind](draw))
        found += any(one.kind in SECRETS if kind == "secret" else one.kind == kind for one in find(text))
    assert found >= (0.95 if kind in CHECKSUMMED else 0.90) * 500


def test_what_only_looks_like_personal_data_is_left_alone() -> None:
    draw = random.Random(11)
    alarms = []
    for _ in range(3000):
        text = draw.choice(AROUND).format(harmless(draw))
        alarms += [(one.kind, text[one.start : one.end], text) for one in find(text)]
    assert len(alarms) <= 0.005 * 3000, alarms[:20]


@pytest.mark.data
def test_phone_numbers_that_people_marked_are_found() -> None:
    folder = Path(os.environ.get("FINETOOTH_DATA") or Path(__file__).parents[4] / "shared" / "data")
    marked = [
        (turn["utterance"], slot["start"], slot["exclusive_end"])
        for path in sorted((folder / "sgd_sample").rglob("dialogues*.json"))
        for dialogue in json.loads(path.read_text(encoding="utf-8"))
        for turn in dialogue["turns"]
        for frame in turn["frames"]
        for slot in frame["slots"]
        if slot["slot"] == "phone_number"
    ]
    assert len(marked) == 160
    missed = [
        text[start:end]
        for text, start, end in marked
        if ("phone", start, end) not in [(one.kind, one.start, one.end) for one in find(text)]
    ]
    assert not missed


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Mail ann@mail.org, or call 555-0134.", "Mail [EMAIL], or call [PHONE]."),
        (
            "IBAN DE89 3704 0044 0532 0130 00 and card 4111 1111 1111 1111 12/26",
            "IBAN [IBAN] and card [CARD] 12/26",
        ),
        ("redis://:s3cr3t@host/0 from 81.2.69.142", "redis://:[PASSWORD]@host/0 from [IP]"),
        ("-----BEGIN PRIVATE KEY-----\nMIIB\n-----BEGIN PRIVATE KEY-----\nMI", "[PRIVATE_KEY]" * 2),
        ("born 12.03.1985, SSN 219-09-9999", "born [BIRTH_DATE], SSN [SSN]"),
        ("IBAN DE89 3704 0044 0532 0130 01", "IBAN DE89 3704 0044 0532 0130 01"),
        ("card 4111 1111 1111 1112", "card 4111 1111 1111 1112"),
        ("icon@2x.png from git@github.com:a/b.git", "icon@2x.png from git@github.com:a/b.git"),
        ("+49 30 901820, +44 7700 900123 2021-05-06", "[PHONE], [PHONE] 2021-05-06"),
    ],
)
def test_masking(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_checksums() -> None:
    assert is_iban("GB82WEST12345698765432") and not is_iban("GB28WEST12345698765432")
    assert is_card("378282246310005") and not is_card("378282246310006") and not is_card("0" * 16)


def rows(count: int, planted: Callable[[random.Random], str], in_answer: bool) -> list[Example]:
    draw = random.Random(3)
    made = []
    for number in range(count):
        value = planted(draw)
        question = Message(
            "user", f"Take the address out: write to {value} by noon." if number % 2 else "Hello"
        )
        answer = Answer(value if in_answer and number % 2 else "Done.")
        made.append(Example(f"r{number}", (question,), (answer,), {"file": "a.jsonl", "line": number + 1}))
    return made


def of(examples: list[Example]) -> View:
    return View({"train": examples}, "qa", DataConfig(train="a.jsonl"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "secret"])
def test_no_finding_holds_a_value(kind: str) -> None:
    examples = rows(60, KINDS[kind], in_answer=True)
    (finding,) = personal_data(of(examples))
    assert finding.severity == "review" and len(finding.hits) >= 27
    assert finding.facts["in_answers"] == len(finding.hits)
    said = json.dumps(finding.to_json(), ensure_ascii=False)
    values = [
        message.content[33:-9] for row in examples for message in row.context if len(message.content) > 9
    ]
    assert not [value for value in values if value and value in said]
    assert "in the answer" in finding.hits[0].evidence and not finding.edits
    named, count = next(iter(finding.facts["values"].items()))
    called = KIND_NAMES[named].one if count == 1 else KIND_NAMES[named].many
    assert f"personal data: {count} {called}. A model can repeat" in finding.summary


def test_secrets_are_found_apart_and_masked_where_the_answer_has_none() -> None:
    examples = rows(40, secret, in_answer=False)
    found: list[Finding] = [*personal_data(of(examples)), *secrets(of(examples))]
    assert [finding.rule for finding in found] == ["secrets"]
    assert {edit.id for edit in found[0].edits} == {f"r{number}" for number in range(1, 40, 2)}
    assert {edit.operation for edit in found[0].edits} == {"mask_pii"}
    assert "postgres://admin:" not in json.dumps(found[0].to_json())


def test_rows_without_any_give_no_finding() -> None:
    draw = random.Random(5)
    examples = rows(200, lambda _: draw.choice(["nobody", "jo@example.com", "room 12"]), in_answer=True)
    assert not [*personal_data(of(examples)), *secrets(of(examples))]


def test_what_is_shown_of_a_value_is_not_the_value() -> None:
    assert redacted_form("email", "john.smith@mail.org") == "j***@***.org"
    assert redacted_form("phone", "+49 30 1234567") == "+4***67"
    assert redact("Ask john.smith@mail.org or AKIA" + "A1B2" * 4) == "Ask j***@***.org or AKIA***"


@pytest.mark.parametrize(
    "text",
    [
        "555-1234 + 12",
        "Compute 212-555-0123 + 12.",
        "212-555-0123 = ?",
        "x = +12345678901",
        "5 + 0612345678 is",
        "0612345678 / 2",
        "020 4567 8901 - 12 = 1",
        "(212) 555-0123 * 2",
        "ranges: 800-200-1000 and 300-400-5000",
        "0110100101 and 0101010111",
        "01 12 23 34 45",
    ],
)
def test_sums_and_plain_numbers_are_no_phone_numbers(text: str) -> None:
    assert not find(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("* 020 7946 0958", "020 7946 0958"),
        ("020 7946 0958 - 24 hours a day", "020 7946 0958"),
        ("+49 30 1234567 / +49 30 7654321", "+49 30 1234567"),
        ("**0612345679** is mine", "0612345679"),
        ("my phone = 0612345679", "0612345679"),
        ("1-800-858-6997 or write", "1-800-858-6997"),
        ("06 12 34 56 78", "06 12 34 56 78"),
        ("no message. 07008009200", "07008009200"),
    ],
)
def test_signs_beside_a_phone_number_do_not_hide_it(text: str, value: str) -> None:
    assert value in [text[one.start : one.end] for one in find(text)]


@pytest.mark.parametrize(
    "number",
    [
        *("0171 / 55 5521", "0171/55 55 21", "0171 / 5555521", "030 / 1234567", "030/12 34 56 78"),
        *("(0171) / 55 55 21", "(0171) 55 55 21", "0171 55 55 21", "0171-555521", "0800 12 34 56 7"),
        *("+49 171 / 55 5521", "+49 (0) 171 / 55 5521", "+49 (0)171/555521", "0049 171 / 555521"),
    ],
)
def test_numbers_are_found_as_germans_write_them(number: str) -> None:
    for text in (f"Rückruf bitte unter {number}.", f"Tel.: {number}", f"{number}, nach 18 Uhr"):
        (one,) = (one for one in find(text) if one.kind == "phone")
        assert text[one.start : one.end] in (number, number[: number.rfind(" ")])


def test_two_numbers_with_a_slash_between_them_are_two() -> None:
    text = "+49 30 1234567 / 30 7654321"
    assert next(text[one.start : one.end] for one in find(text)) == "+49 30 1234567"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Seite 0171 / 55",
            "04 / 2024 und 05 / 2025",
            "0123 / 45 = 3",
            "Art. 0123 45 67",
            "0.171 / 55 5521",
        ),
        *("Maße 0100 / 200 / 300", "04/05/2024", "Lager 0456 / 789 Stück", "Rechnung 0171 / 55 5521"),
        *("Bestellung 0123 45 67 89", "12.05.2024 / 08:30", "2023 / 2024 / 2025", "1000 / 200 300"),
    ],
)
def test_numbers_with_a_slash_between_them_are_no_phone_numbers(text: str) -> None:
    assert not [one for one in find(text) if one.kind == "phone"]


def test_values_in_quotation_marks_are_found() -> None:
    assert mask("the label 'maria.lopez@corp.com'") == "the label '[EMAIL]'"
