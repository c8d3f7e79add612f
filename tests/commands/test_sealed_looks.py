"""`finetooth run` again and again on one task: the first opens the sealed test, later ones only if asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import finetooth
from models_for_tests import tiny_model_dir

from finetooth.evaluation import ledger
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.looks import FOLDER, LookLedger, SealedSet
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl

COLORS = {"apple": "red", "banana": "yellow", "plum": "blue"}
ROWS = [{"text": f"{n} of {fruit}", "label": color} for n in range(30) for fruit, color in COLORS.items()]
TRAIN = {"preflight": "off", "rank": 2, "max_steps": 1, "select": "loss"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A task with three declared looks, and its first run, runs/first."""
    folder = tmp_path_factory.mktemp("made")
    tiny_model_dir(folder / "model")
    write_jsonl(folder / "rows.jsonl", ROWS)
    evaluate = {"shots": [0], "looks": 3}
    write_json(
        folder / "task.yaml",
        {
            "model": "model",
            "data": {"train": "rows.jsonl", "test": 0.4},
            "train": TRAIN,
            "evaluate": evaluate,
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETOOTH_STATE", str(folder / "state"))
        done = finetooth(folder, "run", "task.yaml", "--out", "runs/first", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["split"] == "test"
        yield folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder and of the user's state, so that no test sees another one's looks."""
    folder = shutil.copytree(made, tmp_path / "place")
    for file in (folder / "runs/first/config.yaml", folder / "runs/first/environment.json"):
        file.write_text(file.read_text().replace(str(made), str(folder)))
    monkeypatch.setenv("FINETOOTH_STATE", str(folder / "state"))
    return folder


def run(folder: Path, out: str, *words: object) -> tuple[dict[str, Any], str]:
    done = finetooth(folder, "run", "task.yaml", "--out", out, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), " ".join(done.stderr.split())


def looks(folder: Path) -> list[int]:
    """The numbers of the looks on record in the user's state directory; the copies there are equal."""
    found = []
    for file in (folder / "state" / "ledger").glob("*.jsonl"):
        beside = folder / FOLDER / file.name
        assert beside.read_bytes() == file.read_bytes()
        found += [line["look"] for line in read_jsonl(file) if line["event"] == "opened"]
    return sorted(found)


OTHER = ("--train.learning_rate", "0.0001")  # other weights


def test_the_first_run_opens_the_test_at_the_declared_level(made: Path) -> None:
    summary = read_json(made / "runs/first/evaluate/summary.json")
    assert (summary["look"], summary["looks"], summary["alpha"]) == (1, 3, pytest.approx(0.05 / 3))
    assert summary["comparison"]["level"] == pytest.approx(1 - 0.05 / 3)
    assert "This was look 1 at the sealed test, of 3 declared" in summary["words"]
    assert looks(made) == [1]


def test_later_runs_stay_on_validation_rows_until_they_are_told_otherwise(place: Path) -> None:
    summary, told = run(place, "runs/second", *OTHER)
    assert summary["split"] == "validation" and "look" not in summary and summary["looks_of_others"] == 1
    assert summary["comparison"]["verdict"] != "better"
    assert "The sealed test stays closed" in told and "by the run first on 20" in told
    assert "To spend look 2 of 3, tested at the level .0167: finetooth evaluate runs/second --sealed" in told
    assert looks(place) == [1]
    page = (place / "runs/second/report.html").read_text()
    assert "This run has not opened the sealed test, and other runs have." in page
    assert not (place / "runs/second/evaluate/test").exists()
    again, told = run(place, "runs/second", *OTHER)
    assert again == summary and "stays closed" in told and looks(place) == [1]

    opened, _ = run(place, "runs/second", *OTHER, "--sealed")
    assert opened["split"] == "test" and (opened["look"], opened["looks"]) == (2, 3)
    assert looks(place) == [1, 2]
    shown = finetooth(place, "report", "runs/second")
    assert "of the sealed test (look 2 of 3, alpha .0167)" in " ".join(shown.stdout.split())
    assert "(look 2 of 3, alpha .0167)" in (place / "runs/second/report.html").read_text()
    again, told = run(place, "runs/second", *OTHER)
    assert again == opened and "runs/second is finished" in told


def test_the_same_weights_get_the_stored_result_from_any_run(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = ModelCandidate.answers

    def answers(self: ModelCandidate, examples: Any, *given: Any, **more: Any) -> Any:
        asked.append(len(examples))
        return real(self, examples, *given, **more)

    monkeypatch.setattr(ModelCandidate, "answers", answers)
    (place / "runs/first").rename(place / "runs/renamed")
    sealed = len(list(read_jsonl(place / "runs/renamed/data/sealed.jsonl")))
    summary, told = run(place, "runs/same")
    first = read_json(place / "runs/renamed/evaluate/summary.json")
    assert {key: summary[key] for key in first} == first and "this is the stored result" in told
    assert asked and sealed not in asked
    assert looks(place) == [1]
    shown = finetooth(place, "report", "runs/same")
    assert shown.returncode == 0 and "older version" not in shown.stdout
    again = finetooth(place, "evaluate", "runs/same", "--sealed", "--json")
    assert again.returncode == 0 and looks(place) == [1]
    compared = finetooth(place, "compare", "runs/renamed", "runs/same", "--sealed", "--json")
    assert compared.returncode == 0, "the records have come along"
    (pair,) = json.loads(compared.stdout)["comparisons"]
    assert (pair["n"], pair["difference"], pair["verdict"]) == (sealed, 0, "not proven")


def test_a_stored_result_without_its_records_says_where_they_are(place: Path) -> None:
    """The run that has them is elsewhere; when it is back, they are copied at no look."""
    (place / "runs/first").rename(place / "away")
    run(place, "runs/same")
    run(place, "runs/second", *OTHER, "--sealed")
    refused = finetooth(place, "compare", "runs/second", "runs/same", "--sealed")
    told = " ".join(refused.stderr.split())
    assert refused.returncode == 2 and "took its sealed result over from the run first" in told
    assert f"Put that run into {place / 'runs'}" in told
    assert "finetooth evaluate runs/same --sealed" in told and "leave --sealed out" in told
    (place / "away").rename(place / "runs/first")
    records = place / "runs/first/evaluate/test/records.jsonl"
    content = records.read_bytes()
    records.write_bytes(content.replace(b"red", b"sad"))
    assert finetooth(place, "evaluate", "runs/same", "--sealed").returncode == 0
    assert not (place / "runs/same/evaluate/test/records.jsonl").exists(), "edited records are no records"
    records.write_bytes(content)
    assert finetooth(place, "evaluate", "runs/same", "--sealed").returncode == 0
    assert looks(place) == [1, 2]
    compared = finetooth(place, "compare", "runs/second", "runs/same", "--sealed")
    assert compared.returncode == 0, compared.stderr


@pytest.mark.parametrize(
    "how",
    [
        "seed",
        *(pytest.param(how, marks=pytest.mark.full) for how in ("shortened", "a copy", "a deleted ledger")),
    ],
)
def test_the_seal_is_not_evaded(how: str, place: Path, tmp_path: Path) -> None:
    words: tuple[object, ...] = OTHER
    shutil.rmtree(place / "runs")
    if how == "seed":
        words = ("--seed", 7)
    elif how == "shortened":
        write_jsonl(place / "rows.jsonl", ROWS[8:])
    elif how == "a copy":
        place = shutil.copytree(place, tmp_path / "copy")
        shutil.rmtree(place / FOLDER)
    else:
        shutil.rmtree(place / "state")
    summary, told = run(place, "runs/other", *words)
    assert summary["split"] == "validation" and "stays closed" in told
    opened, _ = run(place, "runs/other", *words, "--sealed")
    assert opened["look"] == 2


def test_a_look_too_many_is_taken_and_proves_nothing(place: Path) -> None:
    """With another number of looks, which comes too late."""
    rows = LookLedger(SealedSet.of(ledger.read_sealed(place / "runs/first")), place)
    for digest in "bc":
        rows.take(digest, 1, place / "runs/first", "2026-11-30")
    assert looks(place) == [1, 2, 3]
    words = (*OTHER, "--evaluate.looks", 9)
    summary, told = run(place, "runs/more", *words, "--sealed")
    assert (summary["look"], summary["looks"]) == (4, 3)
    assert "evaluate.looks is 9, but 3" in told
    assert "his is look 4 at the sealed test and 3 looks were declared" in summary["words"]
    assert summary["comparison"]["verdict"] != "better"
    _, told = run(place, "runs/last", "--train.learning_rate", "0.002")
    assert "A further look can prove no improvement; only new sealed rows can. To spend look 5, of 3" in told


def test_an_edited_ledger_stops_with_what_to_do(place: Path) -> None:
    (file,) = (place / FOLDER).glob("*.jsonl")
    file.write_text(file.read_text().replace('"look": 1', '"look": 0'))
    done = finetooth(place, "run", "task.yaml", "--out", "runs/second", *OTHER)
    assert done.returncode == 2 and "Delete it, and it is restored" in " ".join(done.stderr.split())
    file.unlink()
    summary, told = run(place, "runs/second", *OTHER)
    assert summary["split"] == "validation" and "stays closed" in told


def test_a_state_directory_that_cannot_be_written_is_one_sentence(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "file").write_text("")
    monkeypatch.setenv("FINETOOTH_STATE", str(place / "file"))
    _, told = run(place, "runs/second", *OTHER, "--sealed")
    assert told.count("cannot be written") == 1 and f"recorded in {place / FOLDER} alone" in told
    shutil.rmtree(place / FOLDER)
    (place / FOLDER).write_text("")
    done = finetooth(place, "run", "task.yaml", "--out", "runs/third", "--seed", 3, "--sealed")
    assert done.returncode == 2 and "stays closed" in done.stderr
    assert not (place / "runs/third/evaluate/test").exists()


def test_without_validation_rows_a_closed_test_leaves_nothing_to_measure(place: Path) -> None:
    words = ("--data.validation", 0, *OTHER)
    done = finetooth(place, "run", "task.yaml", "--out", "runs/none", *words)
    assert done.returncode == 2 and "has no validation rows" in done.stderr
    assert "finetooth evaluate runs/none --sealed" in " ".join(done.stderr.split())
