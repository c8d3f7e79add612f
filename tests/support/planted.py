"""Rows with known errors: a seeded generator of sentences, and ways to repeat one almost word for word.

The sentences come from a grammar over word lists, so that two of them share words, pairs of words and whole
frames by chance, as real questions do.
"""

from __future__ import annotations

import random

from finetooth.types import Answer, Example, Message


def words(text: str, between: str | None = None) -> list[str]:
    """The words (or phrases with something between them) of a text."""
    return [word.strip() for word in text.split(between)]


KIND = words("""
old young quiet tired stubborn cheerful hungry careless honest nervous polite clever lonely famous patient
retired angry sleepy generous strict
""")
PERSON = words("""
baker neighbour teacher nurse cousin captain friend tenant courier doctor lawyer singer farmer guide
plumber driver scholar grocer landlord coach student clerk grandmother gardener musician inspector
accountant beekeeper carpenter sailor librarian tourist manager painter tailor judge waiter miller
shepherd potter
""")
DID = words("""
lost repaired ordered painted borrowed sold cancelled found measured photographed returned described
forgot cleaned delivered packed hid inspected rented damaged reported wrapped counted labelled replaced
collected moved insured weighed restored unlocked refused bought sketched parked reserved
""")
LOOK = words("""
blue broken wooden silver heavy unpaid electric leather rusty spare second narrow golden plastic ancient
folding signed frozen woollen round empty modern cheap green striped
""")
THING = words("""
bicycle heater ticket key table fence suitcase record necklace boot window chair umbrella photo mortgage
meter jar printer boat bell kettle tyre contract piano glove policy invoice room pass recipe map door
blanket form telescope lamp crate ladder mirror carpet camera guitar wallet oven basket drum clock statue
saddle violin
""")
BY = words("in at near behind beside under outside above opposite beyond")
PLACE = words("""
cellar station market bridge canal bank stairs dock school square van hall lighthouse airport attic
terrace border bakery hospital river museum library theatre stadium chapel vineyard quarry tunnel factory
forest
""")
WHEN = words(
    """
last Tuesday | before breakfast | during the storm | on the first of May | after the concert |
around midnight | two weeks ago | early this morning | at the end of March | while it rained |
just before closing time | in autumn | on Sunday afternoon | shortly after six | during the holidays |
as the bells rang | yesterday evening | every other week | in the year of the flood | right after lunch
""",
    "|",
)
WHY = words(
    """
because the deadline had passed | to please a difficult customer | although nobody had asked |
since the bill was wrong | and told the police | but kept the receipt | without reading the notice |
so that the children could sleep | and asked for a refund | in spite of the price |
and never mentioned it again | hoping for a better offer | and wrote a long complaint |
to save the deposit | but would not apologise | while all others were away | and paid in cash |
after a bitter argument | to impress the committee
""",
    "|",
)
FRAMES = (
    "{who} {did} {what} {where} {when} {why}",
    "{when} {who} {did} {what} {where}",
    "can you tell me why {who} {did} {what} {when}",
    "it was {who} who {did} {what} {where} {why}",
    "{who} {did} {what} {why}, and {who2} {did2} {what2} {when}",
    "I heard that {who} {did} {what} {where}, {why}",
    "what happens if {who} {did} {what} {when}, {why}",
)  # fmt: skip
VOCABULARY = [*KIND, *PERSON, *DID, *LOOK, *THING, *PLACE]


def sentence(random: random.Random) -> str:
    """One sentence of 8 to 25 words."""
    pick = random.choice
    fill = {"when": pick(WHEN), "why": pick(WHY)}
    for again in ("", "2"):
        fill[f"who{again}"] = f"{pick(('the', 'a', 'our', 'her'))} {pick(KIND)} {pick(PERSON)}"
        fill[f"what{again}"] = f"{pick(('the', 'one', 'my', 'his'))} {pick(LOOK)} {pick(THING)}"
        fill |= {f"where{again}": f"{pick(BY)} the {pick(PLACE)}", f"did{again}": pick(DID)}
    text = pick(FRAMES).format_map(fill)
    return text[0].upper() + text[1:] + random.choice(".?.!")


def texts(count: int, seed: int = 0, least: int = 1, most: int = 3) -> list[str]:
    """Distinct texts of `least` to `most` sentences."""
    generator = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(sentence(generator) for _ in range(generator.randint(least, most)))] = None
    return list(found)


def edit(text: str, share: float, generator: random.Random) -> str:
    """The text with this share of its words (rounded, at least one) replaced by other words."""
    parts = text.split()
    for at in generator.sample(range(len(parts)), max(round(share * len(parts)), 1)):
        parts[at] = generator.choice([word for word in VOCABULARY if word != parts[at].strip(".,?!").lower()])
    return " ".join(parts)


def wrap(text: str, prefix: str = "Read the message and say what it is about:") -> str:
    """The text behind an instruction."""
    return f"{prefix} {text}"


def half(text: str, generator: random.Random) -> str:
    """The first or the second half of the words."""
    parts = text.split()
    middle = len(parts) // 2
    return " ".join(parts[:middle] if generator.random() < 0.5 else parts[middle:])


def recase(text: str, generator: random.Random) -> str:
    """The same words in other case, spacing and end punctuation: equal after normalisation."""
    return (
        generator.choice((str.upper, str.lower, str.title))(text).replace(" ", "  ", 3).rstrip(".?!")
        + "…!?"[1:]
    )


def repunctuate(text: str) -> str:
    """The same words with other punctuation inside."""
    return text.replace(",", " -").replace(". ", "; ").replace("? ", " ... ")


def row(id: str, text: str, answer: str = "yes", **tags: object) -> Example:
    """A question and its answer."""
    return Example(id, (Message("user", text),), (Answer(answer),), {"file": "rows.jsonl", **tags})


def rows(
    texts: list[str], prefix: str = "r", labels: tuple[str, ...] = ("yes", "no", "maybe")
) -> list[Example]:
    """Labelled rows, their labels by turns."""
    return [
        row(f"{prefix}{k}", text, labels[k % len(labels)], label=labels[k % len(labels)], line=k + 1)
        for k, text in enumerate(texts)
    ]
