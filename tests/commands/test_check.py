"""`check`: what it counts, what it shows, what it refuses; nothing written unless asked, no torch."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from contexts_for_tests import checked
from rich.console import Console
from tokenizers_for_tests import save_tokenizer

from finetooth.config.task import build_task
from finetooth.errors import DataError, ModelError
from finetooth.quality.rules.leaks import NOT_CHECKED
from finetooth.report.check_report import CheckReport

ROWS = [{"text": f"message number {k}", "label": ("ham", "spam")[k % 3 == 0]} for k in range(300)]


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def check(rows: Any, tokenizer_dir: Path | None, **data: Any) -> CheckReport:
    return checked(build_task({"data": {"train": rows, **data}}), tokenizer_dir=tokenizer_dir)


def shown(report: CheckReport) -> str:
    console = Console(file=io.StringIO(), width=100)
    report.print(console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def one_line(report: CheckReport) -> str:
    return " ".join(shown(report).split())


def test_counts_and_lengths(tokenizer_dir: Path) -> None:
    report = check(ROWS, tokenizer_dir)
    value = report.to_json()
    json.dumps(value, allow_nan=False)
    assert report.ok and value["ok"] and value["rows"] == 300 == sum(value["sides"].values())
    assert sum(counts["train"] for counts in value["labels"].values()) == value["sides"]["train"]
    tokens = value["tokens"]
    assert tokens["rows"] == 300 and tokens["stop"] == "<|im_end|>"
    assert tokens["scored"]["p50"] <= tokens["scored"]["p95"] <= tokens["scored"]["max"]
    assert tokens["overlong"] == [] and len(value["samples"]) == 3
    for sample in value["samples"]:
        assert sample["context"].endswith("<|im_start|>assistant\n")
        assert sample["scored"] in ("ham<|im_end|>", "spam<|im_end|>")


def test_scored_tokens_are_marked_without_colour(tokenizer_dir: Path) -> None:
    text = shown(check(ROWS, tokenizer_dir))
    assert text.count("⟦ham<|im_end|>⟧") + text.count("⟦spam<|im_end|>⟧") == 3
    assert len(re.findall(r"Row [0-9a-f]{12} \(rows, line \d+\), scored between ⟦ ⟧", text)) == 3
    assert "test (sealed)" in text and re.search(r"OK +The data is ready for training\.", text)
    assert max(map(len, text.splitlines())) <= 100


def test_markup_in_the_data_is_shown_as_it_is(tokenizer_dir: Path) -> None:
    rows = [{"text": f"[bold]{k}[/bold] [/x]", "label": "[red]"} for k in range(200)]
    text = shown(check(rows, tokenizer_dir))
    assert re.search(r"\[bold\]\d+\[/bold\] \[/x\]", text) and "⟦[red]<|im_end|>⟧" in text


def test_broken_rows_and_leaks_are_a_no_with_ids_and_lines(tokenizer_dir: Path) -> None:
    report = check([*ROWS, *({"text": {}, "label": "ham"} for _ in range(9))], tokenizer_dir, test=ROWS[:2])
    assert not report.ok and len(report.problems) == 2
    assert [one.rule for one in report.findings if one.severity == "block"] == ["broken-rows", "leak"]
    text = shown(report)
    assert (
        "9 of 309 rows are broken" in text and "train rows, line 301: text is a dict, expected text" in text
    )
    assert "and 4 more" in text  # of nine rows
    assert "2 of 2 test rows repeat a row (or a group) of another side" in text
    assert re.search(
        r"test \w+-2 \(rows, line 2\): the same question as train \w+ \(rows, line 2\)", one_line(report)
    )
    assert text.count("NO ") == 2 and "OK" not in text


def test_a_few_empty_cells_are_set_aside_and_many_block(tokenizer_dir: Path) -> None:
    for count, severity in ((9, "review"), (40, "block")):
        report = check([*ROWS, *({"text": "", "label": "ham"} for _ in range(count))], tokenizer_dir)
        assert report.ok == (severity == "review") and len(report.data.rejected) == count
        (finding,) = [one for one in report.findings if one.rule in ("empty-cells", "broken-rows")]
        assert (finding.severity, len(finding.hits)) == (severity, count)
        assert finding.hits[0].place == "rows, line 301" and finding.hits[0].evidence == "text is empty"


def test_what_was_allowed_and_what_was_not_checked_is_said(tokenizer_dir: Path) -> None:
    """A rule that is allowed is told from one that would be, and paraphrase is never looked for."""
    report = check(ROWS, tokenizer_dir, test=ROWS[:2], allow=["leak", "broken-rows"])
    assert report.ok and not report.problems
    assert report.to_json()["allowed"] == ["leak"]
    text = shown(report)
    assert re.search("^allowed +leak: 2 of 2 test rows repeat", text, re.MULTILINE) and "NO " not in text
    assert re.search(r"^note +Paraphrases", text, re.MULTILINE)
    assert report.to_json()["not_checked"] == [NOT_CHECKED]


def test_overlong_rows_are_a_no_unless_the_user_chose(tokenizer_dir: Path) -> None:
    rows = [*ROWS, {"text": "very long " * 200, "label": "ham"}]
    report = check(rows, tokenizer_dir, max_tokens=100)
    assert not report.ok
    (problem,) = report.problems
    assert "1 row is longer than 100 tokens. It holds 4 of 1,304 scored tokens." in problem
    assert "line 301" in problem and "Set data.overlong: cut" in problem
    cut = check(rows, tokenizer_dir, max_tokens=100, overlong="cut")
    assert cut.ok and "overlong: 1 row is longer than 100 tokens: the oldest part of" in one_line(cut)
    drop = check(rows, tokenizer_dir, max_tokens=100, overlong="drop")
    assert drop.ok and "and is dropped, with 4 of 1,304 scored tokens." in one_line(drop)


@pytest.mark.parametrize(
    ("wanted", "positions", "longest", "limit"),
    [("auto", 12, 1e30, 12), (40, 12, None, 12), (5, 12, 9, 5), ("auto", 12, 9, 9), ("auto", None, 9, 9)],
)
def test_the_limit_is_the_least_of_task_model_and_tokenizer(
    wanted: int | str, positions: int | None, longest: float | None, limit: int, tmp_path: Path
) -> None:
    """As in training: a larger data.max_tokens does not make the model longer."""
    save_tokenizer(tmp_path, model_max_length=longest)
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": positions}))
    report = checked(build_task({"model": str(tmp_path), "data": {"train": ROWS, "max_tokens": wanted}}))
    assert report.tokens and report.tokens.limit == limit and len(report.tokens.overlong) == 300


def test_rows_that_cannot_be_rendered_are_named(tokenizer_dir: Path) -> None:
    bad = {"text": "injected", "label": "ham<|im_end|>"}
    report = check([*ROWS, bad], tokenizer_dir)
    assert report.ok and report.tokens and len(report.tokens.unusable) == 1
    (finding,) = [one for one in report.findings if one.rule == "not-rendered"]
    assert finding.severity == "review" and "1 row cannot be rendered" in finding.summary
    assert "line 301" in finding.hits[0].place and "special token" in finding.hits[0].evidence
    many = check([*ROWS, *({**bad, "text": f"t {k}"} for k in range(5))], tokenizer_dir)
    (problem,) = many.problems
    assert "5 rows cannot be rendered" in problem and "special token" in problem


def test_a_model_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        checked(build_task({"model": str(tmp_path / "missing"), "data": {"train": ROWS}}))


@pytest.mark.parametrize("rows", [ROWS[:1], []])
def test_too_little_is_an_error(rows: list[dict[str, Any]], tokenizer_dir: Path) -> None:
    with pytest.raises(DataError, match=r"Too few rows \(1\)|no rows"):
        check(rows, tokenizer_dir)


def test_few_rows_are_looked_at_all_the_same(tokenizer_dir: Path) -> None:
    report = check(ROWS[:6], tokenizer_dir)
    assert not report.ok and sum(map(len, report.data.sides.values())) == 6
    few = r"empty-side: Too few rows \(6\): they split into .*\nAdd more rows, or set data\."
    assert sum(bool(re.match(few, problem)) for problem in report.problems) == 1


def test_nothing_is_written_unless_asked(tmp_path: Path, tokenizer_dir: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    config = build_task({"data": {"train": str(source)}})
    checked(config, tokenizer_dir=tokenizer_dir)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    checked(config, tmp_path / "out", tokenizer_dir)
    written = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    assert written == ["check.json", "findings.jsonl", "rejected.jsonl", "report.html"]
    assert json.loads((tmp_path / "out/data/check.json").read_text())["ok"]


@pytest.mark.full  # tests/cli/test_cli_runs.py has the whole command in the gate
def test_no_torch(tmp_path: Path, tokenizer_dir: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    code = """
import sys
from pathlib import Path
from rich.console import Console
from finetooth.config.task import build_task
from finetooth.runs.check import check
from finetooth.runs.context import RunContext
early = {"sklearn", "scipy", "pandas"} & set(sys.modules)
assert not early, early
context = RunContext(build_task({"data": {"train": sys.argv[1]}}), Path("runs/none"), Console(quiet=True))
context.tokenizer_directory = Path(sys.argv[2])
report = check(context)
assert report.ok and report.tokens.rows == 300
heavy = {"torch", "transformers", "peft"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code, str(source), str(tokenizer_dir)], check=True)


def test_a_row_that_cutting_does_not_help_is_a_no_as_in_training(tokenizer_dir: Path) -> None:
    rows = [*ROWS, {"text": "short", "label": "ham " * 200}]
    report = check(rows, tokenizer_dir, max_tokens=100, overlong="cut")
    (problem,) = report.problems
    assert "1 row does not fit 100 tokens even without its context" in problem and "line 301" in problem
    assert check(rows, tokenizer_dir, max_tokens=100, overlong="drop").ok


def test_data_cannot_give_the_terminal_orders(tokenizer_dir: Path) -> None:
    """Planted: orders of a terminal in ids, labels, columns and reasons, with the old way to write ESC [."""
    order = "\x1b[2J\x9b2J"
    rows = [
        {"id": f"{order}{k}", "text": f"t {k} {order}", "label": f"ham{order}", f"x{order}": 1}
        for k in range(99)
    ]
    text = shown(check([*rows, {"id": order, "text": "a", "label": ""}], tokenizer_dir))
    assert "ham␛[2J" in text and not {"\x1b", "\x9b"} & set(text)


def test_plain_text_is_headed_by_the_token_that_its_rows_end_in(tmp_path: Path, tokenizer_dir: Path) -> None:
    rows = tmp_path / "texts.jsonl"
    rows.write_text("".join(json.dumps({"text": f"all of {n}"}) + "\n" for n in range(60)))
    report = check(str(rows), tokenizer_dir)
    assert report.tokens is not None
    assert report.tokens.template == "none, plain text"
    last = [sample.pieces[-1].text for sample in report.samples]
    assert last
    assert set(last) == {report.tokens.stop}
