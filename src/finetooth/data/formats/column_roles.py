"""Proposes which columns of a sheet are its text, its answer and its id, from names and contents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from finetooth.data.formats.columns import CANONICAL, few_valued
from finetooth.data.read.names import folded_name, similar_names
from finetooth.data.read.table import RawRow, Table

# Names, as `folded_name` gives them, that say what a column is; without one its contents decide.
ANSWERS = (
    *("answer", "reply", "response", "output", "completion", "summary", "translation", "antwort", "lösung"),
    *("zusammenfassung", "übersetzung", "réponse", "respuesta", "solution"),
)
LABELS = (
    *(
        "label",
        "team",
        "category",
        "clas",
        "class",
        "intent",
        "topic",
        "department",
        "queue",
        "tag",
        "sentiment",
    ),
    *(
        "kategorie",
        "abteilung",
        "thema",
        "klasse",
        "zuständig",
        "catégorie",
        "categoría",
        "type",
        "typ",
        "art",
    ),
)
TEXTS = (  # parts of the question also where few different ones occur
    *(
        "subject",
        "title",
        "headline",
        "betreff",
        "titel",
        "überschrift",
        "objet",
        "titre",
        "asunto",
        "título",
    ),
    *("oggetto", "titolo", "assunto", "onderwerp"),
)
IDS = ("id", "nr", "no", "number", "nummer", "key", "ticket", "ticketid", "caseid", "#", "uid", "uuid")
TEXT_WORDS = 2  # median words of a cell from which a column is text
ANSWER_WORDS = 4  # the same, of an answer that no name marks
ID_LENGTH = 40
MOST_COLUMNS = 200  # of a sheet whose contents are looked at: more are no columns that somebody named
NUMBER = re.compile(r"[\d.,:/\s€$%+-]+")  # also a date or an amount


@dataclass(frozen=True, slots=True)
class ColumnRoles:
    """columns: data.columns, {} where nothing was recognised. reasons: column -> what it is, in words.

    unread: columns with contents that have no role. choices: mappings to choose from, where several columns
    could be the answer and no name decides.
    """

    columns: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    choices: tuple[dict[str, str], ...] = ()


def propose_roles(table: Table) -> ColumnRoles:
    """The roles of a sheet's columns.

    The answer is a column of few values (a label), or the last column of text where there are two or more.
    All other columns of text are the question, joined where they are several. A column with another short
    value in every row is the id.
    """
    cells = {
        column: ["" if (cell := row.values.get(column)) is None else str(cell).strip() for row in table.rows]
        for column in table.columns
    }
    filled = {column: [cell for cell in values if cell] for column, values in cells.items()}
    filled = {column: values for column, values in filled.items() if 2 * len(values) > len(table.rows)}
    words = {column: median(len(cell.split()) for cell in values) for column, values in filled.items()}
    numbers = {column for column, values in filled.items() if all(map(NUMBER.fullmatch, values))}
    maybe_labels = [c for c in filled if c not in numbers and folded_name(c) not in TEXTS]
    found = few_valued(maybe_labels, table.rows)
    texts = [
        c
        for c in filled
        if c not in found and c not in numbers and (words[c] >= TEXT_WORDS or folded_name(c) in TEXTS)
    ]
    ids = [column for column in filled if column not in texts and _is_id(filled[column], len(table.rows))]
    id = next((column for column in ids if folded_name(column) in IDS), ids[0] if len(ids) == 1 else None)
    named_answers = [column for column in texts if folded_name(column) in ANSWERS]
    candidates = _named(list(found), LABELS) + named_answers
    if not candidates and len(texts) > 1 and not found and words[texts[-1]] >= ANSWER_WORDS:
        candidates = texts[-1:]
    mappings = [_mapping(texts, answer, answer in found, id) for answer in candidates]
    mappings = [mapping for mapping in mappings if len(mapping) > 1 + (id is not None)]
    if len(mappings) != 1:
        return ColumnRoles(choices=tuple(mappings))
    (columns,) = mappings
    questions = [column for column, role in columns.items() if role in ("text", "context")]
    reasons = {}
    for column, role in columns.items():
        if role == "id":
            reasons[column] = "the id: another one in every row"
        elif role == "label":
            reasons[column] = f"the answer: one of {found[column]} labels"
        elif role == "answer":
            reasons[column] = f"the answer: free text of {words[column]:g} words (median)"
        else:
            reasons[column] = "a part of the text" if len(questions) > 1 else "the text"
    return ColumnRoles(columns, reasons, tuple(column for column in filled if column not in columns))


def suggested_roles(columns: Sequence[str], rows: Sequence[RawRow]) -> dict[str, str]:
    """The mapping to suggest for columns of no known format: of nearly known names, else by what they hold,
    else of the first and the last.
    """
    if found := similar_names(columns, (name for name in CANONICAL if name != "id")):
        return dict(found)
    roles = ColumnRoles() if len(columns) > MOST_COLUMNS else propose_roles(Table("", [*rows], [*columns]))
    first, *_, last = (*columns, *columns) if columns else ("COLUMN", "COLUMN")
    ends = {first: "text"} if first == last else {first: "text", last: "label"}
    return dict(roles.columns or next(iter(roles.choices), ends))


def _named(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of the columns whose name is one of these; all of them where none is."""
    return [column for column in columns if folded_name(column) in names] or list(columns)


def _mapping(texts: Sequence[str], answer: str, is_label: bool, id: str | None) -> dict[str, str]:
    question, role = ("text", "label") if is_label else ("context", "answer")
    columns = {id: "id"} if id is not None else {}
    return {**columns, **{column: question for column in texts if column != answer}, answer: role}


def _is_id(values: Sequence[str], rows: int) -> bool:
    """Whether every row has a short value of its own, without spaces; a price or a text is none."""
    short = all(len(value) <= ID_LENGTH and re.fullmatch(r"[\w#/-]+", value) for value in values)
    return short and len(values) == rows == len(set(values))
