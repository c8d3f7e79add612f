"""What a run refuses to be wrong about: other files, another base or template, a test that does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts_for_tests import checked
from models_for_tests import tiny_model_dir
from rich.console import Console
from safetensors.torch import load_file, save_file

import finetooth as ft
from finetooth.commands import evaluate, train
from finetooth.config.load import load_task
from finetooth.errors import ConfigError, DataError, FinetoothError, ModelError
from finetooth.rundir import OWN, read_json, read_jsonl, write_json

ROWS = [{"text": f"{n} of {fruit}", "label": fruit[:2]} for n in range(40) for fruit in ("apple", "plum")]
QUIET = Console(quiet=True)
QUICK = {
    "train.preflight": "off",
    "train.adapter": "lora",
    "train.rank": 4,
    "train.max_steps": 2,
    "evaluate.shots": [0],
    "evaluate.limit": 8,
}


CHECKED = {"check.json", "findings.jsonl", "report.html"}  # what the gate writes before anything else


def files(path: Path) -> set[str]:
    return {found.name for found in path.rglob("*") if found.is_file() and found.parent.name != OWN}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model_dir(tmp_path / "model")


def run(model: Path, out: Path, **more: Any) -> Any:
    overrides = {**QUICK, **{key.replace("__", "."): value for key, value in more.items()}}
    return ft.run({"model": str(model), "data": {"train": ROWS}}, out, overrides, quiet=True)


def test_the_users_own_files_are_never_deleted(model: Path, tmp_path: Path) -> None:
    mine = tmp_path / "project" / "data" / "train.csv"
    mine.parent.mkdir(parents=True)
    mine.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS))
    with pytest.raises(ConfigError, match=r"data/train\.csv"):
        run(model, tmp_path / "project", data__train=str(mine))
    assert mine.is_file()


@pytest.mark.full
def test_a_checked_directory_can_be_run_in(model: Path, tmp_path: Path) -> None:
    checked(load_task({"model": str(model), "data": {"train": ROWS}}), tmp_path / "run")
    assert run(model, tmp_path / "run").summary["split"] == "test"
    assert (tmp_path / "run" / "data" / "check.json").is_file()


def test_another_base_model_is_refused(model: Path, tmp_path: Path) -> None:
    done = run(model, tmp_path / "run")
    about = read_json(done.path / "environment.json")
    weights = load_file(model / "model.safetensors")
    name = sorted(weights)[0]
    save_file({**weights, name: weights[name] + 0.1}, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"model\.safetensors has changed since"):
        evaluate.run(done.path, False, QUIET)
    (done.path / "environment.json").write_text(json.dumps({**about, "model_files": None}))  # an older run
    with pytest.raises(ModelError, match="not the one that this run began with"):
        evaluate.run(done.path, False, QUIET)


def test_the_template_of_a_run_is_its_own(model: Path, tmp_path: Path) -> None:
    """Known failure 4: editing or deleting the user's file after training changes nothing."""
    template = tmp_path / "mine.jinja"
    template.write_text(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    done = run(model, tmp_path / "run", template=str(template))
    before = evaluate.run(done.path, False, QUIET).summary
    template.write_text("{% for m in messages %}changed {{ m['content'] }}<|im_end|>{% endfor %}")
    assert evaluate.run(done.path, False, QUIET).summary == before
    template.unlink()
    assert evaluate.run(done.path, False, QUIET).summary == before


def test_a_mended_grader_is_evaluated_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mygrader_a.py").write_text(
        "def grade(example, text):\n    return 1 / 0 if example.target == 'pl' else 1.0\n"
    )
    done = run(model, tmp_path / "run", evaluate__grader="mygrader_a:grade")
    assert done.summary["comparison"]["verdict"] == "not proven"
    assert any(candidate["errors"] for candidate in done.summary["candidates"])
    (tmp_path / "mygrader_a.py").write_text("def grade(example, text):\n    return 1.0\n")
    again = evaluate.run(done.path, True, QUIET).summary
    assert not any(candidate["errors"] for candidate in again["candidates"])


def test_a_model_that_was_not_verified_is_not_used(model: Path, tmp_path: Path) -> None:
    done = run(model, tmp_path / "run")
    (done.path / "train" / "result.json").unlink()
    with pytest.raises(ConfigError, match="no tuned model yet"):
        evaluate.run(done.path, False, QUIET)


def test_unrenderable_and_dropped_rows_are_counted_and_kept(model: Path, tmp_path: Path) -> None:
    rows = [*ROWS * 3, {"text": "a special one", "label": "no <|im_end|> here"}]
    rows = [{**row, "text": f"{index} {row['text']}"} for index, row in enumerate(rows)]
    rows += [{"text": f"{n} " + "long " * 100, "label": "ap"} for n in range(12)]
    done = run(model, tmp_path / "run", data__train=rows, data__overlong="drop", data__max_tokens=120)
    rejected = list(read_jsonl(done.path / "data" / "rejected.jsonl"))
    about = read_json(done.path / "data" / "split.json")
    assert any("longer than 120 tokens" in line["reason"] for line in rejected)
    assert done.summary["n"] <= 8
    assert about["sealed"] > 0
    assert all(line["line"] for line in rejected)


def test_a_test_row_that_is_too_long_stops_before_training(model: Path, tmp_path: Path) -> None:
    test = [*ROWS[:20], {"text": "far " + "too long " * 200, "label": "ap"}]
    test = [{**row, "text": "t " + row["text"]} for row in test]
    with pytest.raises(DataError, match=r"1 row is longer than 256 tokens.*\n  test \w+ \(rows, line 21\)"):
        run(model, tmp_path / "run", data__test=test)
    assert not files(tmp_path / "run") - CHECKED


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"data__validation": 0, "data__test": 0}, "both 0"),
        (
            {"data__train": [{"text": f"{n} plain"} for n in range(60)], "evaluate__grader": "exact"},
            "Plain text",
        ),
        ({"evaluate__shots": [0, 0]}, "shots"),
    ],
)
def test_what_could_not_be_evaluated_is_refused_before_training(
    more: dict[str, Any], words: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(FinetoothError, match=words):
        run(model, tmp_path / "run", **more)
    assert not files(tmp_path / "run") - CHECKED


@pytest.mark.full
def test_an_adapter_is_not_a_base_model(model: Path, tmp_path: Path) -> None:
    done = run(model, tmp_path / "run")
    with pytest.raises(ConfigError, match="is an adapter"):
        run(done.path / "train" / "adapter", tmp_path / "other", train__adapter="none")


def test_a_larger_limit_than_the_models_can_be_asked_for_twice(model: Path, tmp_path: Path) -> None:
    first = run(model, tmp_path / "run", data__max_tokens=5000)
    assert run(model, tmp_path / "run", data__max_tokens=5000).summary == first.summary


def test_labels_that_look_like_markup(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, "label": f"[/{row['label']}]"} for row in ROWS]
    task = load_task({"model": str(model), "data": {"train": rows}}, QUICK)
    train.run(task, tmp_path / "run", Console(stderr=True, markup=False, highlight=False)).print(Console())
    assert "Trained 2 steps" in capsys.readouterr().out


def test_plain_text_trains_without_being_graded(model: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{n} words of plain text about fruit"} for n in range(60)]
    task = load_task({"model": str(model), "data": {"train": rows, "test": 0}}, QUICK)
    report = train.run(task, tmp_path / "run", QUIET)
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert report.result["steps"] == 2 and "auto" not in config.split("\n# Chosen")[0]


def test_a_lost_top_summary_is_written_again(model: Path, tmp_path: Path) -> None:
    done = run(model, tmp_path / "run")
    write_json(
        done.path / "evaluate" / "summary.json", read_json(done.path / "evaluate/validation/summary.json")
    )
    assert run(model, tmp_path / "run").summary == done.summary
    events = [json.loads(line)["event"] for line in (done.path / "ledger.jsonl").read_text().splitlines()]
    assert events.count("opened") == 1


def test_rotary_positions_that_depend_on_the_call_run_row_by_row(tmp_path: Path) -> None:
    config = tiny_model_dir(tmp_path / "model") / "config.json"
    values = json.loads(config.read_text())
    values["rope_parameters"] = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    config.write_text(json.dumps(values))
    model = ft.Model.load(tmp_path / "model")
    assert model.attention == "rows"
    assert any("dynamic" in note for note in model.notes)


def test_a_token_that_the_model_does_not_embed(tmp_path: Path) -> None:
    """A pad token that someone added to the tokenizer alone does no harm; using it is an error."""
    directory = tiny_model_dir(tmp_path / "model")
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    size = ft.Model.load(directory).hf.get_input_embeddings().weight.shape[0]
    tokenizer["added_tokens"].append(
        {"id": size, "content": "[PAD]", "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
    )
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    model = ft.Model.load(directory)
    row = ft.Row([1, size], [0.0, 1.0])
    with torch.no_grad(), pytest.raises(ModelError, match="outside the model's vocabulary"):
        model.logprobs(ft.PrefixTree.build([row]))
