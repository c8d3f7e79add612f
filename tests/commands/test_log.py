"""`finetooth log`: its table on wide and narrow terminals, its page, its targets, and overfitting."""

from __future__ import annotations

import io
import json
import random
import shlex
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from command_line import finetooth
from html_for_tests import NASTY, Page, harmless
from iterations import added, iteration
from models_for_tests import tiny_model_dir
from rich.console import Console

from finetooth.cli.app import invoke
from finetooth.commands import log, train
from finetooth.config.load import load_task
from finetooth.data.examples import to_json
from finetooth.errors import ConfigError
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl
from finetooth.runs.context import RunContext
from finetooth.runs.overfitting import measure
from finetooth.types import Answer, Example, Message

QUIET = Console(quiet=True)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    first = iteration(folder, "first", 0.70, 1)
    second = iteration(folder, "second", 0.86, 2, first, rows=added(25))
    iteration(folder, "second-random", 0.71, 2, first, rows=added(25, "random"))
    iteration(folder, "third", 0.9, 3, second, "start", test=True)
    return folder


def printed(report: log.LogReport, width: int) -> str:
    file = io.StringIO()
    report.print(Console(file=file, width=width))
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 140])
def test_the_table_fits_the_terminal(runs: Path, width: int) -> None:
    text = printed(log.run(runs), width)
    lines = text.splitlines()
    commands = [line for line in lines if line.lstrip().startswith("finetooth run ")]
    assert all(len(line) <= width for line in lines if line not in commands)  # commands are copied whole
    assert len(commands) == 4 and f"finetooth run {runs}/third/config.yaml --out {runs}/third-again" in text
    words = " ".join(text.split())
    assert "rows: 25 added" in words and "1 look at the sealed test so far" in words
    assert ("sealed test" in lines[1]) == ("against prompts" in text) == (width == 140)
    assert "+16" in words or "+15" in words or "+17" in words  # the step from first to second


def test_targets_are_a_folder_a_run_its_config_and_a_task(runs: Path, capsys: Any) -> None:
    iteration(runs, "other", 0.7, 4, task="other")
    write_jsonl(runs / "other" / "data" / "validation.jsonl", [])
    (runs / "other" / "ledger.jsonl").unlink(missing_ok=True)
    (runs / "other" / "ledger.sha256").unlink(missing_ok=True)
    assert len(log.run(runs).tasks) == 2
    task = runs.parent / "task.yaml"
    task.write_text("name: support-triage\ndata:\n  train: rows.jsonl\n")
    (runs.parent / "rows.jsonl").write_text("{}\n")
    for target in (runs / "second", runs / "second" / "config.yaml", task, runs.parent):
        (found,) = log.run(target).tasks
        assert [one["name"] for one in found["iterations"]] == ["first", "second", "second-random", "third"]
    with chdir(runs.parent):
        assert invoke(["log", "--json"]) == 0  # default: runs/
        assert invoke(["log", "nowhere"]) == 2
    out, err = capsys.readouterr()
    assert [task["name"] for task in json.loads(out)["tasks"]] == ["support-triage", "other"]
    assert json.loads(out)["tasks"][0]["iterations"][0]["run"] == "runs/first"
    assert "no such file or directory" in err
    task.write_text("name: unknown\ndata:\n  train: rows.jsonl\n")
    with pytest.raises(ConfigError, match="no run of the task unknown"):
        log.run(task)


def test_the_page_has_the_curve_and_is_harmless(runs: Path, tmp_path: Path) -> None:
    bad = iteration(runs, "bad", 0.8, 4, runs / "third")
    (bad / "config.yaml").write_text(f"{NASTY}: [")
    page = tmp_path / "log.html"
    report = log.run(runs, page)
    html = page.read_text()
    made = Page(html)
    harmless(made)
    circles = [attributes for tag, attributes in made.seen if tag == "circle"]
    assert len(circles) == 4 + 1  # every score, and one sealed test
    links = [one for tag, one in made.seen if tag == "line" and one.get("class") == "link"]
    assert len(links) == 3
    heights = {one["name"]: one["score"]["score"] for one in report.tasks[0]["iterations"] if one["score"]}
    y = {float(str(one["cy"]).rstrip("%")) for one in circles}
    assert len(y) >= 4 and heights["third"] > heights["second"] > heights["first"]
    assert "3 iterations, from" in made.words and "cannot be read" in made.words
    assert "random rows, for comparison" in made.words
    other = tmp_path / "mine.html"
    other.write_text("mine")
    with pytest.raises(ConfigError, match="never overwrites"):
        log.run(runs, other)


def test_a_single_run_and_one_without_scores_have_a_page(tmp_path: Path) -> None:
    iteration(tmp_path / "runs", "only", 0.8, evaluated=False)
    report = log.run(tmp_path / "runs", tmp_path / "log.html")
    assert "<svg" not in (tmp_path / "log.html").read_text()
    assert report.tasks[0]["title"] == "support-triage: 1 iteration"


# ---- with models


def word(draw: random.Random) -> str:
    return "".join(draw.choices("abcdefghij", k=3))


def texts(kind: str, count: int, seed: int) -> list[dict[str, str]]:
    """Random answers, or one answer of many tokens that every row has."""
    draw = random.Random(seed)
    same = "we will answer it on the next day"
    return [
        {
            "input": f"text {seed + at}",
            "output": " ".join(word(draw) for _ in range(6)) if kind == "random" else same,
        }
        for at in range(count)
    ]


def trained(folder: Path, kind: str) -> Path:
    """A run that was trained on 8 rows until it knows them, with 20 new rows for validation."""
    values: dict[str, Any] = {
        "model": str(folder / "model"),
        "data": {"train": texts(kind, 8 if kind == "random" else 16, 0), "validation": 0, "test": 0},
        "train": {"batch_size": 8, "learning_rate": 0.01, "adapter": "none", "preflight": "off"},
        "evaluate": {"shots": [], "grader": "exact"},
    }
    values["train"] |= {"epochs": 60 if kind == "random" else 25, "schedule": "constant"}
    path = folder / kind
    train.train(RunContext(load_task(values), path, QUIET), needs_grader=False)
    new = [
        Example(f"new-{at}", (Message("user", row["input"]),), (Answer(row["output"]),))
        for at, row in enumerate(texts(kind, 20, 1_000))
    ]
    write_jsonl(path / "data" / "validation.jsonl", map(to_json, new))
    split = read_json(path / "data" / "split.json")
    write_json(path / "data" / "split.json", {**split, "validation": len(new)})
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    tiny_model_dir(folder / "model")
    return folder


def test_planted_memorisation_is_found_and_row_by_row(place: Path) -> None:
    path = trained(place, "random")
    found = measure(path, QUIET)
    assert found["gap"]["verdict"] == "overfitting" and found["gap"]["train"] == 1
    memory = found["memory"]
    assert memory["verdict"] == "memorised" and memory["memorised"] == memory["checked"] == 8
    assert (memory["control"], memory["control_memorised"]) == (20, 0)
    ids = {line["id"] for line in read_jsonl(path / "data" / "train.jsonl")}
    assert {row["id"] for row in memory["rows"]} == ids
    assert read_json(path / "errors" / "overfitting.json") == found
    shown = printed(log.run(path), 100)
    assert "Overfitting: 100% on rows it was trained on, 0% on new ones" in " ".join(shown.split())


def test_boilerplate_that_every_row_has_is_not_memorised(place: Path) -> None:
    path = trained(place, "same")
    done = finetooth(place, "log", path, "--overfitting", "--json")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)["tasks"][0]["iterations"]
    found = one["overfitting"]
    assert found["gap"]["verdict"] == "no gap" and found["gap"]["train"] == 1
    memory = found["memory"]
    assert memory["repeated"] == 16  # word for word, and yet
    assert (memory["verdict"], memory["memorised"], memory["rows"]) == ("not memorised", 0, [])


def test_the_command_shown_repeats_an_iteration_on_the_same_split(place: Path) -> None:
    """Of one that keeps the split of another run, and of one that continues it: what is printed is run."""
    rows = [{"input": f"{n} of fruit", "output": "yes" if n % 3 else "no"} for n in range(60)]
    write_jsonl(place / "rows.jsonl", rows)
    task: dict[str, Any] = {"name": "fruit", "model": "model", "data": {"train": "rows.jsonl"}}
    task |= {"train": {"preflight": "off", "max_steps": 2, "select": "loss"}, "evaluate": {"shots": [0]}}
    write_json(place / "fruit.json", task)

    def ran(*words: Any) -> None:
        done = finetooth(place, *words, "--quiet")
        assert done.returncode == 0, done.stderr

    ran("run", "fruit.json")
    write_jsonl(place / "rows.jsonl", [*rows, {"input": "a new row of vegetables", "output": "no"}])
    ran("run", "fruit.json", "--data.split_from", "runs/fruit", "--out", "runs/more")
    ran("run", "fruit.json", "--from", "runs/fruit", "--out", "runs/longer")
    (listed,) = json.loads(finetooth(place, "log", "fruit.json", "--json").stdout)["tasks"]
    for one in listed["iterations"][1:]:
        assert one["parent"] == "runs/fruit" and one["rows"]["added"] <= 1
        ran(*shlex.split(one["again"])[1:])
        made, again = place / one["run"], place / f"{one['run']}-again"
        for name in ("train.jsonl", "validation.jsonl", "sealed.jsonl"):
            assert (made / "data" / name).read_bytes() == (again / "data" / name).read_bytes()
        first, second = (read_json(run / "evaluate/validation/summary.json") for run in (made, again))
        assert first["candidates"] == second["candidates"]
    (listed,) = json.loads(finetooth(place, "log", "fruit.json", "--json").stdout)["tasks"]
    assert {one["name"]: one["relation"] for one in listed["iterations"]} == {
        "fruit": "",
        **dict.fromkeys(("more", "more-again"), "keeps the split of"),
        **dict.fromkeys(("longer", "longer-again"), "continues"),
    }


def test_overfitting_needs_a_trained_model(runs: Path) -> None:
    with pytest.raises(ConfigError, match="no run with a tuned model"):
        log.run(runs, overfitting=True)
    with pytest.raises(ConfigError, match="has no tuned model yet"):
        log.run(runs / "first", overfitting=True)
