"""The next iteration: `run --add next.jsonl --from RUN`, its random arm, and what it never touches."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import planted
import processes
import pytest
import yaml
from command_line import finetooth
from fruit_run import COLORS
from models_for_tests import tiny_model_dir
from rich.console import Console

import finetooth as ft
from finetooth.commands import iterate
from finetooth.config.load import load_task
from finetooth.data.split import ADDED
from finetooth.rundir import read_json, read_jsonl, write_json
from finetooth.runs import iteration, workspace

Row = dict[str, Any]
TASK = {
    "model": "model",
    "data": {
        "train": "sheet.csv",
        "validation": 0.3,
        "encoding": "cp1252",
        "columns": {"Nr": "id", "Frage": "text", "Farbe": "label"},
    },
    "train": {"preflight": "off", "max_steps": 6, "batch_size": 12, "learning_rate": 0.02, "select": "loss"},
    "evaluate": {"shots": []},
}
FRUIT = list(COLORS.items())
ASKED = [*(f"{n} of {FRUIT[n % 3][0]}?" for n in range(120)), *planted.texts(30, seed=2, most=1)]
ROWS = [(f"T{n}", text, FRUIT[n % 3][1]) for n, text in enumerate(ASKED)]
NEW = [
    {"finetooth_change": "add", "Frage": text, "Farbe": "deep blue"}
    for text in ("a crate full of sweet damsons from the hill", "who picked the sloes behind the old mill?")
]
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task and its evaluated run runs/fruit, which has opened its test."""
    folder = tmp_path_factory.mktemp("iterations")
    tiny_model_dir(folder / "model")
    text = "\r\n".join(["Nr;Frage;Farbe", *(";".join(row) for row in ROWS)])
    (folder / "sheet.csv").write_text(text, "cp1252", newline="")
    write_json(folder / "fruit.json", TASK)
    done = finetooth(folder, "run", "fruit.json", "--out", "runs/fruit", "--quiet")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def place(made: Path) -> Iterator[Path]:
    """That folder with that run alone; what a test adds is removed."""
    kept = {path.name for path in made.iterdir()}
    yield made
    for path in [*(made / "runs").glob("fruit-*"), *(made / "runs/fruit").glob("errors")]:
        shutil.rmtree(path)
    for path in made.iterdir():
        if path.name not in kept:
            path.unlink()


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def side(path: Path, name: str) -> dict[str, Row]:
    return {row["id"]: row for row in read_jsonl(path / "data" / f"{name}.jsonl")}


def again(place: Path, *words: Any) -> Any:
    return finetooth(place, "run", *words, "--from", "runs/fruit")


def test_two_iterations_end_to_end(place: Path) -> None:
    """Corrections, additions and a removal; then a second one on top, from the sheet that was filled in."""
    first = place / "runs/fruit"
    train, held = list(side(first, "train")), list(side(first, "validation"))
    asked = side(first, "validation")[held[0]]["context"][0]["content"]
    correct = {"finetooth_change": "correct", "Farbe": "deep blue", "finetooth_why": "annotated"}
    changes = [
        *NEW,
        {**NEW[0], "Farbe": ""},
        {**correct, "finetooth_row": train[0], "Frage": "corrected"},
        {**correct, "finetooth_row": held[0], "Frage": asked},
        {"finetooth_change": "remove", "finetooth_row": train[1]},
    ]  # fmt: skip
    write(place / "next.jsonl", changes)
    done = again(place, "--add", "next.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert "1 of 6 rows of next.jsonl has no answer yet and is left out." in done.stderr
    second, told = place / "runs/fruit-2", json.loads(done.stdout)
    assert told["run"] == "runs/fruit-2" and told["against"] == "runs/fruit" and told["targeting"] is None
    (pair,) = told["compared"]["comparisons"]
    changed = side(first, "validation")[held[0]]["tags"]["label"] != "deep blue"
    assert pair["left_out"]["other_content"] == changed and pair["n"] == len(held) - changed
    assert set(side(second, "train")) >= set(train) - {train[1]} and train[1] not in side(second, "train")
    assert len(side(second, "train")) == len(train) - 1 + 2
    assert list(side(second, "validation")) == held
    assert (second / "data/sealed.jsonl").read_bytes() == (first / "data/sealed.jsonl").read_bytes()
    stored, before = workspace.load_config(second), workspace.load_config(first)
    assert (stored.start, stored.data.split_from) == (None, str(first.resolve()))
    assert (stored.evaluate.grader, stored.seed, stored.model) == ("label", before.seed, before.model)
    assert told["split"] == "validation", "the sealed rows were opened by the first run"

    with (place / "next.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["finetooth_change", "finetooth_row", "Frage", "Farbe"], delimiter=";")
        writer.writeheader()
        added = next(id for id, row in side(second, "train").items() if row["tags"]["file"] == "next.jsonl")
        writer.writerow({"finetooth_change": "correct", "finetooth_row": added, "Frage": "mended",
                         "Farbe": " red "})  # fmt: skip
        writer.writerow({"finetooth_change": "add", "Frage": "the first strawberry of June", "Farbe": "red"})
        writer.writerow({"finetooth_change": "remove", "finetooth_row": train[0]})
    done = finetooth(place, "run", "--add", "next.csv", "--from", "runs/fruit-2", "--onward")
    assert done.returncode == 0, done.stderr
    third = place / "runs/fruit-3"
    row = side(third, "train")[added]
    assert (row["context"][0]["content"], row["answers"][0]["text"]) == ("mended", "red")
    assert not {train[0], train[1]} & set(side(third, "train")) and list(side(third, "validation")) == held
    assert len(side(third, "train")) == len(train) + 1 + 1 - 1
    stored = workspace.load_config(third)
    assert [Path(file).name for file in stored.data.add] == ["next.jsonl", "next.csv"]
    assert (stored.start, stored.data.split_from) == (str(second.resolve()), None)
    assert "runs/fruit-3 scores" in done.stdout and "runs/fruit-2" in done.stdout
    assert "Next: finetooth errors runs/fruit-3 --against runs/fruit-2" in done.stdout
    assert (third / "data/sealed.jsonl").read_bytes() == (first / "data/sealed.jsonl").read_bytes()
    done = finetooth(place, "run", "--add", "next.csv", "--from", "runs/fruit-3")
    assert done.returncode == 2 and "runs/fruit-3 was made with it already" in done.stderr
    write(place / "next.jsonl", changes[:1])
    done = finetooth(place, "run", "--add", "next.csv", "--from", "runs/fruit-2")
    assert done.returncode == 2 and "next.jsonl has changed since runs/fruit-2 was made" in done.stderr


def test_what_was_chosen_automatically_is_chosen_anew(place: Path) -> None:
    """But not what decides whether the results can be compared."""
    first = place / "runs/fruit"
    _, reasons = iteration.read_config(first / "config.yaml")
    assert "train.epochs" in reasons and "evaluate.max_tokens" in reasons, "the test would show nothing"
    file = write(place / "next.jsonl", NEW)
    task = iteration.next_task(first, [file], False, {"train.rank": 4})
    assert (task.train.epochs, task.train.batch_size, task.train.rank) == ("auto", 12, 4)
    stored = workspace.load_config(first)
    assert task.evaluate == stored.evaluate and task.template == stored.template != "auto"
    assert task.data.max_tokens == stored.data.max_tokens != "auto"
    given = iteration.next_task(first, [file], True, {}, load_task(place / "fruit.json"))
    assert (given.evaluate.grader, given.start) == ("auto", str(first.resolve()))


def test_near_copies_of_held_out_rows_are_refused(place: Path) -> None:
    first = place / "runs/fruit"
    text = "my aunt keeps seven jars of plum jam on the upper shelf of the cellar"
    sealed = max((row["context"][0]["content"] for row in side(first, "sealed").values()), key=len)
    rows = [*NEW, {**NEW[0], "Frage": f"Please answer this question: {sealed}", "Farbe": "red"},
            {**NEW[0], "Frage": text}]  # fmt: skip
    write(place / "next.jsonl", rows)
    done = again(place, "--add", "next.jsonl", "--allow", "leak")
    assert done.returncode == 2
    assert "1 of 4 added or reworded rows repeats rows of the sealed test" in done.stderr
    assert "(next.jsonl, line 3)" in done.stderr and "Remove this row from next.jsonl" in done.stderr
    assert sealed not in done.stderr.replace("Please answer this question", "")
    assert "finetooth check " in done.stderr and "finetooth check TASK" not in done.stderr
    assert not (place / "runs/fruit-2/config.yaml").exists()
    page = (place / "runs/fruit-2/data/findings.jsonl").read_text()
    assert "a row of the sealed test" in page
    command = done.stderr.split("For the full report: finetooth ")[1].split("\n")[0]
    assert finetooth(place, *shlex.split(command), "--out", "runs/fruit-check").returncode == 1
    write(place / "next.jsonl", [*rows[:2], rows[3]])
    assert again(place, "--add", "next.jsonl", "--quiet").returncode == 0
    assert (place / "runs/fruit-2/config.yaml").exists(), "the place of the refused one"


def test_a_random_arm_says_whether_targeting_helped(place: Path) -> None:
    first = place / "runs/fruit"
    train = list(side(first, "train"))
    gone = {"finetooth_change": "remove", "finetooth_row": train[0]}
    write(place / "next.jsonl", [*NEW, gone, {**NEW[0], "Frage": "not yet", "Farbe": ""}])
    drawn = [
        {"Frage": f"a random berry of the {word} kind", "Farbe": "red"} for word in ("old", "new", "odd")
    ]
    write(place / "random.jsonl", drawn[:1])
    few = again(place, "--add", "next.jsonl", "--random", "random.jsonl")
    assert (
        few.returncode == 2
        and "random.jsonl has 1 filled-in rows to add, and next.jsonl adds 2" in few.stderr
    )
    assert not (place / "runs/fruit-2").exists(), "it is refused before the training"

    write(place / "random.jsonl", drawn)
    done = again(place, "--add", "next.jsonl", "--random", "random.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["targeting"]
    second, arm = place / "runs/fruit-2", place / "runs/fruit-2-random"
    assert found == read_json(second / "errors/targeting.json")
    assert (found["targeted"], found["random"], found["added"]) == ("runs/fruit-2", "runs/fruit-2-random", 2)
    texts = {row["context"][0]["content"] for row in side(arm, "train").values() if ADDED in row["tags"]}
    assert texts == {row["Frage"] for row in drawn[:2]}
    assert train[0] not in side(arm, "train") and len(side(arm, "train")) == len(side(second, "train"))
    assert list(side(arm, "validation")) == list(side(second, "validation"))
    assert not (arm / "evaluate/test").exists(), "the arm never opens the sealed test"
    assert not [one for one in read_jsonl(arm / "ledger.jsonl") if one["event"] == "opened"]
    scores = [scores_of(path) for path in (arm, second)]
    assert found["scores"] == pytest.approx([sum(one.values()) / len(one) for one in scores])
    assert (found["verdict"] == "helped") == (found["low"] > 0)

    before = contents(place / "runs")
    done = again(place, "--add", "next.jsonl", "--random", "random.jsonl")
    assert done.returncode == 0 and "argeting helped" in done.stdout
    changed = {file for file, content in contents(place / "runs").items() if before.get(file) != content}
    assert all(file.name in ("report.html", "lock") for file in changed), changed
    write(place / "random.jsonl", drawn[1:])
    done = again(place, "--add", "next.jsonl", "--random", "random.jsonl")
    assert done.returncode == 2 and "was made of other rows than those of random.jsonl are now" in done.stderr


def test_rows_that_chose_a_draw_do_not_judge_it(place: Path) -> None:
    """From `errors --next --random` to the comparison: half of the validation rows judge."""
    first = place / "runs/fruit"
    pool = [{"Frage": text} for text in planted.texts(60, seed=9, most=1)]
    write(place / "pool.jsonl", pool)
    words = ("errors", "runs/fruit", "--next", "--pool", "pool.jsonl", "--rows", 6, "--random")
    assert (done := finetooth(place, *words)).returncode == 0, done.stderr
    for name in ("next", "random"):
        rows = [row for row in read_jsonl(first / f"errors/{name}.jsonl") if row["Frage"]]
        assert sum(row["finetooth_change"] == "add" for row in rows) >= 6
        write(place / f"{name}.jsonl", [{**row, "Farbe": "red"} for row in rows])
    done = again(place, "--add", "next.jsonl", "--random", "random.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["targeting"]
    by = read_json(first / "errors/next.json")["steered"]["by"]
    held = list(side(place / "runs/fruit-2", "validation"))
    assert set(by) < set(held) and found["chosen_by"] == len(by) and found["n"] == len(held) - len(by)
    assert "validation rows that have chosen none" in found["words"]
    task = iteration.next_task(first, [place / "next.jsonl"], False, {})
    files = (place / "next.jsonl", place / "random.jsonl")
    assert iteration.random_rows(task, first, files[:1], files[1])[2] == set(by)
    with (place / "next.jsonl").open("a") as file:  # a row that a person has written, who saw all failures
        file.write(json.dumps(NEW[0]) + "\n")
    write(place / "random.jsonl", [*read_jsonl(files[1]), NEW[1]])
    assert iteration.random_rows(task, first, files[:1], files[1])[2] == set()


def scores_of(path: Path) -> dict[str, float]:
    records = read_jsonl(path / "evaluate/validation/records.jsonl")
    return {line["id"]: line["score"] for line in records if line["candidate"] == "tuned"}


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_it_goes_on_after_an_interruption(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before the random arm is trained: the same command finishes it, and trains nothing twice."""
    write(place / "next.jsonl", NEW)
    write(place / "random.jsonl", [{"Frage": f"any berry, {n}", "Farbe": "red"} for n in ("old", "odd")])
    words = ("--add", "next.jsonl", "--random", "random.jsonl")
    real = iterate.train.train

    def stopped(context: Any, needs_grader: bool) -> Any:
        if context.path.name == "fruit-2-random":
            raise iterate.Interrupted("Stopped.", "finetooth train runs/fruit-2-random")
        return real(context, needs_grader)

    with monkeypatch.context() as patch:
        patch.setattr(iterate.train, "train", stopped)
        done = again(place, *words)
    assert done.returncode == 130 and "finetooth run --add next.jsonl --random random.jsonl" in done.stderr
    second = place / "runs/fruit-2"
    weights = contents(second / "train")
    assert weights and not (second / "errors/targeting.json").exists()
    done = again(place, *words)
    assert done.returncode == 0, done.stderr
    assert contents(second / "train") == weights and (second / "errors/targeting.json").is_file()
    assert not (place / "runs/fruit-3").exists()


def test_a_changed_change_set_is_named_with_the_command_that_takes_it(place: Path) -> None:
    write(place / "next.jsonl", NEW)
    assert again(place, "--add", "next.jsonl", "--quiet").returncode == 0
    write(place / "next.jsonl", NEW[:1])
    done = again(place, "--add", "next.jsonl")
    assert done.returncode == 2 and "next.jsonl has changed since runs/fruit-2 was made" in done.stderr
    (command,) = (line for line in done.stderr.splitlines() if line.startswith("  finetooth run"))
    assert "--add" in command and command.split("    ")[0].endswith("--out runs/fruit-3")


def test_words_for_what_cannot_be_iterated(place: Path, tmp_path: Path) -> None:
    write(place / "next.jsonl", NEW)
    done = finetooth(place, "run", "--add", "next.jsonl")
    assert done.returncode == 2 and "TASK" in done.stderr
    for flag in (["--onward"], ["--random", "next.jsonl"]):
        done = finetooth(place, "run", "fruit.json", *flag)
        assert done.returncode == 2 and f"{flag[0]} goes with --add FILE --from RUN." in done.stderr
    done = again(place, "--add", "nowhere.jsonl")
    assert done.returncode == 2 and "nowhere.jsonl: no such file" in done.stderr
    shutil.copytree(place / "runs/fruit", place / "runs/fruit-python")
    config = place / "runs/fruit-python/config.yaml"
    values = yaml.safe_load(config.read_text())
    values["data"]["train"] = f"150 {workspace.FROM_PYTHON} (sha256 0)"
    config.write_text(yaml.safe_dump(values))
    done = finetooth(place, "run", "--add", "next.jsonl", "--from", "runs/fruit-python")
    assert done.returncode == 2 and "rows from Python, of which it keeps no copy" in done.stderr


def test_python_takes_change_sets_too(place: Path) -> None:
    rows = [{"id": id, "text": text, "label": label} for id, text, label in ROWS]
    task = {**TASK, "model": str(place / "model"), "data": {"train": rows}}
    more = write(place / "more.jsonl", [{"text": row["Frage"], "label": row["Farbe"]} for row in NEW])
    made = ft.run(task, place / "runs/fruit-py", overrides={"data.add": [more]}, quiet=True)
    assert sum(ADDED in row["tags"] for row in side(made.path, "train").values()) == 2
    assert workspace.load_config(made.path).data.add == [str(more)]


def test_only_the_ledger_reads_sealed_rows(place: Path) -> None:
    """An audit hook sees every file that the iteration and its random arm open."""
    write(place / "next.jsonl", NEW)
    write(place / "random.jsonl", [{"Frage": f"any berry, {n}", "Farbe": "red"} for n in ("old", "odd")])
    code = """
import json, sys, traceback
opened = []
def hook(event, args):
    if event == "open" and not isinstance(args[0], int) and str(args[0]).endswith("sealed.jsonl"):
        who = [f.filename for f in traceback.extract_stack() if "finetooth" in f.filename]
        opened.append((args[1] or "", any(w.endswith("ledger.py") for w in who)))
sys.addaudithook(hook)
from finetooth.cli.app import invoke
code = invoke(["run", "--add", "next.jsonl", "--random", "random.jsonl", "--from", "runs/fruit", "--quiet"])
print(code, json.dumps(opened), file=sys.stderr)
"""
    ended, _, errors = processes.python(place, code)
    last = errors.splitlines()[-1]
    assert ended == 0 and last.startswith("0 "), errors
    opened = json.loads(last[2:])
    assert any(by_ledger for _, by_ledger in opened), "the hook sees what is opened"
    assert all(by_ledger for mode, by_ledger in opened if "w" not in mode)
    assert not (place / "runs/fruit-2-random/evaluate/test").exists()
