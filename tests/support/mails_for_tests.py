"""A sheet of support mails as an office program writes it: Windows-1252, semicolons, people's mistakes."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

HEADER = ["Nr", "Betreff", "Text", "Team"]
TEAMS = {
    "Abrechnung": ["Rechnung {} ist falsch", "Doppelt abgebucht: {} Euro", "Rückerstattung {} fehlt noch"],
    "Versand": ["Paket {} ist nicht da", "Wo bleibt die Lieferung {}?", "Sendung {} war beschädigt"],
    "Technik": ["Die App stürzt ab, Fehler {}", "Anmeldung schlägt fehl, Code {}", "Gerät {} lädt nicht"],
}
WORDS = ["Haus", "Garten", "Brücke", "Straße", "Fluss", "Berg", "Wolke", "Regen", "Sonne", "Wind", "Tür"]


def mails(count: int, seed: int = 0, first: int = 0) -> list[list[str]]:
    """Rows of HEADER; each team has subjects of its own, and every text words at random."""
    draw = random.Random(seed)
    rows = []
    for number in range(first, first + count):
        team = draw.choice(list(TEAMS))
        subject = draw.choice(TEAMS[team]).format(draw.randint(1000, 9999))
        text = f"Guten Tag,\n{' '.join(draw.choices(WORDS, k=12))}. Grüße – Kunde {number}"
        rows.append([f"M-{number:04}", subject, text, team])
    return rows


def untidy_mails() -> list[list[str]]:
    """400 mails, with 5 copies, 6 empty cells and one label spelled in two ways."""
    rows = mails(400)
    for number in range(5):
        rows[100 + number][1:] = rows[50 + number][1:]
    for number, column in ((10, 3), (20, 3), (30, 3), (40, 3), (60, 2), (70, 1)):
        rows[number][column] = ""
    for row in [row for row in rows if row[3] == "Technik"][:9]:
        row[3] = "technik"
    return rows


def write_sheet(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> Path:
    """The sheet as a CSV file in Windows-1252 with semicolons."""
    with path.open("w", encoding="cp1252", newline="") as file:
        csv.writer(file, delimiter=";").writerows([header, *rows])
    return path
