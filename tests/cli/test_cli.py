"""The command line: help, flags, messages, exit codes, and what goes to stdout."""

from __future__ import annotations

import ast
import errno
import json
import re
import shlex
from pathlib import Path

import click
import pytest

from finetooth.cli import task_flags
from finetooth.cli.app import explain, group, invoke
from finetooth.config.task import keys
from finetooth.errors import DataError, GradeError, Interrupted, TrainError

SOURCE = Path(__file__).resolve().parents[2] / "src" / "finetooth"
ROWS = "".join(
    json.dumps({"text": f"{word} number {number}", "label": word}) + "\n"
    for number in range(20)
    for word in ("apple", "pear")
)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # check writes to runs/ here
    path = tmp_path / "fruit.jsonl"
    path.write_text(ROWS)
    return path


@pytest.fixture
def task(rows: Path) -> Path:
    path = rows.with_name("task.yaml")
    path.write_text("data: {train: fruit.jsonl}\n")
    return path


# ---- help


def test_help_lists_the_verbs_in_the_order_of_use(capsys) -> None:
    assert invoke(["--help"]) == 0
    text = capsys.readouterr().out
    listed = [line.split()[0] for line in text.split("Commands:")[1].splitlines() if line.strip()]
    assert listed == [
        *("check", "baseline", "train", "evaluate", "run", "report", "predict", "chat", "compare", "pairs"),
        *("errors", "curve", "log", "examples", "models", "completion"),
    ]


@pytest.mark.parametrize("verb", list(group.commands))
def test_every_help_ends_with_an_example_that_parses(verb: str, capsys) -> None:
    assert invoke([verb, "--help"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1].strip()
    assert last.startswith("Example: ")
    words = shlex.split(last.removeprefix("Example: ").rpartition(" | ")[2])
    assert words[:2] == ["finetooth", verb] and len(words) > 2
    group.commands[verb].make_context(verb, words[2:])  # raises when a flag does not exist


def commands_in(text: str) -> list[list[str]]:
    """The words behind `finetooth` where a text says what to type: in backticks, behind a colon, indented."""
    pattern = r"(?:`|[:|] |^ {2,}|\n *)finetooth ((?:[a-z]+ )?[^`\n,;:()]*)"
    return [found.split() for found in re.findall(pattern, text)]


def messages() -> list[tuple[str, list[str]]]:
    """Every command that a text of the source names, with placeholders for what is filled in."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
                text = "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            found += [(f"{path.name}:{node.lineno}", words) for words in commands_in(text)]
    return found


def test_what_a_message_says_to_type_can_be_typed() -> None:
    """Verbs and flags in all texts of the source exist."""
    checked = 0
    for where, words in messages():
        if not words or not (words[0].isalpha() and words[0].islower()):
            continue  # `finetooth VERB`, or a verb that is filled in
        assert words[0] in group.commands, f"{where}: finetooth {' '.join(words)}"
        task_flags = {flag for param in group.commands[words[0]].params for flag in param.opts} | {"--help"}
        given = [word.rstrip(".") for word in words if word.startswith("--")]
        assert not [flag for flag in given if flag.strip(".") not in task_flags], f"{where}: {words}"
        checked += 1
    assert checked > 15


def test_a_message_with_a_wrong_command_is_detected() -> None:
    assert commands_in("First: finetooth trian X --fast\nthen") == [["trian", "X", "--fast"]]


def test_a_verb_without_task_options_shows_none(capsys) -> None:
    assert invoke(["chat", "--help"]) == 0
    assert "Task options" not in capsys.readouterr().out  # --seed is chat's own
    assert invoke(["--help"]) == 0
    assert "..." not in capsys.readouterr().out.split("Commands:")[1]


def words_of(text: str) -> str:
    """A text without its line breaks, those behind a hyphen included."""
    return " ".join(re.sub(r"(?<=\w)-\n\s+", "-", text).split())


@pytest.mark.parametrize("verb", ["check", "train", "run"])
def test_every_key_is_a_flag_with_its_description(verb: str, capsys) -> None:
    assert invoke([verb, "--help"]) == 0
    text = words_of(capsys.readouterr().out)
    for key, description in keys():
        assert f"--{key} VALUE " in text
        assert " ".join(description.split()) in text


@pytest.mark.parametrize("columns", [80, 110])
@pytest.mark.parametrize("verb", ["", *group.commands])
def test_help_fits_the_terminal(verb: str, columns: int, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert invoke([*verb.split(), "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= columns


TERMS = [
    *(
        "LoRA",
        "full fine-tuning",
        "learning rate",
        "packing",
        "gradient accumulation",
        "effective batch size",
    ),
    *(
        "checkpoint",
        "gradient checkpointing",
        "gradient clipping",
        "early stopping",
        "KL penalty",
        "few-shot",
    ),
]


@pytest.mark.parametrize("term", TERMS)
def test_an_engineer_finds_the_terms_of_the_field(term: str, capsys) -> None:
    """By a search in the help and in docs/reference.md."""
    assert invoke(["run", "--help"]) == 0
    for text in (capsys.readouterr().out, (SOURCE.parents[1] / "docs" / "reference.md").read_text()):
        assert term.lower() in words_of(text).lower()


# ---- flags


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("train.epochs", "3", 3),
        ("train.patience", "null", None),
        ("train.adapter", "none", "none"),
        ("evaluate.shots", "[0, 8]", [0, 8]),
        ("evaluate.grader", "[exact, mine:grade]", ["exact", "mine:grade"]),
        ("data.columns", "{text: body}", {"text": "body"}),
        ("data.test", "0.25", 0.25),
        ("data.test", "2026-11-21", "2026-11-21"),  # a file of that name, not a date
        ("data.test", "2026-99-99", "2026-99-99"),
        ("data.group", "yes", "yes"),  # a column of that name, not a truth value
        ("instruction", "Answer: yes or no", "Answer: yes or no"),  # not a mapping
        ("name", "007", "007"),
        ("train.rank", "many", "many"),  # wrong, which the validation of the task reports
        ("data.columns", "{text", "{text"),
        ("data.clean", "[dedupe, strip_htm]", ["dedupe", "strip_htm"]),  # the message is about its mistake
    ],
)
def test_a_flag_means_what_the_key_means_in_a_task_file(key: str, text: str, value: object) -> None:
    assert task_flags.parse_value(key, text) == value


def test_flags_reach_the_command(task: Path, monkeypatch, capsys) -> None:
    assert invoke(["run", str(task), "--train.rank", "0"]) == 2
    assert "train.rank" in capsys.readouterr().err
    assert invoke(["run", str(task), "--data.format", "xml"]) == 2
    assert "data.format" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["train", "t.yaml", "--train.num_train_epochs", "3"], "In finetooth it is called --train.epochs."),
        (["run", "t.yaml", "--lora_r", "8"], "In finetooth it is called --train.rank."),
        (["run", "t.yaml", "--learning-rate", "1"], "Did you mean --train.learning_rate?"),
        (["run", "t.yaml", "--max_seq_length", "64"], "In finetooth it is called --data.max_tokens."),
        (["train", "t.yaml", "--train.epoch", "3"], "Did you mean --train.epochs?"),
        (["report", "r", "--jsn"], "Did you mean --json?"),
        (["evaluate", "r", "--train.epochs", "3"], "Task options go to `check`, `train` and `run`"),
        (["report", "r", "--frobnicate"], "`finetooth report --help` lists all flags."),
        (["chek", "x"], "Did you mean 'check'?"),
    ],
)
def test_an_unknown_flag_names_the_right_one(arguments: list[str], hint: str, capsys) -> None:
    assert invoke(arguments) == 2
    printed = capsys.readouterr()
    assert hint in printed.err
    assert printed.out == ""


# ---- the user's mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check"], "Missing argument 'DATA|TASK'"),
        (["check", "nowhere.csv"], "nowhere.csv"),
        (["check", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["train", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["run", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["evaluate", "nowhere"], "nowhere: not a run directory (no such directory)"),
        (["report", "nowhere"], "nowhere: not a run directory (no such directory)"),
    ],
)
def test_a_wrong_path_is_one_message_and_exit_code_2(arguments, words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(arguments) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_task_in_place_of_a_run_is_told_apart(task: Path, capsys) -> None:
    for verb in ("evaluate", "report"):
        assert invoke([verb, str(task)]) == 2
        assert (
            f"expected a run directory, found a task. First: finetooth run {task}" in capsys.readouterr().err
        )


def test_runs_that_are_there_are_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "config.yaml").write_text("{}")
    assert invoke(["report", "runs/frist"]) == 2
    assert "Runs here: runs/first." in capsys.readouterr().err


def test_check_ends_with_what_to_type_next(rows: Path, task: Path, capsys) -> None:
    assert invoke(["check", str(task)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Next: finetooth run {task}"
    assert invoke(["check", str(rows)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Next: finetooth run {rows}"
    assert invoke(["check", str(task), "--quiet"]) == 0
    assert "Next:" not in capsys.readouterr().out
    broken = task.with_name("broken.csv")
    broken.write_text("text,label\n" + "fine,yes\n" * 20 + ",no\n" * 9)
    assert invoke(["check", str(broken)]) == 1
    assert f"then: finetooth run {broken}" in capsys.readouterr().out


def test_a_run_is_not_changed_by_flags(tmp_path: Path, capsys) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    assert invoke(["train", str(tmp_path), "--train.epochs", "9"]) == 2
    assert "found the flag --train.epochs" in capsys.readouterr().err
    assert invoke(["train", str(tmp_path), "--out", "elsewhere"]) == 2
    assert "found the flag --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("rows.csv, line 3: broken"), 2, "rows.csv, line 3: broken"),
        (GradeError("no rows"), 2, "no rows"),
        (TrainError("The loss is nan"), 1, "The loss is nan"),
        (Interrupted("Saved at step 7."), 130, "Saved at step 7."),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 2, "The disk is full."),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "The disk is full."),
        (OSError(errno.EROFS, "Read-only file system", "runs/x"), 2, "runs/x: Read-only file system."),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 2, "runs: Permission denied."),
        (ZeroDivisionError("division by zero"), 70, "This is a bug. Set FINETOOTH_DEBUG=1"),
    ],
)
def test_every_end_has_its_code_and_words(error: Exception, code: int, words: str) -> None:
    found, message = explain(error)
    assert found == code
    assert message.startswith(words) or words in message
    assert "Traceback" not in message


def test_training_that_could_not_save_is_not_a_refusal() -> None:
    error = TrainError("The checkpoint cannot be written")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert explain(error) == (2, "The checkpoint cannot be written")


def test_an_interrupt_is_130_and_keeps_its_message(monkeypatch, capsys) -> None:
    @group.command("interrupted")
    def interrupted() -> None:
        raise KeyboardInterrupt("Saved at step 7. `finetooth train runs/x` goes on.")

    try:
        assert invoke(["interrupted"]) == 130
    finally:
        del group.commands["interrupted"]
    assert "Saved at step 7." in capsys.readouterr().err


def test_debug_shows_the_traceback(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FINETOOTH_DEBUG", "1")
    assert invoke(["check", "nowhere.yaml"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_usage_errors_of_click_are_handled() -> None:
    code, message = explain(click.UsageError("Got unexpected extra argument (x)"))
    assert code == 2
    assert "unexpected extra argument" in message


@pytest.mark.parametrize("verb", ["check", "train", "run"])
def test_help_begins_with_what_everybody_needs(verb: str, capsys) -> None:
    assert invoke([verb, "--help"]) == 0
    text = capsys.readouterr().out
    headings = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert headings[:2] == ["Options", "Task options that most tasks need"]
    assert len(set(headings)) == len(headings)
    first = text.split("Task options that most tasks need:")[1].split("\n\n")[0]
    assert set(re.findall(r"^  --([\w.]+)", first, re.MULTILINE)) == set(task_flags.COMMON)
