"""`finetooth errors`: what it writes, the next data set and the iteration that follows, and wrong input."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import finetooth
from fruit_run import COLORS
from models_for_tests import tiny_model_dir

from finetooth.rundir import read_json, read_jsonl, write_json

FRUIT = list(COLORS.items())
TASK = {
    "model": "model",
    "data": {
        "train": "sheet.csv",
        "validation": 0.4,
        "columns": {"number": "id", "question": "text", "colour": "label"},
    },
    "train": {"preflight": "off", "max_steps": 4, "batch_size": 12, "learning_rate": 0.005, "select": "loss"},
    "evaluate": {"shots": [], "retention": False},
}
TAGS = "mentions a crate:\n  pattern: crate\nsays red:\n  pattern: '^red$'\n"


def colour(text: str) -> str:
    """The label that a person would give."""
    return next(colour for fruit, colour in FRUIT if fruit in text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the evaluated run runs/fruit, which is often wrong, and pool.csv."""
    folder = tmp_path_factory.mktemp("errors")
    tiny_model_dir(folder / "model")
    rows = [(f"R{n}", f"{n} of {FRUIT[n % 3][0]}?", FRUIT[n % 3][1]) for n in range(120)]
    with (folder / "sheet.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("number", "question", "colour"), *rows])
    pool = [(f"{n} boxes with {FRUIT[n % 3][0]} for tomorrow?",) for n in range(500, 560)]
    with (folder / "pool.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question",), *pool])
    (folder / "tags.yaml").write_text(TAGS, encoding="utf-8")
    write_json(folder / "fruit.json", TASK)
    done = finetooth(folder, "run", "fruit.json", "--out", "runs/fruit", "--quiet")
    assert done.returncode == 0, done.stderr
    return folder


def errors(place: Path, *words: Any) -> dict[str, Any]:
    done = finetooth(place, "errors", *words, "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_what_is_wrong_is_what_the_records_say(place: Path) -> None:
    found = errors(place, "runs/fruit", "--tags", "tags.yaml")
    records = [
        line
        for line in read_jsonl(place / "runs/fruit/evaluate/validation/records.jsonl")
        if line["candidate"] == "tuned"
    ]
    wrong = {line["id"] for line in records if line["score"] == 0}
    assert wrong, "the run must make errors"
    assert found["n"] == len(records) and found["wrong"] == len(wrong)
    assert {row["id"] for row in found["rows"] if row["wrong"]} == wrong
    confused = {(cell["want"], cell["got"]): cell["rows"] for cell in found["confusions"]}
    assert sum(confused.values()) == len(wrong)
    of_tag = {issue["tag"]: issue for issue in found["issues"] if not issue["slice"]}
    for (want, got), rows in confused.items():
        assert of_tag[f"{want} taken for {got}"]["now"] == rows
    assert of_tag["wrong answer"]["now"] == len(wrong), "being wrong at all is an issue as well"
    red = {row["id"] for row in found["rows"] if row["text"] == "red"}
    tagged = {row["id"] for row in found["rows"] for tag in row["tags"] if tag["tag"] == "says red"}
    assert tagged == red, "the user's own tag"
    assert found["flips"] is None and found["against"] is None
    assert read_json(place / "runs/fruit/errors/errors.json")["wrong"] == len(wrong)
    page = (place / "runs/fruit/errors/errors.html").read_text("utf-8")
    assert f"{len(wrong)} of {len(records)}" in page
    again = errors(place, "runs/fruit")
    assert [tag["tag"] for tag in again["tags"]] == [tag["tag"] for tag in found["tags"]], "tags are kept"


def test_answers_that_change_with_the_form_of_the_question(place: Path) -> None:
    found = errors(place, "runs/fruit", "--consistency")
    others = read_json(place / "runs/fruit/errors/consistency.json")["answers"]
    assert others.keys() == {row["id"] for row in found["rows"]} and all(map(len, others.values()))
    tagged = {row["id"] for row in found["rows"] for tag in row["tags"] if tag["tag"] == "inconsistent"}
    text = {row["id"]: row["text"] for row in found["rows"]}
    flipped = {id: sum(one != text[id] for one in answers) for id, answers in others.items()}
    assert tagged == {
        id for id, count in flipped.items() if len(others[id]) > 1 and count >= len(others[id]) / 3
    }


def test_from_errors_to_the_next_iteration(place: Path) -> None:
    """The commands that are printed, with a person's answers in between, lead to a run that is compared."""
    run = place / "runs/fruit"
    sealed = (run / "data/sealed.jsonl").read_bytes()
    found = errors(place, "runs/fruit", "--next", "--pool", "pool.csv", "--rows", 10, "--random")
    assert {Path(file).name for file in found["next"]["files"]} == {
        *("next.jsonl", "next.csv", "random.jsonl", "random.csv"),
    }
    waiting = finetooth(place, "run", "--add", "runs/fruit/errors/random.csv", "--from", "runs/fruit")
    assert waiting.returncode == 2 and "no row is filled in" in waiting.stderr
    assert not (place / "runs/fruit-2").exists()
    for name in ("next.csv", "random.csv"):
        with (run / "errors" / name).open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        assert {"question", "colour", "finetooth_change", "finetooth_why"} <= rows[0].keys()
        added = [row for row in rows if row["finetooth_change"] == "add" and row["question"]]
        assert len(added) == 10 and not any(row["colour"] for row in added)
        for row in added:
            row["colour"] = colour(row["question"])
        with (run / "errors" / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    refused = finetooth(place, "errors", "runs/fruit", "--next", "--pool", "pool.csv")
    assert refused.returncode == 2 and "filled in" in refused.stderr
    change, control = (f"runs/fruit/errors/{name}.csv" for name in ("next", "random"))
    done = finetooth(
        place, "run", "--add", change, "--random", control, "--from", "runs/fruit", "--json", "--quiet"
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["run"] == "runs/fruit-2" and made["targeting"]["added"] == 10
    assert len(read_jsonl_list(place / "runs/fruit-2/data/train.jsonl")) == 10 + len(
        read_jsonl_list(run / "data/train.jsonl")
    )
    after = errors(place, "runs/fruit-2")
    assert after["against"] and Path(after["against"]).name == "fruit", (
        "by default the run that it is made of"
    )
    before = {row["id"]: row["wrong"] for row in found["rows"]}
    kinds = {(True, False): "fixed", (False, True): "broken", (True, True): "still wrong",
             (False, False): "still right"}  # fmt: skip
    for row in after["rows"]:
        assert row["flip"] == kinds[before[row["id"]], row["wrong"]]
    assert sum(after["flips"].values()) == after["n"]
    assert (run / "data/sealed.jsonl").read_bytes() == sealed
    history = finetooth(place, "log", "runs/fruit-2", "--json")
    assert history.returncode == 0 and "fruit-2" in history.stdout


def read_jsonl_list(path: Path) -> list[Any]:
    return list(read_jsonl(path))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("runs/fruit", "--pool", "pool.csv"), "--pool goes with --next"),
        (("runs/fruit", "--next", "--random"), "--random draws from --pool"),
        (("runs/fruit", "--against", "runs/fruit"), "is this run itself"),
        (("runs/fruit", "--against", "runs/none"), "not a run directory"),
        (("runs/fruit", "--next", "--pool", "none.csv"), "none.csv"),
        (("runs/fruit", "--tags", "bad.yaml"), "bad.yaml"),
        (("runs/fruit", "--review", "--json"), "leave out --json"),
        (("runs/trained",), "finetooth evaluate runs/trained"),
    ],
)
def test_wrong_input_is_told_in_one_message(place: Path, words: tuple[str, ...], said: str) -> None:
    (place / "bad.yaml").write_text("impolite:\n  patern: x\n", encoding="utf-8")
    trained = place / "runs/trained"
    if not trained.exists():
        shutil.copytree(place / "runs/fruit", trained)
        shutil.rmtree(trained / "evaluate")
    done = finetooth(place, "errors", *words)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
