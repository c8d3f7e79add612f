"""`finetooth baseline --with gepa`: what is sent where, what it costs, and that a better instruction wins.

The package is an extra. Without it a stand-in with its interface takes its place, and proposes once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from chat_server import ChatServer, serving
from command_line import finetooth
from models_for_tests import tiny_model_dir

from finetooth.evaluation.candidates import ModelCandidate, Prediction
from finetooth.evaluation.prompting import optimizer
from finetooth.evaluation.prompting.spec import read_spec
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl
from finetooth.runs import reflection

COLORS = {"apple": "red", "banana": "yellow", "plum": "blue"}
ROWS = [
    {"id": f"{n} {fruit}", "prompt": f"{n} of {fruit} for ada{n}@acme-tools.com?", "completion": color}
    for n in range(100, 120)
    for fruit, color in COLORS.items()
]
PLANTED = "Name the colour of the fruit that is asked for."
BUDGET = "240"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    tiny_model_dir(folder / "base")
    write_jsonl(folder / "rows.jsonl", ROWS)
    data = {"train": "rows.jsonl", "validation": 0.3, "test": 0.2}
    settings = {"grader": "exact", "max_tokens": 2}
    write_json(folder / "task.json", {"model": "base", "data": data, "evaluate": settings})
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A model that proposes the planted instruction."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(reflection.KEY, "secret-of-the-test")
    with serving(f"It should say what is wanted.\n```\n{PLANTED}\n```") as one:
        yield one


@pytest.fixture
def obedient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy base answers rightly under the planted instruction, and as it is under any other."""
    real = ModelCandidate.answers

    def answers(self: ModelCandidate, contexts: Any, **more: Any) -> Iterator[Prediction]:
        if self.renderer.instruction != PLANTED:
            yield from real(self, contexts, **more)
            return
        for index, (messages, row) in enumerate(contexts):
            fruit = max(COLORS, key=messages[-1].content.rfind)  # demonstrations may stand before it
            yield Prediction(index, COLORS[fruit], len(row), 2, written=True)

    monkeypatch.setattr(ModelCandidate, "answers", answers)


@pytest.fixture(params=["stand-in", pytest.param("gepa", marks=pytest.mark.full)])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The package itself, or a module with what is used of it."""
    if request.param == "gepa":
        pytest.importorskip("gepa", reason="needs the extra gepa: pip install 'finetooth[gepa]'")
        return "gepa"

    def optimize(seed_candidate: dict[str, str], trainset: list[int], adapter: Any, **more: Any) -> None:
        few = trainset[: more["reflection_minibatch_size"]]
        batch = adapter.evaluate(few, seed_candidate, capture_traces=True)
        assert len(batch.trajectories) == len(batch.scores) == len(few)
        (part,) = seed_candidate
        read = adapter.make_reflective_dataset(seed_candidate, batch, [part])
        answer = more["reflection_lm"](f"Improve this: {seed_candidate}\n{json.dumps(read)}")
        proposal = {part: answer.split("```")[-2].strip() if "```" in answer else answer}
        for rows in (few, trainset):
            adapter.evaluate(rows, proposal)

    def batch(outputs: Any, scores: Any, trajectories: Any) -> SimpleNamespace:
        return SimpleNamespace(outputs=outputs, scores=scores, trajectories=trajectories)

    for name, values in (
        ("gepa", {"optimize": optimize}),
        ("gepa.core", {}),
        ("gepa.core.adapter", {"EvaluationBatch": batch}),
    ):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    return "stand-in"


def improved(place: Path, out: str, *words: object, package: str = "gepa") -> Any:
    given = ("baseline", "task.json", "--out", out, "--budget", BUDGET, "--with", package, *words)
    return finetooth(place, *given)


def test_a_better_instruction_wins_and_its_cost_is_counted(
    place: Path, server: ChatServer, obedient: None, package: str
) -> None:
    at = ("--reflection-url", server.url, "--reflection-model", "large")
    done = improved(place, f"run-{package}", *at)
    assert done.returncode == 0, done.stderr
    found = read_json(place / f"run-{package}" / "baseline" / "baseline.json")
    assert read_spec(place / f"run-{package}" / "baseline" / "prompt.yaml").instruction == PLANTED
    assert found["winner"]["confirmed"] == 1.0 and found["confirmed"]
    effort, own = found["effort"], found["optimizer"]
    assert own["name"] == "gepa" and own["instructions"] == 1
    assert found["rows"]["selection"] <= own["answers"] <= effort["budget"] // 2
    assert own["answers"] < effort["answers"] <= effort["budget"] == int(BUDGET)
    assert f"{own['answers']} answers went to gepa, which proposed 1 instruction" in done.stdout
    lines = [*read_jsonl(place / f"run-{package}" / "baseline" / "records.jsonl")]
    confirming = {line["id"] for line in lines if line["part"] == "confirmation"}
    unseen = [row["prompt"].split("ada")[0] for row in ROWS if row["id"] in confirming]
    assert unseen
    for path, headers, body in server.asked:
        assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret-of-the-test"
        (message,) = body["messages"]
        assert body["model"] == "large" and message["role"] == "user"
        assert "The expected answer is: " in message["content"]
        assert "[EMAIL]" in message["content"] and "@acme-tools.com" not in message["content"]
        assert not any(question in message["content"] for question in unseen)
    assert server.asked


@pytest.mark.full
def test_dspy_reads_instructions_and_their_scores_and_no_row(
    place: Path, obedient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dspy", reason="needs the extra dspy: pip install 'finetooth[dspy]'")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    parts = {"proposed_instruction": PLANTED, "proposed_prefix_for_output_field": "Colour:", "completed": ""}
    text = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in parts.items())
    with serving(text) as server:
        at = ("--reflection-url", server.url, "--reflection-model", "large")
        done = improved(place, "run-dspy", *at, package="dspy")
        assert done.returncode == 0, done.stderr
        assert server.asked and not any("for ada" in json.dumps(body) for _, _, body in server.asked)
    found = read_json(place / "run-dspy" / "baseline" / "baseline.json")
    assert read_spec(place / "run-dspy" / "baseline" / "prompt.yaml").instruction == PLANTED
    assert found["winner"]["confirmed"] == 1.0 and found["optimizer"]["name"] == "dspy"
    assert found["optimizer"]["answers"] <= found["effort"]["budget"] // 2
    assert "went to dspy, which proposed 1 instruction" in done.stdout and "INFO" not in done.stderr


@pytest.mark.full
def test_what_cannot_be_read_as_an_instruction_ends_with_a_sentence(
    place: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dspy", reason="needs the extra dspy: pip install 'finetooth[dspy]'")
    done = improved(place, "none", "--reflection-url", server.url, "--reflection-model", "l", package="dspy")
    assert done.returncode == 2 and "--with dspy: the model wrote no instruction" in done.stderr
    assert "Traceback" not in done.stderr and not (place / "none").exists()


@pytest.mark.full
def test_the_base_itself_reflects_where_no_address_is_named(
    place: Path, server: ChatServer, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A toy has no room for the answers of six rows: it says so, and asks nobody else."""
    done = improved(place, "small", "--quiet")
    assert done.returncode == 2 and not (place / "small").exists()
    assert "The base model cannot write instructions: it takes 256 tokens" in done.stderr
    if package == "stand-in":
        monkeypatch.setattr(optimizer, "SHOWN", 0)
        monkeypatch.setattr(optimizer, "MINIBATCH", 1)
        done = improved(place, "own", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["optimizer"]["instructions"] == 1
        assert found["effort"]["answers"] > found["optimizer"]["answers"] > 0
    assert not server.asked


@pytest.mark.parametrize("name", ["gepa", "dspy"])
def test_without_the_package_one_sentence_says_how_to_install_it(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "find_spec", lambda name: None)
    done = improved(place, "none", package=name)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert done.stderr.rstrip().endswith(f"the package is not installed: pip install 'finetooth[{name}]'")
    assert not (place / "none").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--reflection-url", "https://example.com/v1", "--reflection-model", "large"),
        ("--with", "gepa", "--reflection-url", "https://example.com/v1"),
        ("--with", "gepa", "--reflection-model", "large"),
    ],
)
def test_half_a_request_is_refused(place: Path, words: tuple[str, ...]) -> None:
    done = finetooth(place, "baseline", "task.json", "--out", "none", *words)
    assert done.returncode == 2 and "go together, and need --with" in done.stderr
