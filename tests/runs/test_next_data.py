"""From validation errors to the next rows of a run, with a toy model that nobody trained."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from label_rows import words
from models_for_tests import tiny_model_dir
from rich.console import Console

from finetooth.analysis.answered import AnsweredRow
from finetooth.config.load import load_task
from finetooth.data.change_sheet import CHANGE, ROW, WHY
from finetooth.errors import ConfigError, DataError
from finetooth.quality.findings import question
from finetooth.rundir import read_jsonl, write_json, write_text
from finetooth.runs import next_data, next_files
from finetooth.runs.context import RunContext
from finetooth.runs.pool import read_pool
from finetooth.runs.setup import ensure_set_up
from finetooth.types import Example

TEAMS = ("billing", "delivery", "returns", "gift")
COLUMNS = {"Frage": "text", "Team": "label", "Nr": "id"}
WORDS = words(random.Random(5), 140)
COMMON, OWN = WORDS[:60], {team: WORDS[60 + 20 * at : 80 + 20 * at] for at, team in enumerate(TEAMS)}


def _text(team: str, draw: random.Random) -> str:
    chosen = [draw.choice(OWN[team] if draw.random() < 0.7 else COMMON) for _ in range(9)]
    return " ".join([*chosen, str(draw.randrange(10_000))])


def _rows(count: int, name: str, shares: tuple[float, ...]) -> list[dict[str, str]]:
    draw = random.Random(name)
    teams = draw.choices(TEAMS, shares, k=count)
    return [
        {"Nr": f"{name}-{at}", "Frage": _text(team, draw), "Team": team, "Ort": "Graz"}
        for at, team in enumerate(teams)
    ]


def _sheet(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose training rows have next to none of the team `gift`, and one wrong label in ten."""
    folder = tmp_path_factory.mktemp("next")
    tiny_model_dir(folder / "base")
    tiny_model_dir(folder / "tuned", seed=1)
    train = _rows(160, "train", (1, 1, 1, 0.02))
    for at in range(0, 160, 10):
        row = train[at]
        row["Team"] = next(team for team in TEAMS[1:3] if team != row["Team"])
    _sheet(folder / "train.csv", train)
    _sheet(folder / "validation.csv", _rows(80, "validation", (3, 3, 3, 2)))
    _sheet(folder / "test.csv", _rows(30, "test", (3, 3, 3, 2)))
    task = {
        "model": str(folder / "base"),
        "tuned": str(folder / "tuned"),
        "data": {side: str(folder / f"{side}.csv") for side in ("train", "validation", "test")}
        | {"columns": COLUMNS},
        "evaluate": {"shots": []},
    }
    write_json(folder / "task.yaml", task)
    ensure_set_up(_context(folder))
    return folder


def _context(folder: Path) -> RunContext:
    return RunContext(load_task(folder / "task.yaml"), folder / "run", Console(quiet=True), folder)


def _answers(examples: list[Example]) -> list[AnsweredRow]:
    """Rows of the team that is missing are answered with another one, and so are a few others."""
    rows = []
    for at, example in enumerate(examples):
        wrong = example.target == "gift" or at % 19 == 0
        text = next(team for team in TEAMS if team != example.target) if wrong else example.target
        rows.append(AnsweredRow(example, text, float(not wrong), chosen=True))
    return rows


def _next(folder: Path, answers: dict[str, str] | None = None, **options: Any) -> next_data.NextData:
    context = RunContext.of_run(folder / "run", Console(quiet=True))
    return next_data.next_data(context, _answers(context.prepared.validation), answers or {}, **options)


def _write(run: Path, found: next_data.NextData) -> list[Path]:
    return next_files.write(run, found.changes, found.random, found.steered)


@pytest.fixture(scope="module")
def pool(place: Path) -> tuple[Path, list[dict[str, str]]]:
    """A pool with a tenth of gifts, rows that the run has, rows of its test, and copies."""
    rows = _rows(300, "pool", (3, 3, 3, 1))
    known = list(csv.DictReader((place / "train.csv").open()))[:5]
    known += list(csv.DictReader((place / "validation.csv").open()))[:4]
    sealed = [row | {"Frage": f"{row['Frage']}!"} for row in csv.DictReader((place / "test.csv").open())][:6]
    added = [*rows, *known, *sealed, *(rows[at] | {"Nr": f"again-{at}"} for at in range(3))]
    _sheet(place / "pool.csv", [{"Frage": row["Frage"], "Ort": "Wien", "Kanal": "Mail"} for row in added])
    _sheet(place / "labelled.csv", added)
    return place / "pool.csv", added


def test_a_draw_aims_at_what_is_missing_and_leaves_out_what_is_known(
    place: Path, pool: tuple[Path, list[dict[str, str]]]
) -> None:
    file, rows = pool
    team = {row["Frage"]: row["Team"] for row in rows}
    pooled = sum(row["Team"] == "gift" for row in rows) / len(rows)  # a random draw has 25 times this
    found = _next(place, pool=file, count=25)
    drawn = [row for row in found.changes.rows if row[CHANGE] == "add" and row["Frage"]]
    whole = sum(team[row["Frage"]] == "gift" for row in drawn)
    assert whole >= 3 * 25 * pooled and found.random is None
    found = _next(place, pool=file, count=25, random=True)
    drawn = [row for row in found.changes.rows if row[CHANGE] == "add" and row["Frage"]]
    assert found.random is not None
    assert len(drawn) == 25 and len(found.random.rows) == 25 + found.counts["to write"]
    at_random = found.random.rows[:25]
    gifts = [sum(team[row["Frage"]] == "gift" for row in side) for side in (drawn, at_random)]
    assert whole > 2 * gifts[1] and gifts[0] >= 2 * 25 * pooled, "here half of the failures have chosen"
    assert found.counts["known"] == 15 and found.counts["copies"] == 3  # which are sealed is not told
    sealed = {row["Frage"] for row in csv.DictReader((place / "test.csv").open())}
    sides = [*(row["Frage"] for row in found.changes.rows), *(row["Frage"] for row in found.random.rows)]
    assert not {text.removesuffix("!") for text in sides} & sealed
    said = json.dumps([found.to_json(), [row[WHY] for row in found.changes.rows]], ensure_ascii=False)
    assert not any(text in said for text in sealed)
    assert all(row["Team"] == "" and row["Ort"] == "Wien" and "Kanal" not in row for row in drawn)
    assert all("like the validation row validation-" in row[WHY] for row in drawn)
    validation = {row["Frage"] for row in csv.DictReader((place / "validation.csv").open())}
    assert not any(text in said for text in validation)
    again = _next(place, pool=file, count=25, random=True)
    assert again.changes.rows == found.changes.rows and again.random == found.random


def test_a_labelled_pool_keeps_its_answers(place: Path, pool: tuple[Path, list[dict[str, str]]]) -> None:
    team = {row["Frage"]: row["Team"] for row in pool[1]}
    found = _next(place, pool=place / "labelled.csv", count=10, seed=3, random=True)
    drawn = [row for row in found.changes.rows if row["Nr"].startswith("pool-")]
    assert len(drawn) == 10 == found.counts["from the pool"] and found.random is not None
    assert all(row["Team"] == team[row["Frage"]] for row in (*drawn, *found.random.rows))


def test_corrections_checks_and_what_is_to_be_written(place: Path) -> None:
    context = RunContext.of_run(place / "run", Console(quiet=True))
    first, second = context.prepared.validation[:2]
    answers = {
        first.id: "gift" if first.target != "gift" else "billing",
        second.id: second.target,
        "gone": "x",
    }
    found = _next(place, answers)
    corrected = [row for row in found.changes.rows if row[ROW] == first.id]
    assert [(row[CHANGE], row["Team"], row["Frage"]) for row in corrected] == [
        ("correct", answers[first.id], question(first))
    ]
    assert not any(row[ROW] == second.id for row in found.changes.rows)
    checks = [row for row in found.changes.rows if row[CHANGE] == "correct" and row not in corrected]
    flipped = {f"train-{at}" for at in range(0, 160, 10)}
    assert checks and all(row[ROW].startswith("train-") for row in checks)
    assert sum(row[ROW] in flipped for row in checks) > 0.5 * len(checks)
    assert [one["id"] for one in found.training] == [row[ROW] for row in checks]
    assert {*found.training[0]} == {"id", "kind", "words", "file", "line"}
    write = [row for row in found.changes.rows if row[CHANGE] == "add"]
    assert write and all("whose answer is 'gift'" in row[WHY] for row in write)
    assert all(row["Frage"] == row["Team"] == row[ROW] == "" for row in write)
    assert found.random is None


def test_files_are_written_once_and_never_over_what_was_filled_in(place: Path) -> None:
    run = place / "run"
    found = _next(place)
    files = _write(run, found)
    assert [file.name for file in files] == ["next.jsonl", "next.csv"]
    lines, sheet = [*read_jsonl(files[0])], [*csv.DictReader(files[1].open(encoding="utf-8-sig"))]
    assert lines == sheet == found.changes.rows
    assert _write(run, found) == files  # unchanged since: made again
    filled = files[1].read_text(encoding="utf-8-sig").replace('""', '"x"', 1)
    write_text(files[1], filled)
    before = {file: file.read_bytes() for file in files}
    with pytest.raises(ConfigError, match="has been changed since it was written"):
        _write(run, found)
    assert before == {file: file.read_bytes() for file in files}
    for file in files:
        file.unlink()
    assert _write(run, found) == files


def test_what_cannot_be_drawn_is_told(place: Path) -> None:
    with pytest.raises(ConfigError, match="--rows 0"):
        _sheet(place / "other.csv", [{"Frage": "something else"}, {"Frage": "and more"}])
        _next(place, pool=place / "other.csv", count=0)
    known = list(csv.DictReader((place / "train.csv").open()))[:3]
    _sheet(place / "same.csv", [{"Frage": row["Frage"]} for row in known])
    with pytest.raises(DataError, match="no row of it can be drawn: 3 known"):
        _next(place, pool=place / "same.csv")
    _sheet(place / "columns.csv", [{"Unbekannt": "a"}])
    with pytest.raises(DataError, match="has no column 'Frage'"):
        _next(place, pool=place / "columns.csv")


def test_rows_of_held_out_groups_never_enter(tmp_path: Path) -> None:
    """A customer of the sealed test is in the pool, with other words: the row is left out, and the group of
    the others is kept in the change set."""
    tiny_model_dir(tmp_path / "base")
    for name, count in (("train", 60), ("validation", 30), ("test", 20), ("pool", 60)):
        rows = _rows(count, name, (1, 1, 1, 1))
        for at, row in enumerate(rows):
            row["Kunde"] = f"{name} {at}"
        if name == "pool":
            rows[0]["Kunde"], rows[1]["Kunde"] = "test 3", "validation 4"
        _sheet(tmp_path / f"{name}.csv", rows)
    sides = {side: str(tmp_path / f"{side}.csv") for side in ("train", "validation", "test")}
    data = sides | {"columns": COLUMNS, "group": "Kunde"}
    task = {"model": str(tmp_path / "base"), "data": data, "evaluate": {"shots": []}}
    write_json(tmp_path / "task.yaml", task | {"tuned": str(tmp_path / "base")})
    ensure_set_up(_context(tmp_path))
    found = _next(tmp_path, pool=tmp_path / "pool.csv", count=58)
    drawn = {row["Kunde"] for row in found.changes.rows if row[CHANGE] == "add" and row["Frage"]}
    assert drawn == {f"pool {at}" for at in range(2, 60)} and found.counts["known"] == 2
    rows = [{"Frage": row["Frage"]} for row in csv.DictReader((tmp_path / "pool.csv").open())]
    _sheet(tmp_path / "bare.csv", rows)
    found = _next(tmp_path, pool=tmp_path / "bare.csv", count=5)
    assert any("bare.csv has no column 'Kunde'" in note for note in found.notes)


def test_answers_of_a_pool_are_never_lost_without_a_word(
    place: Path, pool: tuple[Path, list[dict[str, str]]]
) -> None:
    rows = [{key: row[key] for key in ("Frage", "Team")} for row in pool[1][:50]]
    _sheet(place / "no-ids.csv", rows)
    found = _next(place, pool=place / "no-ids.csv", count=10)
    drawn = [row for row in found.changes.rows if row[CHANGE] == "add" and row["Frage"]]
    assert len(drawn) == 10 and all(row["Team"] for row in drawn)
    _sheet(place / "twice.csv", [{**row, "text": "x"} for row in rows])
    with pytest.raises(DataError, match="text"):
        _next(place, pool=place / "twice.csv", count=10)


def test_rows_that_could_not_be_graded_steer_nothing(
    place: Path, pool: tuple[Path, list[dict[str, str]]]
) -> None:
    """They are neither right nor wrong: what is drawn is the same as without them."""
    context = RunContext.of_run(place / "run", Console(quiet=True))
    rows = _answers(context.prepared.validation)
    ungraded = [AnsweredRow(row.example, row.text, None, chosen=True) if at % 3 == 0 else row
                for at, row in enumerate(rows)]  # fmt: skip
    graded = [row for row in ungraded if row.score is not None]
    texts = [
        [
            (row["Frage"], row[WHY])
            for row in next_data.next_data(context, found, {}, pool[0], 15).changes.rows
        ]
        for found in (ungraded, graded)
    ]
    assert texts[0] == texts[1]


def test_both_arms_have_as_many_rows_and_the_random_one_starts_anywhere(
    place: Path, pool: tuple[Path, list[dict[str, str]]]
) -> None:
    at = {row["Frage"]: number for number, row in enumerate(pool[1])}
    found = _next(place, pool=pool[0], count=40, random=True)
    assert found.random is not None
    drawn = [row for row in found.changes.rows if row[CHANGE] == "add" and row["Frage"]]
    places = [at[row["Frage"]] for row in found.random.rows]
    assert len(drawn) == 40 and len(places) == 40 + found.counts["to write"]
    assert places != sorted(places), "what is used of it if few are filled in is a random draw too"
    assert min(places[:10]) < 100 and max(places[:10]) > 200


def test_without_a_wrong_row_a_draw_is_random(place: Path, pool: tuple[Path, list[dict[str, str]]]) -> None:
    context = RunContext.of_run(place / "run", Console(quiet=True))
    right = [AnsweredRow(one, one.target, 1.0) for one in context.prepared.validation]
    found = next_data.next_data(context, right, {}, pool[0], 10)
    drawn = [row for row in found.changes.rows if row[CHANGE] == "add"]
    assert len(drawn) == 10 and found.random is None
    assert any("random draw" in note for note in found.notes)
    assert Counter(row[WHY] for row in drawn) == {"drawn at random from the pool": 10}
    with pytest.raises(ConfigError, match="none of the 40 validation rows that would choose is wrong"):
        next_data.next_data(context, right, {}, pool[0], 10, random=True)


def test_a_kill_between_the_files_locks_nobody_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written, and whose last record was not, are known as finetooth's own."""
    run, found = place / "run", _next(place)
    _write(run, found)
    other = _next(place, {found.changes.rows[0][ROW]: "billing"})
    real = next_files.write_json

    def killed(path: Path, value: Any) -> None:
        if any(isinstance(one, list) for one in value.values()):
            return real(path, value)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(next_files, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            _write(run, other)
    assert _write(run, found)
    for file in (run / "errors").iterdir():
        file.unlink()


@pytest.mark.parametrize("name", ["umlauts.csv", "umlauts.jsonl"])
def test_a_pool_in_utf8_is_read_as_such_whatever_the_task_says(place: Path, name: str) -> None:
    rows = [row | {"Frage": f"Größe {row['Frage']}"} for row in _rows(12, "umlauts", (1, 1, 1, 1))]
    if name.endswith(".csv"):
        _sheet(place / name, rows)
    else:
        write_text(place / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    context = RunContext.of_run(place / "run", Console(quiet=True))
    data = context.task.data.model_copy(update={"encoding": "cp1252"})
    object.__setattr__(context, "task", context.task.model_copy(update={"data": data}))
    found = read_pool(context, place / name)
    assert all(question(one).startswith("Größe ") for one in found.examples) and found.examples
