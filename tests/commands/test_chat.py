"""`finetooth chat` for real: at a terminal, through pipes, with the runs and models that people have."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import processes
import pytest
from command_line import finetooth
from contexts_for_tests import of_run
from models_for_tests import CONFIGS, tiny_model_dir
from rich.console import Console
from terminal_for_tests import Terminal

import finetooth as ft
from finetooth.commands import train
from finetooth.config.load import load_task
from finetooth.data.render.renderer import Renderer
from finetooth.model.tiny_copy import random_model
from finetooth.runs import conversation

COLORS = {"apple": "red", "banana": "yellow", "plum": "blue"}
ROWS = [{"question": f"{n} of {fruit}?", "answer": c} for n in range(16) for fruit, c in COLORS.items()]
INSTRUCTION = "Name the color."


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and two runs of it: an adapter in runs/lora; all weights in runs/full, which knows its task."""
    folder = tmp_path_factory.mktemp("place")
    model = tiny_model_dir(folder / "model")
    for name, adapter, epochs in (("lora", "lora", 1), ("full", "none", 6)):
        settings = {"adapter": adapter, "preflight": "off", "learning_rate": 0.01, "epochs": epochs}
        task = {"model": str(model), "instruction": INSTRUCTION, "data": {"train": ROWS}, "train": settings}
        train.run(load_task(task, {"evaluate.shots": [0]}), folder / "runs" / name, Console(quiet=True))
    return folder


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with room for very long answers, which it never ends by itself when greedy."""
    folder = tiny_model_dir(tmp_path_factory.mktemp("endless"))
    config = copy.deepcopy(CONFIGS["llama"])
    config.vocab_size, config.max_position_embeddings = 448, 30_000
    random_model(config, 0).save_pretrained(folder)
    return folder


def piped(folder: Path, text: str | bytes, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command with this text in a pipe, in this process."""
    return finetooth(folder, "chat", *arguments, given=text)


def asked(model: ft.Model, renderer: Any, *messages: ft.Message, **sampling: Any) -> tuple[str, int]:
    """The answer through `generate` alone, and the tokens of its context."""
    row = renderer.context_row(messages)
    (answer,) = model.generate([row], ft.Sampling(**{"max_tokens": 256, "seed": 1, **sampling}))
    return answer.text, len(row)


# ---- pipes


@pytest.mark.parametrize("name", ["lora", "full"])
def test_a_piped_question_is_answered_as_in_evaluation(place: Path, name: str) -> None:
    done = piped(place, "7 of apple?\n\n/reset\n9 of plum?\n", f"runs/{name}", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    run = place / "runs" / name
    tuned, renderer = of_run(run).tuned(), of_run(run).renderer
    tuned.add_stop(renderer.stop_id)
    questions = [ft.Message("user", "7 of apple?"), ft.Message("user", "9 of plum?")]
    longest = of_run(run).task.evaluate.max_tokens
    texts = [asked(tuned, renderer, question, max_tokens=longest)[0] for question in questions]
    assert done.stdout == "".join(f"{text}\n" for text in texts)
    assert name == "lora" or done.stdout == "red\nblue\n"


@pytest.mark.parametrize("name", ["lora", "full"])
def test_both_models_answer_and_json_is_one_object(place: Path, name: str) -> None:
    done = piped(
        place,
        "7 of apple?\n9 of plum?\n",
        f"runs/{name}",
        "--both",
        "--json",
        "--max-tokens",
        20,
        "--conversation",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    run = place / "runs" / name
    renderer = of_run(run).renderer
    base, tuned = ft.Model.load(place / "model"), of_run(run).tuned()
    for model in (base, tuned):
        model.add_stop(renderer.stop_id)
    histories: dict[str, list[ft.Message]] = {"base": [], "tuned": []}
    assert [turn["question"] for turn in result["turns"]] == ["7 of apple?", "9 of plum?"]
    for turn in result["turns"]:
        assert [answer["name"] for answer in turn["answers"]] == ["base", "tuned"]
        for answer, model in zip(turn["answers"], (base, tuned), strict=True):
            history = histories[answer["name"]]
            history.append(ft.Message("user", turn["question"]))
            want = asked(model, renderer, *history, max_tokens=20)
            assert (answer["text"], answer["prompt_tokens"]) == want
            history.append(ft.Message("assistant", answer["text"]))
    assert histories["base"] != histories["tuned"]


def test_reset_and_system_change_what_is_sent(place: Path) -> None:
    lines = "7 of apple?\n9 of plum?\n/reset\n9 of plum?\n/system Be brief.\n/reset\n9 of plum?\n/quit\nno\n"
    done = piped(place, lines, "runs/lora", "--json", "--conversation")
    turns = json.loads(done.stdout)["turns"]
    run = place / "runs" / "lora"
    renderer = of_run(run).renderer
    first, plum = ft.Message("user", "7 of apple?"), ft.Message("user", "9 of plum?")
    told = ft.Message("assistant", turns[0]["answers"][0]["text"])
    system = ft.Message("system", "Be brief.")
    contexts = [(first,), (first, told, plum), (plum,), (system, plum)]
    assert [turn["answers"][0]["prompt_tokens"] for turn in turns] == [
        len(renderer.context_row(context)) for context in contexts
    ]
    assert len({len(renderer.context_row(context)) for context in contexts}) == 4


def test_sampling_flags_are_those_of_generate(place: Path) -> None:
    model = ft.Model.load(place / "model")
    renderer = Renderer(model.tokenizer)
    model.add_stop(renderer.stop_id)
    for flags, values in (
        (["--temperature", 1.2, "--seed", 5], {"temperature": 1.2, "seed": 5}),
        (["--temperature", 1.2, "--seed", 6], {"temperature": 1.2, "seed": 6}),
        (["--temperature", 1.2, "--top-p", 0.3], {"temperature": 1.2, "top_p": 0.3}),
    ):
        done = piped(place, "hello", "model", "--json", "--max-tokens", 12, *flags)
        answer = json.loads(done.stdout)["turns"][0]["answers"][0]
        want = asked(model, renderer, ft.Message("user", "hello"), max_tokens=12, **values)
        assert (answer["text"], answer["prompt_tokens"]) == want


def test_an_adapter_and_the_embedded_model_can_be_asked(place: Path) -> None:
    adapter = piped(place, "7 of apple?", "runs/lora/train/adapter", "--both", "--max-tokens", 5)
    assert adapter.returncode == 0, adapter.stderr
    assert adapter.stdout.startswith("base: ") and "\ntuned: " in adapter.stdout
    embedded = piped(place, "Repeat: green lamp", "milktooth", "--max-tokens", 20)
    assert embedded.returncode == 0 and embedded.stdout.strip(), embedded.stderr


def test_what_is_too_long_is_said_and_nothing_is_dropped(place: Path) -> None:
    long = piped(place, "word " * 300, "runs/lora")
    assert long.returncode == 2 and long.stdout == ""
    assert "takes 256" in long.stderr and "Nothing was generated" in long.stderr
    grown = piped(place, "7 of apple?\n" * 40, "runs/lora", "--conversation")
    assert grown.returncode == 2
    assert "/reset" in grown.stderr
    assert 2 < len(grown.stdout.splitlines()) < 40, "what fitted was answered"
    cut = piped(place, "hello", "model", "--max-tokens", 3)
    assert "--max-tokens allows more" in cut.stderr
    renderer = Renderer(ft.Model.load(place / "model").tokenizer)
    sizes = {n: len(renderer.context_row([ft.Message("user", "ok " * n)])) for n in range(20, 250)}
    near = max(n for n, size in sizes.items() if size < 255)
    full = piped(place, "ok " * near, "model", "--max-tokens", 1000)
    assert "the context of 256 tokens is full" in full.stderr


@pytest.mark.parametrize(
    ("target", "flags", "given", "words"),
    [
        ("nowhere", [], b"hi", "Runs here: runs/full, runs/lora."),
        ("task.yaml", [], b"hi", "First: finetooth run task.yaml"),
        ("model", ["--both"], b"hi", "--both needs a run or an adapter"),
        ("model", [], b"", "No question was piped in"),
        ("model", [], b"fine\n\xff\xfe\n", "Line 2 of the questions is not UTF-8"),
        ("model", [], b"/restet\n", "/restet is not a command"),
        ("model", ["--temperature", "-1"], b"hi", "temperature must be 0"),
        ("model", ["--top-p", "0"], b"hi", "top_p must be above 0"),
        ("untrained", [], b"hi", "First: finetooth train untrained"),
    ],
)
def test_a_mistake_is_one_message(
    place: Path, target: str, flags: list[str], given: bytes, words: str
) -> None:
    (place / "task.yaml").write_text("data: {train: rows.jsonl}\n")
    (place / "untrained").mkdir(exist_ok=True)
    (place / "untrained" / "config.yaml").write_text("data: {train: rows.jsonl}\n")
    done = piped(place, given, target, "--max-tokens", 2, *flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_text_is_there_before_the_answer_ends(endless: Path, tmp_path: Path) -> None:
    (tmp_path / "question").write_text("hello\n")
    os.mkfifo(tmp_path / "answer")
    reader = os.open(tmp_path / "answer", os.O_RDONLY | os.O_NONBLOCK)
    streams = (str(tmp_path / "question"), str(tmp_path / "answer"), os.devnull)
    process = processes.finetooth(endless, "chat", ".", "--max-tokens", 20_000, streams=streams)
    try:
        os.set_blocking(reader, True)
        with os.fdopen(reader, "rb") as answer:
            assert len(answer.read(20)) == 20
            assert process.running
    finally:
        process.kill()


def test_every_line_of_a_pipe_is_a_question_of_its_own(place: Path) -> None:
    lines = ["7 of apple?", "9 of plum?", "7 of apple?"]
    turns = json.loads(piped(place, "\n".join(lines), "runs/lora", "--json").stdout)["turns"]
    alone = [json.loads(piped(place, line, "runs/lora", "--json").stdout)["turns"][0] for line in lines[:2]]
    assert turns == [*alone, alone[0]]


def test_a_line_that_cannot_be_asked_loses_no_other_answer(place: Path) -> None:
    lines = b"7 of apple?\n/foo\n\xff\n" + b"word " * 300 + b"\n9 of plum?\n"
    done = piped(place, lines, "runs/full", "--json")
    assert done.returncode == 2
    turns = json.loads(done.stdout)["turns"]
    assert [[answer["text"] for answer in turn["answers"]] for turn in turns] == [
        ["red"],
        [],
        [],
        [],
        ["blue"],
    ]
    assert ["error" in turn for turn in turns] == [False, True, True, True, False]
    assert "Line 2: /foo is not a command" in done.stderr and "3 lines could not be asked" in done.stderr


def test_chat_says_how_it_asks(place: Path) -> None:
    done = piped(place, "7 of apple?", "runs/full", "--json", "--system", "Be brief.")
    said = [line for line in done.stderr.splitlines() if line.startswith("Asked with")]
    assert said == [
        "Asked with instruction: 'Name the color.'; system message: 'Be brief.'; the answer is free text."
    ]
    expected = {"instruction": INSTRUCTION, "system": "Be brief.", "labels": None}
    assert json.loads(done.stdout)["asked"] == expected


# ---- a terminal


def test_a_pasted_text_is_one_question(place: Path) -> None:
    terminal = Terminal(["finetooth", "chat", "runs/full"], place, {"TERM": "xterm"})
    terminal.wait_for("you: ")
    terminal.type("\x1b[200~7 of\n\napple?\x1b[201~")
    terminal.type("\n")
    assert "tuned: red\n" in terminal.wait_for("you: ")
    terminal.type("/reset\n")
    terminal.wait_for("you: ")
    terminal.type("/paste\n")
    terminal.wait_for("/end ends it.")
    terminal.type("9 of\n\nplum?\n/end\n")
    assert "tuned: blue\n" in terminal.wait_for("you: ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_conversation_at_a_terminal(place: Path) -> None:
    terminal = Terminal(["finetooth", "chat", "runs/full"], place)
    assert INSTRUCTION in terminal.wait_for("you: ")
    terminal.type("7 of apple?\n")
    assert "tuned: red\n" in terminal.wait_for("you: ")
    terminal.type("/nonsense\n")
    assert "/nonsense is not a command" in terminal.wait_for("you: ")
    terminal.type("word " * 300 + "\n")
    assert "takes 256" in terminal.wait_for("you: ")
    terminal.interrupt_prompt()
    assert "Ctrl-D or /quit ends the chat." in terminal.wait_for("you: ")
    terminal.type("/reset\n")
    terminal.wait_for("you: ")
    terminal.type("9 of plum?\n")
    assert "tuned: blue\n" in terminal.wait_for("you: ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_ctrl_c_stops_the_answer_and_not_the_conversation(endless: Path) -> None:
    terminal = Terminal(["finetooth", "chat", ".", "--max-tokens", 20_000], endless)
    terminal.wait_for("you: ")
    terminal.type("hello\n")
    terminal.wait_for(": ")
    terminal.wait_for_more(20)
    terminal.type("\x03")
    assert "stays in the conversation" in terminal.wait_for("you: ")
    terminal.type("/quit\n")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.text


def test_two_answers_stand_side_by_side(place: Path) -> None:
    terminal = Terminal(
        ["finetooth", "chat", "runs/full", "--both", "--max-tokens", 6], place, {"TERM": "xterm"}
    )
    terminal.wait_for("you: ")
    terminal.type("7 of apple?\n")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.wait_for("you: "))
    last = [line for line in shown.splitlines() if "base" in line and "tuned" in line][-1]
    rows = shown[shown.rindex(last) :].splitlines()
    assert rows[1][last.index("tuned") :].strip() == "red"
    assert rows[1][: last.index("tuned")].strip() != ""
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_model_cannot_give_the_terminal_orders(place: Path) -> None:
    """A model that knows nothing writes control characters among others."""
    flags = ("model", "--temperature", 50, "--max-tokens", 200)
    raw = json.loads(piped(place, "hello", *flags, "--json").stdout)["turns"][0]["answers"][0]["text"]
    assert any(ord(sign) < 32 and sign not in "\n\t\r" for sign in raw)
    terminal = Terminal(["finetooth", "chat", *flags], place)
    terminal.wait_for("you: ")
    terminal.type("hello\n")
    terminal.wait_for("model: ")
    shown = terminal.wait_for("you: ")
    assert not [sign for sign in shown if ord(sign) < 32 and sign not in "\n\r\t"]
    terminal.type("\x04")
    terminal.end()


def test_an_interrupted_speaker_keeps_what_it_said(endless: Path) -> None:
    (speaker,) = conversation.speakers(str(endless), max_tokens=500)
    talk = conversation.Conversation([speaker])
    said = talk.ask("hello")
    for _ in range(5):
        reply, _ = next(said)
    said.close()
    assert reply.stop == "interrupted"
    assert speaker.messages == [ft.Message("user", "hello"), ft.Message("assistant", reply.text)]
    talk.reset()
    assert speaker.messages == []
