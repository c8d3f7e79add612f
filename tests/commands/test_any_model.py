"""`finetooth evaluate MODEL TASK`: a model that was trained elsewhere is measured and used like a run's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import finetooth
from models_for_tests import tiny_model_dir
from peft import LoraConfig, get_peft_model
from tokenizers_for_tests import save_tokenizer
from trained_elsewhere import greedy, merged, train_adapter
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM

import finetooth as ft
from finetooth.errors import ModelError
from finetooth.evaluation import ledger
from finetooth.evaluation.looks import FOLDER
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl

COLORS = {"apple": "red", "banana": "yellow", "plum": "deep blue"}
ROWS = [(f"{n} of {fruit}?", color) for n in range(14) for fruit, color in COLORS.items()]
TASKS: dict[str, tuple[list[dict[str, str]], dict[str, Any]]] = {
    "free": (
        [{"id": q, "prompt": q, "completion": a} for q, a in ROWS],
        {"grader": "exact", "max_tokens": 8},
    ),
    "labels": ([{"id": q, "text": q, "label": a} for q, a in ROWS], {"grader": "label", "free": True}),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A base model, an adapter trained without finetooth, its merged model, and two tasks."""
    folder = tmp_path_factory.mktemp("place")
    base = tiny_model_dir(folder / "base")
    train_adapter(base, ROWS[::4], folder / "adapter")
    merged(base, folder / "adapter", folder / "merged")
    for name, (rows, evaluate) in TASKS.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
        data = {"train": f"{name}.jsonl", "validation": 0.3, "test": 0.2}
        write_json(
            folder / f"{name}.yaml",
            {"model": "base", "data": data, "evaluate": {"shots": [0], **evaluate}},
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETOOTH_CACHE", str(folder / "cache"))
        for name in TASKS:
            for model in ("adapter", "merged"):
                done = finetooth(folder, "evaluate", model, f"{name}.yaml", "--sealed", "--quiet")
                assert done.returncode == 0, done.stderr
        yield folder


def records(run: Path, candidate: str = "tuned", split: str = "validation") -> dict[str, dict[str, Any]]:
    lines = read_jsonl(run / "evaluate" / split / "records.jsonl")
    return {line["id"]: line for line in lines if line["candidate"] == candidate}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", ["adapter", "merged"])
def test_it_leaves_a_run(place: Path, task: str, model: str) -> None:
    run = place / "runs" / f"{task}-{model}"
    for split in ("validation", "test"):
        summary = read_json(run / "evaluate" / split / "summary.json")
        names = [one["name"] for one in summary["candidates"]]
        cheap = ["majority", "bag-of-words"] if task == "labels" else []
        free = ["tuned-free"] if task == "labels" else []
        assert names == [*cheap, "zero-shot", "tuned", *free]
        assert summary["comparison"]["baseline"] == "zero-shot"
        assert summary["comparison"]["verdict"] in ("better", "not proven", "worse")
        (tuned,) = [one for one in summary["candidates"] if one["name"] == "tuned"]
        assert any("trained elsewhere" in note for note in tuned["notes"])
    assert ledger.look_count(run) == 1
    assert not (run / "train").exists()
    page = (run / "report.html").read_text(encoding="utf-8")
    assert str(place / model) in page and str(place / "base") in page
    assert "prompts are asked of" in page and "training seed" not in page


@pytest.mark.parametrize("task", TASKS)
def test_an_adapter_and_its_merged_model_answer_alike(place: Path, task: str) -> None:
    for split in ("validation", "test"):
        for candidate in ("zero-shot", "tuned", *(["tuned-free"] if task == "labels" else [])):
            one = records(place / "runs" / f"{task}-adapter", candidate, split)
            assert one and one == records(place / "runs" / f"{task}-merged", candidate, split)
    tuned = records(place / "runs" / f"{task}-adapter")
    base = records(place / "runs" / f"{task}-adapter", "zero-shot")
    assert {id: line["text"] for id, line in tuned.items()} != {id: line["text"] for id, line in base.items()}


def test_free_answers_are_those_of_transformers(place: Path) -> None:
    lines = records(place / "runs/free-adapter") | records(place / "runs/free-adapter", split="test")
    stock = greedy(place / "base", place / "adapter", [*lines], 8)
    assert [line["text"] for line in lines.values()] == stock
    labels = records(place / "runs/labels-adapter", "tuned-free")
    limit = json.loads(finetooth(place, "report", "runs/labels-adapter", "--json").stdout)
    assert limit["candidates"][-1]["name"] == "tuned-free"
    longest = max(line["completion_tokens"] for line in labels.values())
    stock = greedy(place / "base", place / "adapter", [*labels], 64)
    ended = [(line["text"], text) for line, text in zip(labels.values(), stock, strict=True)
             if line["stop"] == "stop"]  # fmt: skip
    assert ended and all(one == other for one, other in ended) and longest > 0


def test_the_table_names_the_constraint(place: Path) -> None:
    shown = finetooth(place, "report", "runs/labels-adapter").stdout
    assert "tuned, constrained" in shown and "tuned, free" in shown
    assert "tuned, free" not in finetooth(place, "report", "runs/free-adapter").stdout
    answers = {line["text"] for line in records(place / "runs/labels-adapter").values()}
    assert answers <= set(COLORS.values())


@pytest.mark.parametrize("task", TASKS)
def test_predict_chat_and_compare_take_it_as_a_run(place: Path, task: str) -> None:
    runs = [place / "runs" / f"{task}-{model}" for model in ("adapter", "merged")]
    known = records(runs[0])
    key = "text" if task == "labels" else "prompt"
    for run in runs:
        predicted = ft.predict(run, [{key: question} for question in known])
        assert [row["answer"] for row in predicted] == [line["text"] for line in known.values()]
    done = finetooth(place, "chat", runs[0], "--json", given="".join(f"{q}\n" for q in known))
    turns = json.loads(done.stdout)["turns"]
    assert [turn["answers"][0]["text"] for turn in turns] == [line["text"] for line in known.values()]
    for flag in ([], ["--sealed"]):
        done = finetooth(place, "compare", *runs, "--json", *flag)
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout)["comparisons"]
        assert found["difference"] == 0 and found["n"] > 3


def test_the_same_command_opens_the_test_once(place: Path) -> None:
    before = read_json(place / "runs/free-merged/evaluate/test/summary.json")
    done = finetooth(place, "evaluate", "merged", "free.yaml", "--sealed", "--json")
    assert done.returncode == 0, done.stderr
    assert ledger.look_count(place / "runs/free-merged") == 1
    assert {**json.loads(done.stdout), "run": 0} == {**before, "run": 0}
    again = finetooth(place, "evaluate", "runs/free-merged", "--quiet")
    assert again.returncode == 0, again.stderr


def test_without_sealed_the_test_stays_closed(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "open"
    done = finetooth(place, "evaluate", "adapter", "free.yaml", "--out", out)
    assert done.returncode == 0, done.stderr
    assert ledger.look_count(out) == 0 and not (out / "evaluate" / "test").exists()
    assert records(out) == records(place / "runs/free-adapter")


def test_the_models_own_template_asks_it_and_the_bases_asks_the_base(place: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(place / "adapter", own)
    save_tokenizer(own, "chatml-default-system")
    done = finetooth(place, "evaluate", own, "free.yaml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    plain = records(place / "runs/free-adapter"), records(tmp_path / "run")
    base = records(place / "runs/free-adapter", "zero-shot"), records(tmp_path / "run", "zero-shot")
    assert base[0] == base[1]
    assert all(plain[1][id]["prompt_tokens"] > line["prompt_tokens"] for id, line in plain[0].items())
    predicted = ft.predict(tmp_path / "run", [{"prompt": question} for question in plain[1]])
    assert [row["answer"] for row in predicted] == [line["text"] for line in plain[1].values()]


def test_a_model_that_changed_since_is_not_used(place: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(place / "adapter", tmp_path / "adapter")
    done = finetooth(place, "evaluate", moved, "free.yaml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    train_adapter(place / "base", ROWS[:3], moved, steps=1)
    for words in (["evaluate", tmp_path / "run"], ["chat", tmp_path / "run"]):
        done = finetooth(place, *words, given="1 of plum?\n")
        assert done.returncode == 2 and "has changed since" in done.stderr
    done = finetooth(place, "evaluate", moved, "free.yaml", "--out", tmp_path / "run")
    assert done.returncode == 2 and "has changed since" in done.stderr


def refused(place: Path, *words: Any) -> str:
    """The message of a command that must end with exit code 2, in one line."""
    done = finetooth(place, *words)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.strip().splitlines()
    return line


def test_wrong_directories_are_named(place: Path, tmp_path: Path) -> None:
    lost = shutil.copytree(place / "adapter", tmp_path / "lost")
    config: Any = read_json(lost / "adapter_config.json")
    write_json(lost / "adapter_config.json", config | {"base_model_name_or_path": "/nowhere/base"})
    assert "/nowhere/base" in refused(place, "evaluate", lost, "free.yaml")
    bare = shutil.copytree(place / "merged", tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).unlink()
    assert "no tokenizer" in refused(place, "evaluate", bare, "free.yaml")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    assert "neither a model" in refused(place, "evaluate", tmp_path / "other", "free.yaml")
    assert "no such directory" in refused(place, "evaluate", tmp_path / "gone", "free.yaml")
    encoder = tmp_path / "bert"
    sizes = {"vocab_size": 448, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64}
    BertForMaskedLM(BertConfig(**sizes, num_hidden_layers=2, num_attention_heads=4)).save_pretrained(encoder)
    save_tokenizer(encoder, "chatml")
    assert "bert is an encoder" in refused(place, "evaluate", encoder, "free.yaml")
    write_json(lost / "adapter_config.json", config | {"bias": "all"})
    assert "bias" in refused(place, "evaluate", lost, "free.yaml")
    prompts = shutil.copytree(place / "adapter", tmp_path / "prompts")
    kind = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 2}
    base = read_json(prompts / "adapter_config.json")["base_model_name_or_path"]
    write_json(prompts / "adapter_config.json", {**kind, "base_model_name_or_path": base})
    assert "PROMPT_TUNING" in refused(place, "evaluate", prompts, "free.yaml")
    assert not list((place / "runs").glob("free-[!am]*/config.yaml"))


def test_runs_and_models_are_told_apart(place: Path, tmp_path: Path) -> None:
    assert "evaluate adapter TASK" in refused(place, "evaluate", "adapter")
    assert "is a run" in refused(place, "evaluate", "runs/free-adapter", "free.yaml")
    assert "--out" in refused(place, "evaluate", "runs/free-adapter", "--out", tmp_path)
    assert "trained already" in refused(place, "train", "runs/free-adapter")
    assert "trained elsewhere" in refused(place, "run", "free.yaml", "--from", "runs/free-adapter")
    both = shutil.copytree(place / "runs/free-adapter", tmp_path / "both")
    shutil.copytree(place / "merged", both, dirs_exist_ok=True)
    done = finetooth(place, "evaluate", both, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == str(both)


def test_code_of_the_directory_never_runs(place: Path, tmp_path: Path) -> None:
    planted = shutil.copytree(place / "merged", tmp_path / "planted")
    (planted / "modeling_planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    names = {"AutoConfig": "modeling_planted.C", "AutoModelForCausalLM": "modeling_planted.M"}
    config = read_json(planted / "config.json")
    write_json(planted / "config.json", config | {"model_type": "planted", "auto_map": names})
    assert "never run" in refused(place, "evaluate", planted, "free.yaml")
    assert not (tmp_path / "ran").exists()


def test_run_takes_the_key_tuned(place: Path, tmp_path: Path) -> None:
    shutil.rmtree(place / FOLDER)  # else the result on the sealed rows is known
    done = finetooth(place, "run", "free.yaml", "--tuned", "merged", "--out", tmp_path / "run", "--quiet")
    assert done.returncode == 0, done.stderr
    assert records(tmp_path / "run", split="test") == records(place / "runs/free-adapter", split="test")
    assert ledger.look_count(tmp_path / "run") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj", "lm_head", "embed_tokens"]},
        {"target_modules": r".*layers\.1\.mlp\..*_proj", "rank_pattern": {"up_proj": 2}},
    ],
    ids=str,
)
def test_every_kind_of_lora_computes_what_peft_computes(
    place: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Or it is refused: never another model than the one that was trained."""
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(place / "base", dtype=torch.float32)
    config = LoraConfig(
        **{
            "r": 4,
            "target_modules": "all-linear",
            "init_lora_weights": False,
            "task_type": "CAUSAL_LM",
            **options,
        }
    )
    stock: Any = get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, weight in stock.named_parameters():
            if "modules_to_save" in name or name.endswith("bias"):
                weight.add_(0.1 * torch.randn(weight.shape))
    stock.save_pretrained(tmp_path / "kind")
    ids = [5, 9, 17, 33, 65, 12]
    with torch.no_grad():
        want = stock(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)[range(5), ids[1:]]
    try:
        model = ft.Model.load(tmp_path / "kind")
    except ModelError:
        assert "lm_head" in str(options)  # refused with a message
        return
    got = model.logprobs(ft.PrefixTree.build([ft.Row(ids, [0.0, *[1.0] * 5])]))
    assert torch.allclose(got, want, atol=1e-5)
    with model.without_adapter() as plain:
        got = plain.logprobs(ft.PrefixTree.build([ft.Row(ids, [0.0, *[1.0] * 5])]))
    with torch.no_grad(), stock.disable_adapter():
        want = stock(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)[range(5), ids[1:]]
    assert torch.allclose(got, want, atol=1e-5)
