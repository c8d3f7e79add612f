"""Whole commands on a tiny random model: their files, output and exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest
from command_line import finetooth
from tokenizers_for_tests import save_tokenizer

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
COLORS = {"apple": "red", "banana": "yellow", "cucumber": "green", "plum": "blue"}
ROWS = [
    {"text": f"{number} of {fruit}", "label": color}
    for number in range(25)
    for fruit, color in COLORS.items()
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that starts from random weights, rows, and a task of three steps."""
    folder = tmp_path_factory.mktemp("place")
    save_tokenizer(folder / "model")
    (folder / "model" / "config.json").write_text(json.dumps(CONFIG))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "task.yaml").write_text(
        "name: fruit\nmodel: ./model\ndata: {train: rows.jsonl}\n"
        "train: {adapter: none, max_steps: 3, preflight: off}\nevaluate: {shots: [0], limit: 6}\n"
    )
    return folder


@pytest.fixture(scope="module")
def done(place: Path) -> subprocess.CompletedProcess[str]:
    """A finished run of the task in runs/fruit, the default place."""
    return finetooth(place, "run", "task.yaml", "--json")


def test_a_run_prints_one_json_object_and_leaves_a_directory(place: Path, done) -> None:
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    run = place / "runs" / "fruit"
    summary = json.loads((run / "evaluate" / "summary.json").read_text())
    assert summary["split"] == "test"
    assert result["comparison"] == summary["comparison"]
    for name in ("config.yaml", "environment.json", "report.html", "ledger.jsonl", "train/metrics.jsonl"):
        assert (run / name).stat().st_size > 0, name
    for name in ("train", "validation", "sealed"):
        assert (run / "data" / f"{name}.jsonl").stat().st_size > 0, name


def test_results_are_on_stdout_and_logs_on_stderr(place: Path, done) -> None:
    shown = finetooth(place, "report", "runs/fruit")
    assert shown.returncode == 0, shown.stderr
    assert "tuned" in shown.stdout
    quiet = finetooth(place, "evaluate", "runs/fruit", "--json", "--quiet")
    assert quiet.returncode == 0, quiet.stderr
    assert quiet.stderr == ""
    assert json.loads(quiet.stdout)["split"] == "validation"


def test_another_configuration_in_the_same_directory_is_refused(place: Path, done) -> None:
    refused = finetooth(place, "run", "task.yaml", "--train.max_steps", 4)
    assert refused.returncode == 2
    assert "train.max_steps" in refused.stderr
    assert refused.stdout == ""


def test_a_finished_run_goes_on_to_the_same_end(place: Path, done) -> None:
    again = finetooth(place, "run", "task.yaml", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(done.stdout)
    events = [json.loads(line) for line in (place / "runs/fruit/ledger.jsonl").read_text().splitlines()]
    assert sum(event["event"] == "opened" for event in events) == 1


@pytest.mark.parametrize("out", ["rows.jsonl", "rows.jsonl/run", "/proc/finetooth"])
def test_a_place_that_cannot_be_written_is_one_message(place: Path, out: str) -> None:
    refused = finetooth(place, "run", "task.yaml", "--out", out)
    assert refused.returncode == 2, refused.stderr
    assert out.split("/")[-1] in refused.stderr
    assert "Traceback" not in refused.stderr


def test_check_needs_no_torch(place: Path) -> None:
    code = (
        "import sys; from finetooth.cli.app import invoke; code = invoke(['check', 'task.yaml', '--json'])\n"
        "print(code, sorted({'torch', 'transformers', 'peft'} & set(sys.modules)), file=sys.stderr)"
    )
    checked = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
    assert checked.stderr.splitlines()[-1] == "0 []", checked.stderr
    assert isinstance(json.loads(checked.stdout), dict)


def test_check_reads_a_file_without_a_task(place: Path) -> None:
    checked = finetooth(place, "check", "rows.jsonl")
    assert checked.returncode == 0, checked.stderr
    assert "labels" in checked.stdout
    assert "100" in checked.stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "rows"),
        ('text,label\n"a stray,red\nb,blue\n', "rows"),
        ("text,label\none,red\n", "rows"),
    ],
    ids=["empty", "stray quote", "one row"],
)
def test_a_file_that_cannot_be_used_is_one_message(
    place: Path, tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    refused = finetooth(place, "train", "task.yaml", "--data.train", path, "--out", tmp_path / "run")
    assert refused.returncode == 2, (refused.stdout, refused.stderr)
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_how_to_go_on(
    place: Path, tmp_path: Path, number: signal.Signals
) -> None:
    flags = ["--train.max_steps", 100000, "--train.epochs", 10000, "--train.validate_every", 90000]
    metrics = tmp_path / "run" / "train" / "metrics.jsonl"
    process = processes.finetooth(place, "train", "task.yaml", "--out", tmp_path / "run", *flags)
    try:
        for _ in range(3000):
            if metrics.exists() and metrics.stat().st_size:
                break
            time.sleep(0.1)
        process.send_signal(number)
        code, out, err = process.end()
    finally:
        process.kill()
    assert code == (130 if number == signal.SIGINT else 143), err
    assert f"finetooth train {tmp_path / 'run'}" in err.replace("\n", " ")
    assert out == ""
    assert "Traceback" not in err
