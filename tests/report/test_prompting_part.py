"""What a run's page says of prompts: that no search was made, what answers cost, and both arms' effort."""

from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from made_up_run import made_up_run

from finetooth.evaluation.prompting.spec import made_for
from finetooth.report.evidence import Evidence
from finetooth.report.prompting_part import compared_efforts, prompting_part
from finetooth.report.run_page import score_table
from finetooth.rundir import append_jsonl, read_json, read_jsonl, write_json, write_jsonl, write_text


def page_of(run: Path) -> str:
    assert invoke(["report", str(run)]) == 0
    return (run / "report.html").read_text("utf-8")


def part(run: Path) -> dict[str, Any]:
    found = prompting_part(run, read_json(run / "evaluate" / "summary.json"), {}, {})
    assert found is not None
    return found


def test_page_one_says_that_no_prompt_was_searched_for_and_how_to_search(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run")
    config = (run / "config.yaml").read_text("utf-8")
    write_text(
        run / "config.yaml", config + "#   evaluate.ladder: False: it would compute 40% of the training\n"
    )
    page = page_of(run)
    head = page[: page.index("What to do next")]
    assert "The prompt ladder was skipped (it would compute 40% of the training)" in head
    assert "is the best of zero-shot and few-shot-4" in head
    assert f"finetooth baseline {run}/config.yaml --out {run}" in head and f"finetooth evaluate {run}" in head


@pytest.mark.parametrize(
    ("answers", "words"), [(480, "about equal effort"), (440, "about equal effort"), (430, "unequal effort")]
)
def test_unequal_efforts_are_called_unequal(tmp_path: Path, answers: int, words: str) -> None:
    run = made_up_run(tmp_path / "run")
    write_jsonl(
        run / "train" / "metrics.jsonl",
        [
            {"step": 2, "computed_tokens": 100, "seconds": 0.5},
            {"step": 2, "valid_loss": 1.0},
            {"step": 4, "computed_tokens": 300, "seconds": 0.5},
            {"step": 4, "valid_loss": 0.5},
        ],
    )
    summary = read_json(run / "evaluate" / "summary.json")
    summary["candidates"][2]["name"] = "prompt"
    effort = {"answers": answers, "computed_tokens": 9_000, "seconds": 3.0}
    entry = {"name": "4 bm25", "confirmed": 0.5}
    ladder = {"effort": effort, "rows": {"selection": 20, "confirmation": 20}, "winner": entry}
    write_json(run / "baseline" / "baseline.json", ladder | {"prompts": [entry], "layouts": {}})
    found = compared_efforts(run, summary)
    assert found["prompts"] == effort
    # Two validations of 240 rows; half of the steps are on record.
    assert found["training"] == {"answers": 480, "computed_tokens": 800, "seconds": 2.0}
    shown = prompting_part(run, summary, {}, {})
    assert shown is not None and words in shown["effort"] and not shown["skipped"]
    assert "The best is 4 bm25: 50.0% on the 20 rows of the finalists." in shown["ladder"]


def test_a_search_after_the_comparison_is_neither_skipped_nor_counted(tmp_path: Path) -> None:
    """The prompt was found when the rows had been answered, so that it is not among what is compared."""
    run = made_up_run(tmp_path / "run")
    effort = {"answers": 300, "computed_tokens": 9_000, "seconds": 3.0}
    write_json(run / "baseline" / "baseline.json", {"effort": effort, "made_for": {}})
    assert "was skipped" in part(run)["skipped"] and len(part(run)["commands"]) == 2  # it is of another task
    sides = [read_jsonl(run / "data" / f"{side}.jsonl") for side in ("train", "validation")]
    own = made_for("", "", [row["id"] for side in sides for row in side])
    write_json(run / "baseline" / "baseline.json", {"effort": effort, "made_for": own})
    shown = part(run)
    assert "skipped" not in shown["skipped"] and "not before these rows were answered" in shown["skipped"]
    assert shown["commands"] == [f"finetooth evaluate {run}"]
    assert "no prompt was chosen on held-out rows" in shown["effort"]
    summary = read_json(run / "evaluate" / "summary.json")
    assert compared_efforts(run, summary)["prompts"]["answers"] == 0


def test_training_is_paid_back_in_tokens_and_seconds_or_never(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run")
    assert part(run)["paid_back"] == ""  # no tokens of the training are on record
    append_jsonl(run / "train" / "metrics.jsonl", [{"step": 1, "computed_tokens": 1_900, "seconds": 60.0}])
    write_json(run / "evaluate" / "test" / "timing.json", {"few-shot-4": 0.5, "tuned": 0.2})
    words = part(run)["paid_back"]
    assert "saves 190 tokens" in words and "paid back after 30 answers" in words  # 3 * 1,900 / 190
    assert "its seconds after 200" in words
    table = score_table(read_json(run / "evaluate" / "summary.json"), Evidence.read(run))
    costs = {one["candidate"]: one["seconds"] for one in table["rows"] if one["kind"] != "baseline"}
    assert costs == {"zero-shot": None, "few-shot-4": 0.5, "tuned": 0.2}
    summary = read_json(run / "evaluate" / "summary.json")
    for entry in summary["candidates"]:
        entry["prompt_tokens"] = 23.0
    shown = prompting_part(run, summary, {}, {})
    assert shown is not None and "never paid back" in shown["paid_back"]


def test_prices_are_of_the_logged_tokens(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run")
    config = (run / "config.yaml").read_text("utf-8")
    priced = config.replace("evaluate:", "evaluate:\n  price_in: 2.0\n  price_out: 8.0")
    write_text(run / "config.yaml", priced)
    table = score_table(read_json(run / "evaluate" / "summary.json"), Evidence.read(run))
    assert [one["price"] for one in table["rows"] if one["kind"] != "baseline"] == [
        pytest.approx((2.0 * tokens + 8.0 * 4) / 1e3) for tokens in (64, 213, 23)
    ]


def test_what_an_answer_costs_is_on_the_page_once(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run")
    page = page_of(run)
    details = page[page.index("Prompt, weights, or both?") :]
    assert page.count("213.0") == 2, "on the sealed test, and on the validation rows"
    assert "<table" not in details[: details.index("Training")]


def test_nothing_is_said_where_no_answers_are_graded() -> None:
    assert prompting_part(Path("run"), None, {}, {}) is None
    assert prompting_part(Path("run"), {"grader": "perplexity", "comparison": {}}, {}, {}) is None
