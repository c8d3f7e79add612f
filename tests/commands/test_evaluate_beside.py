"""`finetooth evaluate RUN --grader|--test|--prompt`: what is graded or asked again, and at what cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from command_line import finetooth
from html_for_tests import Page, harmless
from models_for_tests import tiny_model_dir
from trained_elsewhere import train_adapter

from finetooth.evaluation import ledger
from finetooth.rundir import read_json, read_jsonl, sha256_file, write_json, write_jsonl

COLORS = {"apple": "red", "banana": "yellow", "plum": "deep blue"}
ROWS = [(f"{n} of {fruit}?", color) for n in range(14) for fruit, color in COLORS.items()]
OWN = ("evaluate/validation/records.jsonl", "evaluate/test/records.jsonl", "evaluate/summary.json")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of labels whose test was opened: runs/fruit."""
    folder = tmp_path_factory.mktemp("place")
    train_adapter(tiny_model_dir(folder / "base"), ROWS[::4], folder / "adapter", steps=5)
    write_jsonl(folder / "fruit.jsonl", [{"text": q, "label": a} for q, a in ROWS])
    data = {"train": "fruit.jsonl", "validation": 0.3, "test": 0.2}
    write_json(folder / "fruit.yaml", {"model": "base", "data": data, "evaluate": {"shots": [0, 2]}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETOOTH_CACHE", str(folder / "cache"))
        done = finetooth(folder, "evaluate", "adapter", "fruit.yaml", "--out", "run", "--sealed", "--quiet")
        assert done.returncode == 0, done.stderr
        yield folder


@pytest.fixture(autouse=True)
def nothing_earlier_changes(place: Path) -> Iterator[None]:
    before = {name: sha256_file(place / "run" / name) for name in OWN}
    yield
    assert before == {name: sha256_file(place / "run" / name) for name in OWN}


def evaluated(place: Path, *words: Any) -> Any:
    done = finetooth(place, "evaluate", "run", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def records(place: Path, folder: str) -> dict[tuple[str, str], dict[str, Any]]:
    lines = read_jsonl(place / "run" / "evaluate" / folder / "records.jsonl")
    return {(line["candidate"], line["id"]): line for line in lines}


def page_words(place: Path, name: str) -> str:
    """What the page of an evaluation says; the page is whole, and nothing in it acts."""
    shown = finetooth(place, "report", "run", "--evaluation", name, "--json")
    assert shown.returncode == 0, shown.stderr
    page = Page((place / json.loads(shown.stdout)["report"]).read_text(encoding="utf-8"))
    assert page.open == []
    harmless(page)
    return page.words


def test_a_new_grader_grades_the_answers_on_record(place: Path, asked: list[str]) -> None:
    summary, told = evaluated(place, "--grader", "[chrf, exact]")
    assert asked == [] and ledger.look_count(place / "run") == 1
    assert summary["grader"] == "chrf" and summary["evaluation"] == "chrf-exact"
    assert "no look at it is spent" in told
    old, new = records(place, "validation"), records(place, "chrf-exact")
    assert {key: line["text"] for key, line in old.items()} == {k: line["text"] for k, line in new.items()}
    assert any(old[key]["score"] != new[key]["score"] for key in old)
    shown = finetooth(place, "report", "run", "--evaluation", "chrf-exact")
    assert shown.returncode == 0 and "graded by chrf" in shown.stdout
    assert shown.stdout.endswith("Report: run/evaluate/chrf-exact/report.html\n")
    words = page_words(place, "chrf-exact")
    assert "· chrf-exact base model" in words and "on the validation rows" in words
    again = finetooth(place, "evaluate", "run", "--grader", "[chrf, exact]")
    assert again.returncode == 2 and "never replaced" in again.stderr
    lost = finetooth(place, "report", "run", "--evaluation", "nothing")
    assert lost.returncode == 2 and "chrf-exact" in lost.stderr


def test_an_edited_result_is_noticed(place: Path) -> None:
    evaluated(place, "--grader", "f1", "--name", "edited")
    file = place / "run/evaluate/edited/summary.json"
    write_json(file, read_json(file) | {"n": 1000})
    done = finetooth(place, "report", "run", "--evaluation", "edited")
    assert done.returncode == 2 and "not what finetooth wrote" in done.stderr


def test_grading_the_test_anew_spends_one_look(place: Path, asked: list[str]) -> None:
    before = ledger.look_count(place / "run")
    summary, told = evaluated(place, "--grader", "rouge", "--sealed")
    assert asked == [] and summary["split"] == "test" and summary["evaluation"] == "test-rouge"
    assert ledger.look_count(place / "run") == summary["look"] == before + 1
    assert f"spends look {before + 1}" in told
    _, told = evaluated(place, "--grader", "rouge", "--sealed", "--name", "same")
    assert ledger.look_count(place / "run") == before + 1 and "already on record" in told
    compared = finetooth(place, "report", "run")
    assert compared.returncode == 0, compared.stderr
    words = page_words(place, "test-rouge")
    sealed = ledger.read_sealed(place / "run")
    assert "not shown" in words and not [row.id for row in sealed if row.id in words]


def test_new_rows_are_asked_and_those_of_the_run_are_left_out(
    place: Path, tmp_path: Path, asked: list[str]
) -> None:
    new = [{"text": f"{n} of {fruit}?", "label": color} for n in (20, 21) for fruit, color in COLORS.items()]
    write_jsonl(tmp_path / "march.jsonl", [*new, *({"text": q, "label": a} for q, a in ROWS)])
    looks = ledger.look_count(place / "run")
    summary, told = evaluated(place, "--test", tmp_path / "march.jsonl")
    assert summary["n"] == len(new) and summary["split"] == "march.jsonl"
    assert asked == ["zero-shot", "few-shot-2", "tuned"]
    assert f"{len(ROWS)} of {len(ROWS) + len(new)} rows are left out" in told.replace("\n", " ")
    sealed = ledger.sealed_count(place / "run")
    assert f"{sealed} of the sealed test rows" in told.replace("\n", " ")
    assert ledger.look_count(place / "run") == looks
    words = page_words(place, "march")
    assert "on the rows of march.jsonl" in words and "new to the run" in words
    assert all(row["text"] in words for row in new) and "What is taken for what" in words
    answers = {line["text"] for (name, _), line in records(place, "march").items() if name == "tuned"}
    assert answers <= set(COLORS.values())  # asked as the run asks: among the labels
    write_jsonl(tmp_path / "known.jsonl", [{"text": q, "label": a} for q, a in ROWS])
    done = finetooth(place, "evaluate", "run", "--test", tmp_path / "known.jsonl")
    assert done.returncode == 2 and "no row is new" in done.stderr
    both = finetooth(place, "evaluate", "run", "--test", tmp_path / "march.jsonl", "--sealed")
    assert both.returncode == 2 and "Leave one out" in both.stderr


def test_near_copies_among_new_rows_are_one_observation(place: Path, tmp_path: Path) -> None:
    """Planted: 40 letters, each in six versions that differ in a word; as evidence they are 40."""
    draw = Random(1)
    words = ["".join(draw.choices("bdfgklmnprst", k=3)) + draw.choice("aeiou") + "n" for _ in range(400)]
    letters = [" ".join(draw.sample(words, 14)) for _ in range(40)]
    colors = list(COLORS.values())
    rows = [
        {"text": f"{letter} {'please' if copy == 0 else f'kindly {copy}'}", "label": colors[at % 3]}
        for at, letter in enumerate(letters)
        for copy in range(6)
    ]
    write_jsonl(tmp_path / "letters.jsonl", rows)
    summary, _ = evaluated(place, "--test", tmp_path / "letters.jsonl")
    assert summary["n"] == 240 and summary["groups"] == 40
    assert {one["units"] for one in summary["comparisons"]} == {40}
    kept = read_jsonl(place / "run" / "evaluate" / "letters" / "rows.jsonl")
    assert len({row["tags"]["near-copies"] for row in kept}) == 40
    assert "240 rows in 40 clusters" in page_words(place, "letters")


@pytest.mark.parametrize("kind", ["text", "yaml", "json"])
def test_a_new_prompt_is_asked_of_the_base_alone(
    place: Path, tmp_path: Path, asked: list[str], kind: str
) -> None:
    examples = [{"question": "99 of apple?", "answer": "red"}]
    if kind == "text":
        file = tmp_path / "short.txt"
        file.write_text("Name the color.\n")
    else:
        file = tmp_path / f"short-{kind}.{kind}"
        write_json(file, {"instruction": "Name the color.", "labels": kind == "yaml", "examples": examples})
    summary, _ = evaluated(place, "--prompt", file)
    assert asked == ["prompt"]
    names = [entry["name"] for entry in summary["candidates"]]
    assert names == ["majority", "bag-of-words", "zero-shot", "few-shot-2", "prompt", "tuned"]
    assert summary["comparison"]["baseline"] in names[2:5]
    old, new = records(place, "validation"), records(place, summary["evaluation"])
    assert all(new[key]["text"] == line["text"] for key, line in old.items())
    length = {name: entry["prompt_tokens"] for name, entry in zip(names, summary["candidates"], strict=True)}
    assert length["prompt"] != length["zero-shot"]
    assert (length["prompt"] > length["tuned"]) or kind == "text"


def test_a_new_prompt_on_the_test_spends_a_look(place: Path, tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / "p.txt").write_text("Name the color.")
    before = ledger.look_count(place / "run")
    summary, told = evaluated(place, "--prompt", tmp_path / "p.txt", "--sealed")
    assert asked == ["prompt"] and "asked with a new prompt" in told.replace("\n", " ")
    assert ledger.look_count(place / "run") == before + 1 == summary["look"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.yaml", "instruktion: x", "instruktion"),
        ("p.yaml", "[1, 2]", "expected some of the keys"),
        ("p.json", '{"examples": [{"q": "x"}]}', "example 1"),
        ("p.yaml", "shots: -1", "shots"),
        ("gone.txt", None, "cannot be read"),
    ],
)
def test_a_broken_prompt_is_named(
    place: Path, tmp_path: Path, name: str, content: str | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    done = finetooth(place, "evaluate", "run", "--prompt", tmp_path / name)
    assert done.returncode == 2 and expected in done.stderr


def test_perplexity_needs_the_models_again(place: Path) -> None:
    summary, _ = evaluated(place, "--grader", "perplexity")
    assert [entry["name"] for entry in summary["candidates"]] == ["zero-shot", "few-shot-2", "tuned"]
    assert 0 < summary["candidates"][-1]["score"] < 1


def test_flags_of_a_run_are_no_flags_of_a_model(place: Path) -> None:
    done = finetooth(place, "evaluate", "adapter", "fruit.yaml", "--grader", "rouge")
    assert done.returncode == 2 and "--grader is for a run" in done.stderr
    done = finetooth(place, "evaluate", "run", "--name", "x")
    assert done.returncode == 2 and "--name goes with" in done.stderr
    done = finetooth(place, "evaluate", "run", "--grader", "f1", "--name", "test")
    assert done.returncode == 2 and "not a name" in done.stderr
