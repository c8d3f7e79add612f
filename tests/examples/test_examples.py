"""The examples that come with finetooth: their data keeps what their READMEs say, and each of them runs."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from gate import gate

from finetooth.cli.app import invoke
from finetooth.commands.examples import folder, titles
from finetooth.config.load import load_task
from finetooth.data.examples import normalise
from finetooth.evaluation import graders
from finetooth.quality.prepare import assemble
from finetooth.rundir import read_json, read_jsonl

NAMES = ["message-to-json", "notes-to-summary", "sentiment", "string-rules", "support-triage"]
PARTS = {"support-triage": 12, "sentiment": 3}  # labels


def rows(name: str) -> list[dict[str, str]]:
    return list(read_jsonl(folder() / name / "train.jsonl"))


@pytest.mark.parametrize("name", NAMES)
def test_no_two_rows_are_the_same_and_all_are_short(name: str) -> None:
    texts = [row.get("text") or row["input"] for row in rows(name)]
    assert len(texts) >= 500
    assert [text for text, count in Counter(map(normalise, texts)).items() if count > 1] == []
    assert all(text == text.strip() and "  " not in text for text in texts)
    assert max(len(text.split()) for text in texts) <= 60


@pytest.mark.parametrize("name", PARTS)
def test_labels_are_balanced_and_told_by_the_readme(name: str) -> None:
    counts = Counter(row["label"] for row in rows(name))
    assert len(counts) == PARTS[name]
    assert max(counts.values()) <= 1.1 * min(counts.values())
    told = (folder() / name / "README.md").read_text(encoding="utf-8")
    assert all(f"| {label} |" in told for label in counts)


def test_orders_are_valid_compact_and_taken_from_the_message() -> None:
    schema = json.loads((folder() / "message-to-json" / "schema.json").read_text(encoding="utf-8"))
    valid = jsonschema.Draft202012Validator(schema)
    for row in rows("message-to-json"):
        order: dict[str, Any] = json.loads(row["output"])
        assert json.dumps(order, separators=(",", ":"), ensure_ascii=False) == row["output"]
        assert list(order) == ["item", "count", "day", "way", "name"]
        assert valid.is_valid(order), row
        words = set(re.findall(r"\w+", row["input"].lower()))
        item = order["item"].split()[0]
        assert any(word.startswith(item) for word in words), row
        if order["day"]:  # a weekday may be short: mon, tues
            assert any(len(word) > 2 and order["day"].startswith(word.rstrip("s")) for word in words), row
        assert order["name"] is None or order["name"] in row["input"], row


@pytest.mark.parametrize("name", gate(NAMES, [name for name in NAMES if name != "string-rules"]))
def test_every_expected_answer_gets_full_marks_from_every_grader(name: str) -> None:
    task = load_task(folder() / name / "task.yaml")
    assembled = assemble(task)
    examples = [example for side in assembled.sides.values() for example in side]
    assert len(examples) == len(rows(name))
    for told, grade in graders.resolve_all(task.evaluate.grader, assembled.format, Path.cwd()):
        wrong = [example.target for example in examples if grade(example, example.target).value != 1]
        assert wrong == [], told


def test_a_summary_with_an_invented_name_or_a_lost_number_loses_marks() -> None:
    task = load_task(folder() / "notes-to-summary" / "task.yaml")
    faithful = graders.resolve_all(task.evaluate.grader, "qa", Path.cwd())[1][1]
    example = next(e for e in assemble(task).sides["train"] if len(re.findall(r"\d+", e.target)) > 1)
    number = re.findall(r"\d+", example.target)[-1]
    full = faithful(example, example.target).value
    invented = faithful(example, example.target + " Zebulon paid 98765.").value
    lost = faithful(example, example.target.replace(number, "some")).value
    assert full == 1.0 and invented is not None and lost is not None
    assert 0 < invented < 1 and lost < 1
    assert faithful(example, "").value == 0


def test_the_list_names_every_example_with_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(titles()) == NAMES
    assert invoke(["examples"]) == 0
    told = capsys.readouterr().out
    assert all(name in told and title.split(":")[0] in told for name, title in titles().items())
    assert "finetooth examples NAME" in told
    assert invoke(["examples", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == titles()


def test_a_copy_can_be_run_and_nothing_is_overwritten(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["examples", "sentiment"]) == 0
    assert "finetooth run sentiment/task.yaml" in capsys.readouterr().out
    (room / "sentiment" / "train.jsonl").write_text("mine")
    assert invoke(["examples", "sentiment"]) == 2
    assert (room / "sentiment" / "train.jsonl").read_text() == "mine"
    assert invoke(["examples", "nothing-like-it"]) == 2
    assert "support-triage" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",  # one in the gate, which the README does not run already
    [pytest.param(name, marks=pytest.mark.full) for name in NAMES],
)
def test_a_copy_runs_to_its_report(name: str, room: Path) -> None:
    few = [
        "--train.max_steps",
        "2",
        "--train.preflight",
        "off",
        "--evaluate.limit",
        "8",
        "--evaluate.shots",
        "[0]",
    ]
    few += ["--evaluate.max_tokens", "16", "--model", "milktooth"]
    assert invoke(["examples", name, "--out", "copy"]) == 0
    assert invoke(["run", "copy/task.yaml", "--out", "done", "--quiet", *few]) == 0
    assert read_json(Path("done/evaluate/summary.json"))["split"] == "test"


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
