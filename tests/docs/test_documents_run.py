"""Every command and program in the README and in docs/ runs as it stands, in order, one test a document.

A document runs in a directory of its own, which sees src/, examples/, benchmarks/ and the Makefile of the
checkout, and a copy of tests/docs/files. To keep it short, `run` and `train` get the flags in SHORT after a
task file, and `ft.run` gets the same as overrides; nothing else is changed. `make TARGET` runs the
finetooth commands that `make --dry-run` prints: what it installs is tested by the gate itself.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown import Block, blocks, commands

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SHORT = {"train.max_steps": 3, "evaluate.limit": 8}
PRELUDE = f"""
import finetooth
_run = finetooth.run
finetooth.run = lambda *given, overrides=None, **named: _run(
    *given, overrides={{**(overrides or {{}}), **{SHORT!r}}}, **named)
"""


def shortened(command: str) -> str:
    """The command with few steps, when it is one that starts a training."""
    words = shlex.split(command)
    starts = words[:2] in (["finetooth", "run"], ["finetooth", "train"])
    if not starts or not words[2].endswith((".yaml", ".yml", ".toml")):
        return command
    return " ".join([command, *(f"--{key} {value}" for key, value in SHORT.items())])


def made_by(target: str) -> list[str]:
    """The finetooth commands of a make target, taken from what make says it would do."""
    done = subprocess.run(
        ["make", "--dry-run", "VENV=venv", *shlex.split(target)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.removeprefix("venv/bin/") for line in done.stdout.splitlines()]
    return [line for line in lines if line.startswith("finetooth ")]


def shell(command: str, folder: Path) -> None:
    """Run one command of a document; AssertionError with what it printed when it fails."""
    if command.startswith("make "):
        for line in made_by(command.removeprefix("make ")):
            shell(line, folder)
        return
    start(["bash", "-c", shortened(command)], command, folder)


def start(arguments: list[str], what: str, folder: Path) -> None:
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": scripts + os.pathsep + os.environ["PATH"], "COLUMNS": "110"}
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{what}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"


def run_block(block: Block, folder: Path) -> None:
    if block.file:
        (folder / block.file).write_text(block.body, encoding="utf-8")
    elif block.exempt:
        return
    elif block.kind in ("bash", "console"):
        for command in commands(block):
            shell(command, folder)
    elif block.kind == "python":
        start([sys.executable, "-c", PRELUDE + block.body], block.body, folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader of the document has in front of them."""
    for name in ("src", "examples", "benchmarks", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(Path(__file__).parent / "files", tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_says_to_type_works(document: Path, folder: Path) -> None:
    for block in blocks(document.read_text(encoding="utf-8")):
        try:
            run_block(block, folder)
        except AssertionError as error:
            pytest.fail(f"{document.name}, line {block.line}: {error}", pytrace=False)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_project_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing


# ---- the harness itself


def test_a_command_that_fails_is_seen(tmp_path: Path) -> None:
    (block,) = blocks("```console\n$ echo fine\nfine\n$ finetooth check nowhere.csv\n```\n")
    with pytest.raises(AssertionError, match=r"nowhere\.csv"):
        run_block(block, tmp_path)


def test_a_program_that_fails_is_seen(tmp_path: Path) -> None:
    (block,) = blocks("```python\nassert 1 == 2\n```\n")
    with pytest.raises(AssertionError, match="exit code 1"):
        run_block(block, tmp_path)


def test_an_exemption_needs_a_reason() -> None:
    (block,) = blocks("<!-- not run: it installs -->\n```bash\nexit 1\n```\n")
    assert block.exempt
    with pytest.raises(ValueError, match="not run"):
        list(blocks("<!-- not run: -->\n```bash\nexit 1\n```\n"))


def test_only_trainings_are_made_short() -> None:
    assert shortened("finetooth run a/task.yaml --out x").endswith("--train.max_steps 3 --evaluate.limit 8")
    assert shortened("finetooth train runs/a") == "finetooth train runs/a"
    assert shortened("finetooth check rows.csv") == "finetooth check rows.csv"


def test_the_commands_of_make_are_found() -> None:
    assert made_by("demo") == ["finetooth run examples/support-triage/task.yaml --out runs/demo"]
