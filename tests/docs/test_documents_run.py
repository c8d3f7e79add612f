"""Every command and program in the README and in docs/ runs as it stands, in order, one test a document.

The gate runs the README, `make test-all` every document.

A document runs in a directory of its own, which sees src/, examples/, benchmarks/ and the Makefile of the
checkout, and a copy of tests/docs/files. To keep it short, `run` and `train` get the flags in SHORT after a
task file, and `ft.run` gets the same as overrides, the embedded model among them; nothing else is changed. A
line that only calls finetooth is run in this process, since importing torch takes longer than most commands;
a program too. Any other line (a pipe) is given to bash. `make TARGET` runs the `finetooth run` that
`make --dry-run` prints: what it installs is tested by the gate itself, and nothing is fetched.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from markdown import Block, blocks, commands

import finetooth
from finetooth.cli.app import invoke

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
GUIDE = ROOT / "docs" / "guide.md"
TASKS = (".yaml", ".yml", ".toml")
SHORT = {"model": "milktooth", "train.max_steps": 3, "evaluate.limit": 8}


def shortened(command: str) -> str:
    """The command with few steps and the embedded model, when it is one of a task."""
    words = shlex.split(command)
    if words[0] != "finetooth" or not any(word.endswith(TASKS) for word in words[2:3]):
        return command
    flags = {"run": SHORT, "train": SHORT, "check": {"model": SHORT["model"]}}.get(words[1], {})
    return " ".join([command, *(f"--{key} {value}" for key, value in flags.items())])


def made_by(target: str) -> list[str]:
    """The `finetooth run` of a make target, taken from what make says it would do."""
    done = subprocess.run(
        ["make", "--dry-run", "VENV=venv", *shlex.split(target)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = re.findall(r"^venv/bin/(finetooth run .*)$", done.stdout, re.MULTILINE)
    return [line.replace("$task", "task.yaml") for line in lines]


def shell(command: str) -> None:
    """Run one command of a document here; AssertionError with what it printed when it fails."""
    if command.startswith("make "):
        for line in made_by(command.removeprefix("make ")):
            shell(line)
        return
    words = shlex.split(shortened(command))
    if words[0] == "finetooth" and not set(words) & {"|", ">", "<", "&&", ";"}:
        with told(command):
            assert invoke(words[1:]) == 0
        return
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": scripts + os.pathsep + os.environ["PATH"], "COLUMNS": "110"}
    with told(command):
        done = subprocess.run(
            ["bash", "-c", shortened(command)], capture_output=True, text=True, env=environment
        )
        print(done.stdout, done.stderr)
        assert done.returncode == 0, f"exit code {done.returncode}"


def program(body: str) -> None:
    """Run a program of a document here, with its trainings made short."""
    run = finetooth.run

    def short(*given: Any, overrides: dict[str, Any] | None = None, **named: Any) -> Any:
        return run(*given, overrides={**(overrides or {}), **SHORT}, **named)

    with told(body), pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetooth, "run", short)
        patch.syspath_prepend(str(Path.cwd()))
        exec(compile(body, "<program>", "exec"), {"__name__": "__main__"})


@contextlib.contextmanager
def told(what: str) -> Any:
    """Anything that goes wrong is an AssertionError with the command or program, and all that was printed."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    except (Exception, SystemExit):
        raise AssertionError(f"{what}\n{printed.getvalue()}\n{traceback.format_exc()}") from None


def run_blocks(found: Iterable[Block]) -> None:
    for block in found:
        try:
            run_block(block)
        except AssertionError as error:
            pytest.fail(f"line {block.line}: {error}", pytrace=False)


def run_block(block: Block) -> None:
    if block.file:
        Path(block.file).write_text(block.body, encoding="utf-8")
    elif block.exempt:
        return
    elif block.kind in ("bash", "console"):
        for command in commands(block):
            shell(command)
    elif block.kind == "python":
        program(block.body)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: what a reader of the document has in front of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    for name in ("src", "examples", "benchmarks", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(Path(__file__).parent / "files", tmp_path, dirs_exist_ok=True)
    return tmp_path


def named(document: Path) -> Any:
    """A document as a parameter; all but the README are for `make test-all`."""
    marks = pytest.mark.full
    return pytest.param(document, id=str(document.relative_to(ROOT)), marks=marks)


@pytest.mark.parametrize("document", [named(document) for document in DOCUMENTS])
def test_what_a_document_says_to_type_works(document: Path, folder: Path) -> None:
    run_blocks(blocks(document.read_text(encoding="utf-8")))


@pytest.mark.full
@pytest.mark.parametrize("title", ["The first hour", "The second hour"])
def test_a_chapter_of_the_guide_works_by_itself(title: str, folder: Path) -> None:
    _, *chapters = GUIDE.read_text(encoding="utf-8").split("\n## ")
    (chapter,) = (chapter for chapter in chapters if chapter.startswith(title))
    found = list(blocks(chapter))
    assert sum(len(commands(block)) for block in found if not block.exempt) >= 5
    run_blocks(found)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_project_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing


# ---- the harness itself


def test_a_command_that_fails_is_seen(folder: Path) -> None:
    (block,) = blocks("```console\n$ echo fine\nfine\n$ finetooth check nowhere.csv\n```\n")
    with pytest.raises(AssertionError, match=r"nowhere\.csv"):
        run_block(block)
    (block,) = blocks("```bash\necho piped | finetooth check nowhere.csv\n```\n")
    with pytest.raises(AssertionError, match=r"exit code 2"):
        run_block(block)


def test_a_program_that_fails_is_seen(folder: Path) -> None:
    (block,) = blocks("```python\nassert 1 == 2\n```\n")
    with pytest.raises(AssertionError, match="assert 1 == 2"):
        run_block(block)


def test_an_exemption_needs_a_reason() -> None:
    (block,) = blocks("<!-- not run: it installs -->\n```bash\nexit 1\n```\n")
    assert block.exempt
    with pytest.raises(ValueError, match="not run"):
        list(blocks("<!-- not run: -->\n```bash\nexit 1\n```\n"))


def test_only_trainings_are_made_short() -> None:
    assert shortened("finetooth run a/task.yaml --out x").endswith(
        "--model milktooth --train.max_steps 3 --evaluate.limit 8"
    )
    assert shortened("finetooth train runs/a") == "finetooth train runs/a"
    assert shortened("finetooth check rows.csv") == "finetooth check rows.csv"


def test_the_commands_of_make_are_found() -> None:
    assert made_by("demo") == ["finetooth run examples/support-triage/task.yaml --out runs/demo"]
