"""Earlier runs that `finetooth errors` cannot use: left out with the reason, unless --against names them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from iterations import iteration, set_json
from rich.console import Console

from finetooth.commands import errors
from finetooth.errors import ConfigError, FinetoothError
from finetooth.evaluation import ledger
from finetooth.rundir import write_json


def run(path: Path, **options: Any) -> tuple[str | None, str]:
    """The run before, by its name, and what was printed."""
    file = io.StringIO()
    report = errors.run(path, errors.Options(**options), Console(file=file, width=500))
    against = report.analysis["against"]
    return against and Path(against).name, file.getvalue()


def damaged(path: Path) -> None:
    (path / "config.yaml").write_text("{")


def torn(path: Path) -> None:
    (path / "evaluate" / "validation" / "records.jsonl").write_bytes(b"x\n{}\n")


def without_grader(path: Path) -> None:
    write_json(path / "evaluate" / "validation" / "summary.json", {"n": 3})


def untrusted(path: Path) -> None:
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace("grader: label", "grader: g.py:one"))


def unevaluated(path: Path) -> None:
    shutil.rmtree(path / "evaluate")


def edited(path: Path) -> None:
    folder = path / "evaluate" / "validation"
    files = {name: (folder / name).read_bytes() for name in ("records.jsonl", "summary.json")}
    ledger.store_files(path, "validation", files, lambda: 0.0)
    set_json(folder / "summary.json", words="much better")


def of_likelihoods(path: Path) -> None:
    set_json(path / "evaluate" / "validation" / "summary.json", grader="perplexity")


HARM: list[tuple[Callable[[Path], None], str]] = [
    (damaged, "config.yaml"),
    (torn, "records.jsonl"),
    (without_grader, "grader"),
    (untrusted, "was not made here"),
    (unevaluated, "finetooth evaluate"),
    (edited, "edited"),
    (of_likelihoods, "graded by perplexity"),
]


@pytest.mark.parametrize(("harm", "said"), HARM)
def test_a_run_before_that_cannot_be_used_is_left_out(
    tmp_path: Path, harm: Callable[[Path], None], said: str
) -> None:
    oldest = iteration(tmp_path, "oldest", 0.6, 1)
    old = iteration(tmp_path, "old", 0.65, 2, oldest)
    parent = iteration(tmp_path, "parent", 0.7, 3, old)
    last = iteration(tmp_path, "last", 0.8, 4, parent)
    assert run(last) == ("parent", "")
    harm(old)  # two before: what was asked for is compared, and so are those before, where they are known
    against, told = run(last)
    (line,) = told.splitlines()
    assert against == "parent" and line.startswith(f"{old} is left out: ") and said in line
    harm(parent)
    against, told = run(last)
    assert against is None and [said in one for one in told.splitlines()].count(True) >= 1
    assert f"{parent} is left out: " in told
    with pytest.raises((FinetoothError, KeyError)) as raised:
        run(last, against=parent)
    assert said in str(raised.value)


def test_iterations_before_one_that_is_left_out_are_followed(tmp_path: Path) -> None:
    """An issue is known from the oldest run, although the one between was not evaluated."""
    oldest = iteration(tmp_path, "oldest", 0.6, 1)
    between = iteration(tmp_path, "between", 0.65, 2, oldest)
    parent = iteration(tmp_path, "parent", 0.7, 3, between)
    last = iteration(tmp_path, "last", 0.8, 4, parent)
    unevaluated(between)
    issues = errors.run(last, errors.Options(), Console(quiet=True)).analysis["issues"]
    (wrong,) = [one for one in issues if one["tag"] == "wrong answer" and not one["slice"]]
    assert len(wrong["counts"]) == 3, "oldest, parent, last"


def test_code_is_trusted_in_the_runs_before_as_well(tmp_path: Path) -> None:
    parent = iteration(tmp_path, "parent", 0.7, 1)
    last = iteration(tmp_path, "last", 0.8, 2, parent)
    untrusted(parent)
    against, told = run(last)
    assert against is None and f"finetooth errors {last} --against {parent} --trust-code" in told
    with pytest.raises(ConfigError, match="--trust-code"):
        run(last, against=parent)
    assert run(last, trust_code=True) == ("parent", "")
    assert run(last, trust_code=True, against=parent) == ("parent", "")
