"""Every name of `import finetooth as ft`: what is there, what it says of itself, and that it works."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import finetooth
from models_for_tests import tiny_model_dir

import finetooth as ft
from finetooth.rundir import read_json, read_jsonl

COLORS = {"apple": "red", "banana": "yellow", "plum": "blue"}
ROWS = [{"text": f"{n} of {fruit}?", "label": color} for n in range(12) for fruit, color in COLORS.items()]
TASK: dict[str, Any] = {
    "model": "model",
    "data": {"train": ROWS, "validation": 0.4, "test": 0},
    "train": {"preflight": "off", "max_steps": 12, "batch_size": 12, "learning_rate": 0.02, "select": "loss"},
    "evaluate": {"shots": []},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory, with a tiny model and two evaluated runs, which differ in their steps."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model_dir(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ft.run(TASK, out="runs/fruit", quiet=True)
        ft.run(ft.Task(**TASK), "runs/short", {"train.max_steps": 1}, quiet=True)
        yield folder


def test_what_is_exported_is_listed_and_nothing_else() -> None:
    assert all(getattr(ft, name) for name in ft.__all__)  # what they load does not show either
    assert {*dir(ft)} == {*ft.__all__, "__version__"}
    assert len(set(ft.__all__)) == len(ft.__all__)
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        ft.chekc  # noqa: B018


@pytest.mark.parametrize("name", ft.__all__)
def test_every_name_says_what_it_is(name: str) -> None:
    value = getattr(ft, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        text = inspect.getdoc(value) or ""
        assert "Raises" in text
        unexplained = [word for word in inspect.signature(value).parameters if f"{word}:" not in text]
        assert set(unexplained) <= {"quiet", "columns", "system", "unsure_below", "task"}


def test_check_takes_files_rows_and_tasks(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "fruit.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "task.yaml").write_text("data: {train: fruit.jsonl}\n")
    sources = (
        file,
        str(file),
        tmp_path,
        tmp_path / "task.yaml",
        ROWS,
        pd.DataFrame(ROWS),
        TASK,
        ft.Task(**TASK),
    )
    for number, source in enumerate(sources):
        out = tmp_path / f"report{number}"
        report = ft.check(source, out=out)
        assert report.ok and sum(report.to_json()["sides"].values()) == len(ROWS), source
        assert (out / "data" / "report.html").is_file()
    blocked = ft.check([row | {"label": "red"} for row in ROWS], tmp_path / "one", {"data.test": 0})
    assert not blocked.ok and "one-label" in [finding.rule for finding in blocked.findings]
    with pytest.raises(ft.FinetoothError, match="no such file"):
        ft.check("nowhere.csv", tmp_path / "none")


def test_run_and_evaluate_give_the_summary_of_the_files(place: Path) -> None:
    run = ft.run(TASK, out="runs/fruit", quiet=True)
    assert isinstance(run, ft.Run) and run.path == Path("runs/fruit")
    assert run.summary == read_json(place / "runs/fruit/evaluate/summary.json")
    assert ft.Run.open("runs/fruit") == run
    assert ft.evaluate(run).summary == ft.evaluate("runs/fruit").summary == run.summary
    with pytest.raises(ft.FinetoothError, match="no such directory"):
        ft.evaluate("runs/none")
    with pytest.raises(ft.FinetoothError, match="found list"):
        ft.evaluate([run])  # type: ignore[arg-type]
    with pytest.raises(ft.FinetoothError, match="no such directory"):
        ft.Run.open("runs/none")


def test_compare_is_what_the_verb_prints(place: Path) -> None:
    run = ft.Run.open("runs/fruit")
    found = ft.compare(run, "runs/short")
    done = finetooth(place, "compare", "runs/fruit", "runs/short", "--json")
    assert found.to_json() == json.loads(done.stdout)
    assert found.differences["train.max_steps"] == [12, 1]
    with pytest.raises(ft.FinetoothError, match="two or more different runs"):
        ft.compare(run)


def test_ask_predict_and_the_records_agree(place: Path) -> None:
    run = ft.Run.open("runs/fruit")
    lines = [
        line
        for line in read_jsonl(place / "runs/fruit/evaluate/validation/records.jsonl")
        if line["candidate"] == "tuned"
    ]
    rows = {line["id"]: line for line in read_jsonl(place / "runs/fruit/data/validation.jsonl")}
    texts = [rows[line["id"]]["context"][-1]["content"] for line in lines]
    measured = [line["text"] for line in lines]
    assert len(set(measured)) > 1
    assert [run.ask(text) for text in texts] == measured
    asked = [{"text": text, "note": 1} for text in texts]
    assert [row["answer"] for row in run.predict(asked)] == measured
    assert [row["answer"] for row in ft.predict("runs/fruit", asked)] == measured
    frame = run.predict(pd.DataFrame(asked), unsure_below=0.0)
    assert list(frame.columns) == ["text", "note", "answer", "confidence", "error"]
    assert list(frame["answer"]) == measured and list(frame["text"]) == texts


def test_ask_loads_once_and_refuses_what_cannot_be_asked(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ft.Run.open("runs/fruit")
    first = run.ask("4 of plum?")
    monkeypatch.setattr(ft.Model, "load", None)
    assert run.ask("4 of plum?") == first
    for text in ("", " \n"):
        with pytest.raises(ft.FinetoothError, match="the text is empty"):
            run.ask(text)
    with pytest.raises(ft.FinetoothError, match="tokens"):
        run.ask("plum " * 5000)
    assert run.ask("4 of plum?", system="Say a fruit.") in COLORS.values()


def test_the_engine_answers_and_scores(place: Path, tmp_path: Path) -> None:
    model = ft.Model.load("model")
    sampling = ft.Sampling(max_tokens=3)
    context = ft.Row(tokens=[1, 5], weight=[0, 0])
    (completion,) = model.generate([context], sampling)
    assert isinstance(completion, ft.Completion) and 0 < len(completion.tokens) <= 3
    pieces = list(model.stream([context], sampling))
    assert all(isinstance(piece, ft.Piece) for piece in pieces)
    assert "".join(piece.text for piece in pieces) == completion.text
    tree = ft.PrefixTree.build([ft.Row(tokens=[1, 5, 9], weight=[0, 0, 1.0])])
    (logp,) = model.logprobs(tree).tolist()
    assert logp < 0
    example = ft.Example("a", (ft.Message("user", "hi"),), ())
    assert example.target == "" and ft.Score(1.0).value == 1.0
