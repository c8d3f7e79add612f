"""The random arm beside the next iteration: what it is made of, who judges it, and what a repeat does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import planted
import pytest
from command_line import finetooth
from fruit_iterations import NEW, QUIET, again, contents, side, write

from finetooth.commands import iterate
from finetooth.data.split import ADDED
from finetooth.rundir import read_json, read_jsonl
from finetooth.runs import iteration


def test_a_random_arm_says_whether_targeting_helped(fruit: Path) -> None:
    first = fruit / "runs/fruit"
    train = list(side(first, "train"))
    gone = {"finetooth_change": "remove", "finetooth_row": train[0]}
    write(fruit / "next.jsonl", [*NEW, gone, {**NEW[0], "Frage": "not yet", "Farbe": ""}])
    drawn = [
        {"Frage": f"a random berry of the {word} kind", "Farbe": "red"} for word in ("old", "new", "odd")
    ]
    write(fruit / "random.jsonl", drawn[:1])
    few = again(fruit, "--add", "next.jsonl", "--random", "random.jsonl")
    assert (
        few.returncode == 2
        and "random.jsonl has 1 filled-in rows to add, and next.jsonl adds 2" in few.stderr
    )
    assert not (fruit / "runs/fruit-2").exists(), "it is refused before the training"

    held = next(iter(side(first, "validation").values()))["context"][0]["content"]
    write(fruit / "random.jsonl", [drawn[0], {"Frage": f"{held}!", "Farbe": "red"}])
    leaks = again(fruit, "--add", "next.jsonl", "--random", "random.jsonl")
    assert leaks.returncode == 2 and "random.jsonl, line 2: this row is nearly a held-out row" in leaks.stderr
    assert not (fruit / "runs/fruit-2").exists(), "it is refused before the training"

    write(fruit / "random.jsonl", drawn)
    done = again(fruit, "--add", "next.jsonl", "--random", "random.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["targeting"]
    second, arm = fruit / "runs/fruit-2", fruit / "runs/fruit-2-random"
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
    assert found["verdict"] == "not proven" and found["chosen_by"] == 0

    before = contents(fruit / "runs")
    done = again(fruit, "--add", "next.jsonl", "--random", "random.jsonl")
    assert done.returncode == 0 and "argeting helped" in done.stdout
    changed = {file for file, content in contents(fruit / "runs").items() if before.get(file) != content}
    assert all(file.name in ("report.html", "lock") for file in changed), changed
    write(fruit / "random.jsonl", drawn[1:])
    done = again(fruit, "--add", "next.jsonl", "--random", "random.jsonl")
    assert done.returncode == 2 and "was made of other rows than those of random.jsonl are now" in done.stderr


def test_rows_that_chose_a_draw_do_not_judge_it(fruit: Path) -> None:
    """From `errors --next --random` to the comparison: half of the validation rows judge."""
    first = fruit / "runs/fruit"
    pool = [{"Frage": text} for text in planted.texts(60, seed=9, most=1)]
    write(fruit / "pool.jsonl", pool)
    words = ("errors", "runs/fruit", "--next", "--pool", "pool.jsonl", "--rows", 6, "--random")
    assert (done := finetooth(fruit, *words)).returncode == 0, done.stderr
    for name in ("next", "random"):
        rows = [row for row in read_jsonl(first / f"errors/{name}.jsonl") if row["Frage"]]
        assert sum(row["finetooth_change"] == "add" for row in rows) >= 6
        write(fruit / f"{name}.jsonl", [{**row, "Farbe": "red"} for row in rows])
    done = again(fruit, "--add", "next.jsonl", "--random", "random.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["targeting"]
    by = read_json(first / "errors/next.json")["steered"]["by"]
    held = list(side(fruit / "runs/fruit-2", "validation"))
    assert set(by) < set(held) and found["chosen_by"] == len(by) and found["n"] == len(held) - len(by)
    assert "validation rows that have chosen none" in found["words"]
    task = iteration.next_task(first, [fruit / "next.jsonl"], False, {})
    files = (fruit / "next.jsonl", fruit / "random.jsonl")
    assert iteration.random_arm(task, first, files[:1], files[1], QUIET).choosers == set(by)
    errors = ("errors", "runs/fruit", "--next", "--pool", "pool.jsonl", "--rows", 5)
    assert finetooth(fruit, *errors).returncode == 0, "another draw is written since, without a random arm"
    assert not (first / "errors/random.csv").exists(), "that of the draw before was not filled in"
    done = again(fruit, "--add", "next.jsonl", "--random", "random.jsonl", "--json")
    assert json.loads(done.stdout)["targeting"] == found
    with (fruit / "next.jsonl").open("a") as file:  # a row that a person has written, who saw all failures
        file.write(json.dumps(NEW[0]) + "\n")
    write(fruit / "random.jsonl", [*read_jsonl(files[1]), NEW[1]])
    arm = iteration.random_arm(task, first, files[:1], files[1], QUIET)
    assert arm.choosers == set() and "next.jsonl, line" in arm.problem and "cannot be proven" in arm.problem


def test_it_goes_on_after_an_interruption(fruit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before the random arm is trained: the same command finishes it, and trains nothing twice."""
    write(fruit / "next.jsonl", NEW)
    write(fruit / "random.jsonl", [{"Frage": f"any berry, {n}", "Farbe": "red"} for n in ("old", "odd")])
    words = ("--add", "next.jsonl", "--random", "random.jsonl")
    real = iterate.train.train

    def stopped(context: Any, needs_grader: bool) -> Any:
        if context.path.name == "fruit-2-random":
            raise iterate.Interrupted("Stopped.", "finetooth train runs/fruit-2-random")
        return real(context, needs_grader)

    with monkeypatch.context() as patch:
        patch.setattr(iterate.train, "train", stopped)
        done = again(fruit, *words)
    assert done.returncode == 130 and "finetooth run --add next.jsonl --random random.jsonl" in done.stderr
    second = fruit / "runs/fruit-2"
    weights = contents(second / "train")
    assert weights and not (second / "errors/targeting.json").exists()
    done = again(fruit, *words)
    assert done.returncode == 0, done.stderr
    assert contents(second / "train") == weights and (second / "errors/targeting.json").is_file()
    assert not (fruit / "runs/fruit-3").exists()


def scores_of(path: Path) -> dict[str, float]:
    records = read_jsonl(path / "evaluate/validation/records.jsonl")
    return {line["id"]: line["score"] for line in records if line["candidate"] == "tuned"}
