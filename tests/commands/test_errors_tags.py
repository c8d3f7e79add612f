"""`finetooth errors --tags`: whose code the user's tags run, and tags that are kept in the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import finetooth
from iterations import iteration

from finetooth.rundir import read_json, write_json
from finetooth.runs import inputs, user_tags

CODE = "open({marker!r}, 'a').write('ran')\ndef f(example, text): return 'pin' in text\n"


def here(run: Path) -> Path:
    """The run as one that was made where it lies."""
    write_json(run / "environment.json", {**read_json(run / "environment.json"), "place": inputs._place(run)})
    return run


def with_code(folder: Path, run: Path) -> Path:
    """Give a run tags of its own, with a function that leaves a mark where it is imported. The mark."""
    marker, file = folder / "ran", folder / "evil.py"
    file.write_text(CODE.format(marker=str(marker)))
    (folder / "evil.yaml").write_text(f"odd:\n  function: {file}:f\n")
    user_tags.store(run, folder / "evil.yaml")
    return marker


def errors(place: Path, *words: Any) -> dict[str, Any]:
    done = finetooth(place, "errors", *words, "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def names(found: dict[str, Any]) -> set[str]:
    return {tag["tag"] for tag in found["tags"]}


def test_the_tags_of_a_run_that_was_sent_are_its_code(tmp_path: Path) -> None:
    run = here(iteration(tmp_path / "runs", "first", 0.8))
    assert "odd" not in names(errors(tmp_path, run))
    marker = with_code(tmp_path, run)
    assert "odd" in names(errors(tmp_path, run)) and marker.exists()  # where it was made
    marker.unlink()
    sent = tmp_path / "sent"
    shutil.copytree(run, sent)
    (tmp_path / "evil.py").write_text(CODE.format(marker=str(marker)) + "# a new file is a new module\n")
    refused = finetooth(tmp_path, "errors", "sent")
    assert refused.returncode == 2 and not marker.exists()
    said = " ".join(refused.stderr.split())
    assert "sent was not made here" in said and "finetooth errors sent --trust-code" in said
    assert f"its errors/tags.yaml names code that would run: {tmp_path / 'evil.py'}:f" in said
    for other in ("evaluate", "train"):
        inputs.require_trusted(sent, other)  # verbs that never read the tags
    (tmp_path / "mine.yaml").write_text("mine:\n  pattern: pin\n")
    assert "mine" in names(errors(tmp_path, "sent", "--tags", "mine.yaml")), "the user's own replace them"
    assert not marker.exists()
    with_code(tmp_path, sent)
    (tmp_path / "evil.py").write_text(CODE.format(marker=str(marker)) + "# and another\n")
    assert "odd" in names(errors(tmp_path, "sent", "--trust-code")) and marker.exists()


def test_a_grader_and_a_tag_are_both_named(tmp_path: Path) -> None:
    run = iteration(tmp_path, "first", 0.8)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("grader: label", "grader: g.py:two"))
    with_code(tmp_path, run)
    said = " ".join(finetooth(tmp_path, "errors", "first").stderr.split())
    assert "its config.yaml names code that would run: g.py:two" in said
    assert f"its errors/tags.yaml names code that would run: {tmp_path / 'evil.py'}:f" in said


def test_tags_of_earlier_runs_are_never_opened(tmp_path: Path) -> None:
    first = here(iteration(tmp_path, "first", 0.7, 1))
    second = here(iteration(tmp_path, "second", 0.8, 2, first))
    marker = with_code(tmp_path, first)
    found = errors(tmp_path, second)
    assert Path(found["against"]) == first and "odd" not in names(found) and not marker.exists()
    (first / "errors" / "tags.yaml").write_text("{")
    assert Path(errors(tmp_path, second)["against"]) == first


@pytest.mark.parametrize("function", ["mytags.py:f", "mytags:f", "lib/mytags.py:f", "lib.mytags:f"])
def test_tags_that_were_given_once_work_from_any_directory(tmp_path: Path, function: str) -> None:
    run = here(iteration(tmp_path / "runs", "first", 0.8))
    folder = tmp_path / "mine"
    code = folder / ("lib" if "lib" in function else "") / "mytags.py"
    code.parent.mkdir(parents=True)
    code.write_text("def f(example, text): return 'pin' in text\n")
    text = f"# Our customers hate this.\npins: # a comment\n  function: {function}   # ours\n  about: ä\n"
    (folder / "tags.yaml").write_text(text + "crate:\n  pattern: '^cr'\n", "utf-8")
    first = errors(folder, run, "--tags", "tags.yaml")
    again = errors(tmp_path / "runs", run)
    assert next(tag for tag in first["tags"] if tag["tag"] == "pins")["rows"] > 0
    assert again["tags"] == first["tags"] and again["rows"] == first["rows"]
    kept = (run / "errors" / "tags.yaml").read_text("utf-8")
    assert kept == (text + "crate:\n  pattern: '^cr'\n").replace(function, json.dumps(f"{code}:f"))
    code.unlink()
    gone = finetooth(tmp_path, "errors", run)
    said = " ".join(gone.stderr.split())
    assert gone.returncode == 2 and f"pins: there is no file {code}" in said and "--tags" in said


@pytest.mark.parametrize(
    "text",
    [
        "one: &shared\n  function: |-\n    mytags.py:f\ntwo: *shared\n",
        "one: {function: &name mytags.py:f, title: One}\ntwo: {function: *name}\n",
        "base: &base {function: mytags.py:f}\ntwo:\n  <<: *base\n  title: Two\n",
    ],
)
def test_tags_in_any_form_of_yaml_are_kept(tmp_path: Path, text: str) -> None:
    run = here(iteration(tmp_path / "runs", "first", 0.8))
    (tmp_path / "mytags.py").write_text("def f(example, text): return True\n")
    (tmp_path / "tags.yaml").write_text(text)
    first = errors(tmp_path, run, "--tags", "tags.yaml")
    assert errors(run, run)["tags"] == first["tags"]
    kept = yaml.safe_load((run / "errors" / "tags.yaml").read_text())
    given = yaml.safe_load(text)
    for name, entry in given.items():
        assert kept[name] == {**entry, "function": f"{tmp_path / 'mytags.py'}:f"}


def test_an_installed_module_stays_a_module(tmp_path: Path) -> None:
    """As it is loaded: a file beside the tags never hides an installed package."""
    run = here(iteration(tmp_path / "runs", "first", 0.8))
    text = "said:\n  function: operator:contains\n"
    (tmp_path / "operator.py").write_text("raise SystemExit\n")
    (tmp_path / "tags.yaml").write_text(text)
    user_tags.store(run, tmp_path / "tags.yaml")
    assert (run / "errors" / "tags.yaml").read_text() == text


def test_tags_that_fail_replace_nothing_and_stored_ones_name_the_way_out(tmp_path: Path) -> None:
    run = here(iteration(tmp_path / "runs", "first", 0.8))
    code = tmp_path / "mytags.py"
    bad = "def bad(example, text): return text.nothing\n"
    code.write_text(f"def f(example, text): return 'pin' in text\n{bad}")
    (tmp_path / "good.yaml").write_text("pins:\n  function: mytags.py:f\n")
    (tmp_path / "bad.yaml").write_text("odd:\n  function: mytags.py:bad\n")
    fails = finetooth(tmp_path, "errors", run, "--tags", "bad.yaml")
    assert fails.returncode == 2 and "bad.yaml: odd failed while it looked at row" in fails.stderr
    assert not (run / "errors" / "tags.yaml").exists() and "odd" not in names(errors(tmp_path, run))
    assert "pins" in names(errors(tmp_path, run, "--tags", "good.yaml"))
    kept = (run / "errors" / "tags.yaml").read_bytes()
    assert finetooth(tmp_path, "errors", run, "--tags", "bad.yaml").returncode == 2
    assert (run / "errors" / "tags.yaml").read_bytes() == kept and "pins" in names(errors(tmp_path, run))
    code.write_text(bad.replace("bad(", "f("))  # a change afterwards
    fails = finetooth(tmp_path, "errors", run)
    said = " ".join(fails.stderr.split())
    assert fails.returncode == 2 and "pins failed while it looked at row" in said
    for way in ("Mend", f"finetooth errors {run} --tags FILE", f"delete {run}/errors/tags.yaml"):
        assert way in said
