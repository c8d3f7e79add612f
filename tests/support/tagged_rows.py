"""Rows and answers for the tests of tags: prose that a seed makes, about products with prices and dates."""

from __future__ import annotations

import random

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags import Evidence, TagContext, tag_rows
from finetooth.types import Answer, Example, Message

PLACES = ("Lisbon", "Marseille", "Gdansk", "Bergen", "Utrecht", "Salzburg", "Coimbra", "Tampere")
PEOPLE = ("Amara Okafor", "Jonas Lindqvist", "Mei Tanaka", "Rosa Delgado", "Piotr Nowak", "Leila Haddad")
THINGS = ("lantern", "kettle", "blanket", "notebook", "umbrella", "bracelet", "cushion", "teapot", "guitar")
REMARKS = (
    "The delivery usually arrives within the week and customers can follow it online.",
    "Several visitors mentioned that the material feels remarkably comfortable.",
    "The workshop explains carefully how every single piece is finished by hand.",
    "Orders from abroad are welcome, although shipping takes considerably longer.",
    "Repairs are offered free of charge whenever something breaks during the first year.",
    "Everybody who visited the market praised the friendly atmosphere and honest advice.",
)


def prose_rows(count: int, seed: int = 0) -> list[Example]:
    """Rows with a note as the input, longer than 40 words, and two or three sentences about it."""
    draw, rows = random.Random(seed), []
    for at in range(count):
        place, person, thing = draw.choice(PLACES), draw.choice(PEOPLE), draw.choice(THINGS)
        price, sold = draw.randint(12, 989), draw.randint(1_100, 98_000)
        remarks = draw.sample(REMARKS, 3)
        note = (
            f"Seller: {person}. Town: {place}. Article: {thing}. Price in euros: {price}. "
            f"Sold so far: {sold:,}. Opened on 2019-0{draw.randint(1, 9)}-1{draw.randint(0, 9)}. "
            f"Notes: {' '.join(remarks)}"
        )
        told = (
            f"The {thing} from {place} is made by {person} and costs {price} euros. {draw.choice(remarks)} "
            f"So far {sold:,} were sold."
        )
        rows.append(Example(f"r{at}", (Message("user", note),), (Answer(told),)))
    return rows


def answered(row: Example, text: str, **more: object) -> AnsweredRow:
    """An answer that is wrong."""
    return AnsweredRow(row, text, 0.0, **more)  # type: ignore[arg-type]


def asked(question: str, gold: str, text: str, **more: object) -> AnsweredRow:
    """An answer to a question."""
    return answered(Example("a", (Message("user", question),), (Answer(gold),)), text, **more)


def found(row: AnsweredRow, context: TagContext | None = None) -> dict[str, Evidence]:
    """The tags of one answer."""
    return tag_rows([row], context or TagContext())[0]


def share(rows: list[AnsweredRow], tag: str, context: TagContext) -> float:
    """Of the rows, those with a tag."""
    return sum(tag in tags for tags in tag_rows(rows, context)) / len(rows)
