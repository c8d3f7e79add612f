"""The next iteration: `run --add next.jsonl --from RUN`, its random arm, and what it never touches."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from pathlib import Path

import processes
import yaml
from command_line import finetooth
from fruit_iterations import NEW, ROWS, TASK, again, side, write

import finetooth as ft
from finetooth.config.load import load_task
from finetooth.data.split import ADDED
from finetooth.runs import iteration, workspace


def test_two_iterations_end_to_end(fruit: Path) -> None:
    """Corrections, additions and a removal; then a second one on top, from the sheet that was filled in."""
    first = fruit / "runs/fruit"
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
    write(fruit / "next.jsonl", changes)
    done = again(fruit, "--add", "next.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert "1 of 6 rows of next.jsonl has no answer yet and is left out." in done.stderr
    second, told = fruit / "runs/fruit-2", json.loads(done.stdout)
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

    with (fruit / "next.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["finetooth_change", "finetooth_row", "Frage", "Farbe"], delimiter=";")
        writer.writeheader()
        added = next(id for id, row in side(second, "train").items() if row["tags"]["file"] == "next.jsonl")
        writer.writerow({"finetooth_change": "correct", "finetooth_row": added, "Frage": "mended",
                         "Farbe": " red "})  # fmt: skip
        writer.writerow({"finetooth_change": "add", "Frage": "the first strawberry of June", "Farbe": "red"})
        writer.writerow({"finetooth_change": "remove", "finetooth_row": train[0]})
    done = finetooth(fruit, "run", "--add", "next.csv", "--from", "runs/fruit-2", "--onward")
    assert done.returncode == 0, done.stderr
    third = fruit / "runs/fruit-3"
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
    done = finetooth(fruit, "run", "--add", "next.csv", "--from", "runs/fruit-3")
    assert done.returncode == 2 and "runs/fruit-3 was made with it already" in done.stderr
    write(fruit / "next.jsonl", changes[:1])
    done = finetooth(fruit, "run", "--add", "next.csv", "--from", "runs/fruit-2")
    assert done.returncode == 2 and "next.jsonl has changed since runs/fruit-2 was made" in done.stderr


def test_what_was_chosen_automatically_is_chosen_anew(fruit: Path) -> None:
    """But not what decides whether the results can be compared."""
    first = fruit / "runs/fruit"
    _, reasons = iteration.read_config(first / "config.yaml")
    assert "train.epochs" in reasons and "evaluate.max_tokens" in reasons, "the test would show nothing"
    file = write(fruit / "next.jsonl", NEW)
    task = iteration.next_task(first, [file], False, {"train.rank": 4})
    assert (task.train.epochs, task.train.batch_size, task.train.rank) == ("auto", 12, 4)
    stored = workspace.load_config(first)
    assert task.evaluate == stored.evaluate and task.template == stored.template != "auto"
    assert task.data.max_tokens == stored.data.max_tokens != "auto"
    given = iteration.next_task(first, [file], True, {}, load_task(fruit / "fruit.json"))
    assert (given.evaluate.grader, given.start) == ("auto", str(first.resolve()))


def test_near_copies_of_held_out_rows_are_refused(fruit: Path) -> None:
    first = fruit / "runs/fruit"
    text = "my aunt keeps seven jars of plum jam on the upper shelf of the cellar"
    sealed = max((row["context"][0]["content"] for row in side(first, "sealed").values()), key=len)
    rows = [*NEW, {**NEW[0], "Frage": f"Please answer this question: {sealed}", "Farbe": "red"},
            {**NEW[0], "Frage": text}]  # fmt: skip
    write(fruit / "next.jsonl", rows)
    done = again(fruit, "--add", "next.jsonl", "--allow", "leak")
    assert done.returncode == 2
    assert "1 of 4 added or reworded rows repeats rows of the sealed test" in done.stderr
    assert "(next.jsonl, line 3)" in done.stderr and "Remove this row from next.jsonl" in done.stderr
    assert sealed not in done.stderr.replace("Please answer this question", "")
    assert "finetooth check " in done.stderr and "finetooth check TASK" not in done.stderr
    assert not (fruit / "runs/fruit-2/config.yaml").exists()
    page = (fruit / "runs/fruit-2/data/findings.jsonl").read_text()
    assert "a row of the sealed test" in page
    command = done.stderr.split("For the full report: finetooth ")[1].split("\n")[0]
    assert finetooth(fruit, *shlex.split(command), "--out", "runs/fruit-check").returncode == 1
    write(fruit / "next.jsonl", [*rows[:2], rows[3]])
    assert again(fruit, "--add", "next.jsonl", "--quiet").returncode == 0
    assert (fruit / "runs/fruit-2/config.yaml").exists(), "the fruit of the refused one"


def test_a_changed_change_set_is_named_with_the_command_that_takes_it(fruit: Path) -> None:
    write(fruit / "next.jsonl", NEW)
    assert again(fruit, "--add", "next.jsonl", "--quiet").returncode == 0
    write(fruit / "next.jsonl", NEW[:1])
    done = again(fruit, "--add", "next.jsonl")
    assert done.returncode == 2 and "next.jsonl has changed since runs/fruit-2 was made" in done.stderr
    (command,) = (line for line in done.stderr.splitlines() if line.startswith("  finetooth run"))
    assert "--add" in command and command.split("    ")[0].endswith("--out runs/fruit-3")


def test_words_for_what_cannot_be_iterated(fruit: Path, tmp_path: Path) -> None:
    write(fruit / "next.jsonl", NEW)
    done = finetooth(fruit, "run", "--add", "next.jsonl")
    assert done.returncode == 2 and "TASK" in done.stderr
    for flag in (["--onward"], ["--random", "next.jsonl"]):
        done = finetooth(fruit, "run", "fruit.json", *flag)
        assert done.returncode == 2 and f"{flag[0]} goes with --add FILE --from RUN." in done.stderr
    done = again(fruit, "--add", "nowhere.jsonl")
    assert done.returncode == 2 and "nowhere.jsonl: no such file" in done.stderr
    shutil.copytree(fruit / "runs/fruit", fruit / "runs/fruit-python")
    config = fruit / "runs/fruit-python/config.yaml"
    values = yaml.safe_load(config.read_text())
    values["data"]["train"] = f"150 {workspace.FROM_PYTHON} (sha256 0)"
    config.write_text(yaml.safe_dump(values))
    done = finetooth(fruit, "run", "--add", "next.jsonl", "--from", "runs/fruit-python")
    assert done.returncode == 2 and "rows from Python, of which it keeps no copy" in done.stderr


def test_python_takes_change_sets_too(fruit: Path) -> None:
    rows = [{"id": id, "text": text, "label": label} for id, text, label in ROWS]
    task = {**TASK, "model": str(fruit / "model"), "data": {"train": rows}}
    more = write(fruit / "more.jsonl", [{"text": row["Frage"], "label": row["Farbe"]} for row in NEW])
    made = ft.run(task, fruit / "runs/fruit-py", overrides={"data.add": [more]}, quiet=True)
    assert sum(ADDED in row["tags"] for row in side(made.path, "train").values()) == 2
    assert workspace.load_config(made.path).data.add == [str(more)]


def test_only_the_ledger_reads_sealed_rows(fruit: Path) -> None:
    """An audit hook sees every file that the iteration and its random arm open."""
    write(fruit / "next.jsonl", NEW)
    write(fruit / "random.jsonl", [{"Frage": f"any berry, {n}", "Farbe": "red"} for n in ("old", "odd")])
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
    ended, _, errors = processes.python(fruit, code)
    last = errors.splitlines()[-1]
    assert ended == 0 and last.startswith("0 "), errors
    opened = json.loads(last[2:])
    assert any(by_ledger for _, by_ledger in opened), "the hook sees what is opened"
    assert all(by_ledger for mode, by_ledger in opened if "w" not in mode)
    assert not (fruit / "runs/fruit-2-random/evaluate/test").exists()
