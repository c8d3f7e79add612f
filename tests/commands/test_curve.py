"""`finetooth curve`: nested parts of the rows, goes on where it stopped, and leaves the sealed test alone."""

from __future__ import annotations

import json
import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from command_line import finetooth
from models_for_tests import tiny_model_dir

from finetooth.commands import curve as command
from finetooth.commands import train
from finetooth.evaluation import ledger
from finetooth.report import curve_page
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl
from finetooth.runs import lineage, workspace
from finetooth.runs.sized_runs import default_sizes

COLORS = {"apple": "red", "banana": "yellow", "plum": "blue"}
ROWS = [{"text": f"{n} of {fruit}", "label": color} for n in range(30) for fruit, color in COLORS.items()]
SIZES, SEEDS = (10, 20), 2
WORDS = ("curve", "task.yaml", "--sizes", "10,20", "--seeds", "2", "--out", "out")


def kill_after(folder: Path, trainings: int) -> None:
    """In a child process: the curve, killed when it has saved a checkpoint of the next training."""
    real = train.train

    def stopped(context: Any, needs_grader: bool) -> Any:
        if context.path.name == "20-1":
            real_save = train.Trainer._save

            def save(self: Any) -> None:
                real_save(self)
                os.kill(os.getpid(), signal.SIGKILL)

            train.Trainer._save = save  # type: ignore[method-assign]
        return real(context, needs_grader)

    command.train.train = stopped
    finetooth(folder, *WORDS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task and its curve, which was killed in the second of four trainings."""
    folder = tmp_path_factory.mktemp("curve")
    tiny_model_dir(folder / "model")
    write_jsonl(folder / "rows.jsonl", ROWS)
    settings = {"preflight": "off", "epochs": 2, "select": "loss", "learning_rate": 0.02, "rank": 2}
    data = {"train": "rows.jsonl", "test": 0.3, "validation": 0.3}
    write_json(folder / "task.yaml", {"model": "model", "data": data, "train": {**settings, "save_every": 2}})
    child = get_context("fork").Process(target=kill_after, args=(folder, 1))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    runs = folder / "out" / "curve"
    assert (runs / "10-1" / "measured.json").is_file() and not (runs / "20-1" / "measured.json").exists()
    assert [*(runs / "20-1" / "train" / "checkpoints").iterdir()]
    before = (runs / "10-1" / "measured.json").stat().st_mtime_ns
    done = finetooth(folder, *WORDS, "--json")
    assert done.returncode == 0, done.stderr
    assert (runs / "10-1" / "measured.json").stat().st_mtime_ns == before
    write_json(folder / "said.json", json.loads(done.stdout))
    return folder


def ids(place: Path, size: int, seed: int, side: str = "train") -> list[str]:
    folder = place / "out" / "curve" / f"{size}-{seed}" / "data"
    return [row["id"] for row in read_jsonl(folder / f"{side}.jsonl")]


def test_the_rows_of_a_size_are_among_those_of_a_larger_one(place: Path) -> None:
    for seed in (1, 2):
        few, many = (ids(place, size, seed) for size in SIZES)
        assert (len(few), len(many)) == SIZES and many[: len(few)] == few
        assert set(many) <= {row["id"] for row in read_jsonl(place / "out/data/train.jsonl")}
    assert set(ids(place, 10, 1)) != set(ids(place, 10, 2))
    validation = {tuple(ids(place, size, seed, "validation")) for size in SIZES for seed in (1, 2)}
    assert len(validation) == 1


def test_a_killed_training_goes_on_to_the_same_weights(place: Path) -> None:
    """Resumed from its checkpoint, it measures what a training in one go measures."""
    done = finetooth(place, *WORDS[:-1], "again", "--seeds", "1")
    assert done.returncode == 0, done.stderr
    for size in SIZES:
        folders = [place / out / "curve" / f"{size}-1" for out in ("out", "again")]
        one, other = (list(read_jsonl(folder / "answers.jsonl")) for folder in folders)
        assert one == other
        steps = [[line["step"] for line in read_jsonl(one / "train/metrics.jsonl")] for one in folders]
        assert steps[0] == steps[1]


def test_automatic_settings_are_those_of_the_size(place: Path) -> None:
    for size in SIZES:
        found = read_json(place / f"out/curve/{size}-1/measured.json")
        assert found["batch_size"] == 1 and found["steps"] == 2 * size
        assert found["epochs_done"] == 2 and not found["stopped_early"]
        assert not (place / f"out/curve/{size}-1/train/checkpoints").exists()
    tasks = [workspace.load_config(place / "out/curve" / name) for name in ("20-1", "20-2")]
    assert [task.train.seed for task in tasks] == [1, 2]


def test_the_sealed_test_is_neither_copied_nor_opened(place: Path) -> None:
    sealed = {row["text"] for row in ROWS} - {
        row["context"][-1]["content"] for side in ("train", "validation")
        for row in read_jsonl(place / f"out/data/{side}.jsonl")
    }  # fmt: skip
    assert len(sealed) > 10
    files = [file for file in (place / "out").rglob("*.json*") if file.name != "check.json"]
    texts = [file.read_text("utf-8") for file in files if "data/findings" not in str(file)]
    assert not [text for text in sealed if any(f'"{text}"' in content for content in texts)]
    for run in (place / "out", place / "out/curve/20-1"):
        assert not ledger.sealed_count(run) and ledger.look_count(run) == 0


def test_the_report_has_the_forecast_and_the_labels(place: Path) -> None:
    said = read_json(place / "said.json")
    assert [(one["size"], one["seed"]) for one in said["trainings"]] == [(10, 1), (10, 2), (20, 1), (20, 2)]
    forecast = said["forecast"]
    assert forecast["size"] == 20 and forecast["target"] == 40 and forecast["low"] <= forecast["score"]
    assert forecast["words"].startswith("Doubling the 20 rows would bring about ")
    assert "2 sizes say little" in " ".join(forecast["warnings"])
    assert {one["group"] for one in said["gains"]} <= set(COLORS.values()) and said["group"] == "label"
    page = (place / "out" / "curve.html").read_text("utf-8")
    assert page.count('class="seed"') == 4 and forecast["words"] in page and "<script" not in page
    shown = finetooth(place, *WORDS)
    assert shown.returncode == 0 and "(forecast)" in shown.stdout and "out/curve.html" in shown.stdout


def test_a_second_call_trains_nothing(place: Path) -> None:
    files = {file: file.stat().st_mtime_ns for file in (place / "out" / "curve").rglob("measured.json")}
    started = time.perf_counter()
    assert finetooth(place, *WORDS).returncode == 0
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert time.perf_counter() - started < 10


def test_other_settings_and_changed_rows_are_refused(place: Path) -> None:
    other = finetooth(place, *WORDS, "--train.rank", "3")
    assert other.returncode == 2 and "train.rank is 2 there and 3 here" in other.stderr
    rate = read_json(place / "task.yaml")
    write_json(place / "task.yaml", {**rate, "train": {**rate["train"], "learning_rate": "auto"}})
    automatic = finetooth(place, *WORDS)
    write_json(place / "task.yaml", rate)
    assert (
        automatic.returncode == 2 and "train.learning_rate is 0.02 there and 'auto' here" in automatic.stderr
    )
    before = (place / "rows.jsonl").read_bytes()
    (place / "rows.jsonl").write_bytes(before + b'{"text": "9 of kiwi", "label": "red"}\n')
    changed = finetooth(place, *WORDS)
    (place / "rows.jsonl").write_bytes(before)
    assert changed.returncode == 2 and "rows.jsonl has changed since out was begun" in changed.stderr
    many = finetooth(place, *WORDS[:3], "10,5000", *WORDS[4:])
    assert many.returncode == 2 and "5000 is not between 1 and the" in many.stderr
    words = finetooth(place, *WORDS[:3], "ten", *WORDS[4:])
    assert words.returncode == 2 and "found 'ten'" in words.stderr


def test_a_run_has_a_curve_of_its_own_rows(place: Path) -> None:
    assert finetooth(place, "train", "task.yaml", "--out", "run").returncode == 0
    done = finetooth(place, "curve", "run", "--sizes", "10", "--seeds", "1", "--out", "of-run", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["id"] for row in read_jsonl(place / "run/data/train.jsonl")}
    assert {row["id"] for row in read_jsonl(place / "of-run/data/train.jsonl")} == rows
    assert read_json(place / "of-run/curve/10-1/measured.json")["steps"] == 20  # not the run's 2 x its rows
    assert [run.path for run in lineage.find_runs([place])] == [place / "run"]


def test_all_rows_with_the_seed_of_the_run_repeat_the_run(place: Path) -> None:
    """So the point of the curve at the run's own size is the run's own score."""
    assert finetooth(place, "run", "task.yaml", "--out", "whole").returncode == 0
    rows = [row["id"] for row in read_jsonl(place / "whole/data/train.jsonl")]
    words = ("curve", "whole", "--sizes", str(len(rows)), "--seeds", "1", "--out", "of-whole")
    assert finetooth(place, *words).returncode == 0
    again = place / f"of-whole/curve/{len(rows)}-1"
    assert [row["id"] for row in read_jsonl(again / "data/train.jsonl")] == rows
    of_run, of_curve = (
        [line.get("loss") for line in read_jsonl(path / "train/metrics.jsonl")]
        for path in (place / "whole", again)
    )
    assert of_run == of_curve
    answers = {row["id"]: row["text"] for row in read_jsonl(again / "answers.jsonl")}
    tuned = [
        row
        for row in read_jsonl(place / "whole/evaluate/validation/records.jsonl")
        if row["candidate"] == "tuned"
    ]
    assert answers == {row["id"]: row["text"] for row in tuned}


def test_the_line_of_a_training_says_the_epochs_that_were_taken() -> None:
    """141 rows in batches of 8 are 18 steps an epoch, so 50 steps are 2.8 epochs."""
    one = {"size": 141, "seed": 1, "score": 0.389, "steps": 50, "epochs": 6.0, "batch_size": 8}
    one |= {"seconds": {"training": 9.0, "answers": 1.0}}
    early = {**one, "epochs_done": 50 / 18, "stopped_early": True}
    words = "141 rows, seed 1: score 38.9%, 50 steps (2.8 of 6 epochs, stopped early), 10 s"
    assert command._line(early) == words
    assert command._line({**early, "steps": 108, "epochs_done": 6.0, "stopped_early": False}) == (
        "141 rows, seed 1: score 38.9%, 108 steps (6 epochs), 10 s"
    )
    assert "(2.8 of 6 epochs)" in command._line({**early, "stopped_early": False})  # max_steps


def test_scores_and_steps_stand_in_the_order_of_the_seeds() -> None:
    of = ((0.574, 108), (None, 90), (0.389, 50))
    trainings = [
        {"size": 141, "seed": seed, "score": score, "steps": steps, "seconds": {"training": 60.0}}
        for seed, (score, steps) in enumerate(of, 1)
    ]
    (line,) = curve_page._sizes({"trainings": [trainings[at] for at in (2, 0, 1)]})
    assert (line["each"], line["steps"]) == ("57.4%, –, 38.9%", "108, 90, 50")
    assert line["score"] == "48.1%"


def test_default_sizes_are_halvings() -> None:
    assert default_sizes(400) == [50, 100, 200, 400]
    assert default_sizes(70) == [17, 35, 70]
    assert default_sizes(9) == [9]
