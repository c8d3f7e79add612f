"""Robustness of a run: `evaluate RUN --perturb`, the key evaluate.perturbations, and the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import finetooth
from html_for_tests import Page, harmless
from models_for_tests import tiny_model_dir

import finetooth as ft
from finetooth.evaluation import ledger
from finetooth.evaluation.perturbations.kinds import KINDS
from finetooth.evaluation.perturbations.robustness import FILE
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl

COLORS = {"apple": "red", "banana": "yellow", "plum": "deep blue"}
ASKED = ["Peter, are {} of {} ripe?", "I don't know if {} of {} are", "{} of {}, Anna", "{}, is that a {}?"]
ROWS = [
    {"text": ASKED[(n + at) % 4].format(n + 10, fruit), "label": color}
    for n in range(14)
    for at, (fruit, color) in enumerate(COLORS.items())
]
TRAIN = {"preflight": "off", "max_steps": 2, "select": "loss"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of labels that measured typos and case, whose test was opened: run."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model_dir(folder / "base")
    write_jsonl(folder / "fruit.jsonl", ROWS)
    evaluation = {"shots": [0, 2], "perturbations": ["typos", "case"]}
    data = {"train": "fruit.jsonl", "validation": 0.3, "test": 0.2}
    write_json(folder / "task.yaml", {"model": "base", "data": data, "train": TRAIN, "evaluate": evaluation})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETOOTH_CACHE", str(folder / "cache"))
        done = finetooth(folder, "run", "task.yaml", "--out", "run", "--quiet")
        assert done.returncode == 0, done.stderr
        yield folder


def test_run_measures_the_kinds_of_the_task(place: Path) -> None:
    found = read_json(place / "run" / FILE)
    validation = list(read_jsonl(place / "run" / "data" / "validation.jsonl"))
    assert found["asked"] == ["typos", "case"] and found["rows"] == len(validation)
    prompt, tuned = found["candidates"]
    assert (prompt["name"], tuned["name"]) == (found["prompt"], "tuned") and prompt["name"] != "tuned"
    for candidate in found["candidates"]:
        assert [part["kind"] for part in candidate["kinds"]] == ["typos", "case"]
        for part in candidate["kinds"]:
            assert part["rows"] == len(validation)
            assert part["after"] - part["before"] == pytest.approx(part["difference"])
            assert part["gained"] - part["lost"] == round(part["difference"] * part["rows"])
            assert part["low"] <= part["difference"] <= part["high"]
    assert found["again"] == {"rows": len(validation), "flipped": 0}
    ids = {row["id"] for row in validation}
    assert all(one["id"] in ids for part in tuned["kinds"] for one in part["examples"])


def test_all_kinds_on_a_finished_run_open_nothing(place: Path, asked: list[str]) -> None:
    run = place / "run"
    looks, summary = ledger.look_count(run), (run / "evaluate" / "summary.json").read_bytes()
    done = finetooth(place, "evaluate", "run", "--perturb", "true", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("run") == "run" and found == read_json(run / FILE)
    tuned = found["candidates"][-1]
    kinds = {part["kind"]: part for part in tuned["kinds"]}
    assert {*kinds} == {*KINDS, "addition"} and all(part["rows"] for part in kinds.values())
    assert kinds["addition"]["fell"]["of"] == found["rows"]
    assert 24 <= found["out_of_scope"]["rows"] < 36, "texts that this small model cannot read are left out"
    assert 0 <= found["out_of_scope"]["separation"] <= 1
    assert asked and set(asked) == {found["prompt"], "tuned"}
    assert ledger.look_count(run) == looks and (run / "evaluate" / "summary.json").read_bytes() == summary
    asked.clear()
    assert ft.Run.open(run).robustness() == found and not asked
    again = finetooth(place, "evaluate", "run", "--perturb", "true", "--quiet")
    assert again.returncode == 0 and not asked and "addition" in again.stdout


def test_the_page_shows_it_and_says_so_where_it_was_not_measured(place: Path) -> None:
    finetooth(place, "evaluate", "run", "--perturb", "[case, numbers, out-of-scope]", "--quiet")
    assert finetooth(place, "report", "run").returncode == 0
    page = Page((place / "run" / "report.html").read_text("utf-8"))
    harmless(page)
    rows = read_json(place / "run" / FILE)["out_of_scope"]["rows"]
    assert "Robustness" in page.words and "all letters small, or all capital" in page.words
    assert f"Out of scope: of {rows} general" in page.words and "Asked again unchanged, 0 of" in page.words
    assert "typos, other case or spaces is not known" not in page.words
    (place / "run" / FILE).unlink()
    finetooth(place, "report", "run")
    words = Page((place / "run" / "report.html").read_text("utf-8")).words
    assert "Whether answers hold for typos, other case or spaces is not known" in words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--perturb", "typoes"), "typos"),
        (("--perturb", "typos", "--sealed"), "stands alone"),
        (("--perturb", "typos", "--grader", "exact"), "stands alone"),
    ],
)
def test_what_it_refuses(place: Path, words: tuple[str, ...], said: str) -> None:
    done = finetooth(place, "evaluate", "run", *words)
    assert done.returncode == 2 and said in done.stderr
