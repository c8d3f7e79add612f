"""What a model is asked: the sets of labels that it chooses among, and the system message of a row."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contexts_for_tests import of_run
from models_for_tests import tiny_model_dir

import finetooth as ft
from finetooth.commands.predict import Options, questions_of
from finetooth.data.read.files import from_memory
from finetooth.data.read.names import clean_columns
from finetooth.errors import DataError
from finetooth.evaluation.prompts import Prompt
from finetooth.evaluation.summary import TUNED
from finetooth.rundir import read_jsonl
from finetooth.runs.asking import Asking, candidate

QUICK = {"train.preflight": "off", "train.max_steps": 1, "train.select": "loss", "evaluate.shots": []}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("asking") / "model")


def run(model: Path, out: Path, rows: list[dict[str, Any]]) -> ft.Run:
    columns = {name: "text" if name == "message" else "label" for name in rows[0]}
    return ft.run({"model": str(model), "data": {"train": rows, "columns": columns}}, out, QUICK, quiet=True)


def test_of_few_sets_of_labels_one_is_chosen(model: Path, tmp_path: Path) -> None:
    """With its confidence; no answer is nearly a set, such as `urgent.`, whatever its grade would be."""
    flags = {0: ("yes", "no"), 1: ("no", "yes"), 2: ("yes", "yes"), 3: ("no", "no")}
    rows = [{"message": f"order {n}", "urgent": flags[n % 4][0], "paid": flags[n % 4][1]} for n in range(60)]
    done = run(model, tmp_path / "run", rows)
    tuned = [
        one
        for one in read_jsonl(done.path / "evaluate" / "test" / "records.jsonl")
        if one["candidate"] == TUNED
    ]
    assert tuned and {one["text"] for one in tuned} <= {"urgent", "paid", "urgent, paid", "none"}
    assert done.summary["grader"] == "labels"


def test_where_rows_may_have_other_sets_answers_are_written(model: Path, tmp_path: Path) -> None:
    draw = random.Random(1)
    rows = [
        {"message": f"order {n}", **{name: draw.choice(["yes", "no"]) for name in "abcdefgh"}}
        for n in range(60)
    ]
    context = of_run(run(model, tmp_path / "run", rows).path)
    assert candidate(context, "labels", context.tuned(), Prompt(TUNED)).labels is None


def test_rows_whose_system_messages_differed_need_one() -> None:
    given = clean_columns(from_memory([{"text": "a"}]))
    asked = Asking(None, always=True, format="labels")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="--system TEXT"):
        questions_of(asked, given, Options())
    assert len(questions_of(replace(asked, system="be"), given, Options())) == 1
    own = clean_columns(from_memory([{"text": "a", "system": "be"}]))
    (question,) = questions_of(asked, own, Options())
    assert question.example is not None and question.example.context[0].content == "be"
