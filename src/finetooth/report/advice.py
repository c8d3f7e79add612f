"""What to do next with a run, on its page: sentences, each with the command to type if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from finetooth.evaluation.statistics import MIN_ROWS
from finetooth.evaluation.summary import BAG_OF_WORDS

Step = tuple[str, str]  # what to do, and the command, "" without one
GOOD_TEST = 200  # rows of a test that tells differences of ten points apart


def next_steps(
    run_path: Path,
    summary: Mapping[str, Any] | None,
    method: str = "sft",
    wrong: int = 0,
    source: str = "",
    saved_bag: bool = False,
    gradable: bool = True,
) -> list[Step]:
    """At most five steps, the most useful first.

    wrong: validation rows that the tuned model gets wrong. source: the training data. saved_bag: whether the
    run keeps its bag of words, so that it can answer rows. gradable: whether the task has a grader.
    """
    run = quote(str(run_path))
    if summary is None:
        if not (run_path / "train" / "result.json").is_file():
            return [("Finish the training:", f"finetooth train {run}")]
        if not gradable:
            return [("Nothing to grade here. Try the model:", f"finetooth chat {run}")]
        return [("Measure the model against prompts:", f"finetooth evaluate {run}")]
    comparison = summary.get("comparison") or {}
    verdict, units = comparison.get("verdict"), comparison.get("units", 0)
    simple = (summary.get("simple_baselines") or {}).get(BAG_OF_WORDS)
    steps: list[Step] = []
    if simple is not None and saved_bag and simple["difference"] <= 0 and verdict != "worse":
        found = "do better" if simple["verdict"] == "worse" else "score no lower, though not proven better,"
        steps.append(
            (
                f"Word counts {found} and need no language model. Let them answer the rows of a file:",
                f"finetooth predict {run} FILE --candidate {BAG_OF_WORDS}",
            )
        )
    if method == "reward_model":
        return [*steps, *_improve(summary, verdict, units, wrong, source, run)]
    if verdict == "worse":
        return [
            ("Do not use this model: the prompt does better.", ""),
            *_improve(summary, verdict, units, wrong, source, run),
        ]
    instead = "Or let the tuned model" if steps else "Let the model"
    if verdict == "not proven":
        instead = "Try the model, with a person who checks its answers: let it"
    withdrawn = comparison.get("withdrawn", False)
    if summary["split"] != "test" and (verdict == "better" or withdrawn):
        confirm = "When no iteration is left, look" if withdrawn else "Confirm the result, once,"
        steps.append((f"{confirm} at the sealed test:", f"finetooth evaluate {run} --sealed"))
    steps.append(
        (f"{instead} answer the rows of a file (CSV, Excel, JSON):", f"finetooth predict {run} FILE")
    )
    steps.append(("Paste single texts and see the answers:", f"finetooth chat {run}"))
    return [*steps, *_improve(summary, "better" if withdrawn else verdict, units, wrong, source, run)]


def _improve(
    summary: Mapping[str, Any], verdict: str | None, units: int, wrong: int, source: str, run: str
) -> list[Step]:
    """What would make the result surer, or better."""
    steps: list[Step] = []
    rows = "clusters of rows" if "groups" in summary else "rows"
    into = f" to {source}" if source else ""
    if verdict == "not proven" and units < MIN_ROWS:
        steps.append(
            (
                f"Add examples{into} and run again: the test has {units:,} {rows}, a verdict needs "
                f"{MIN_ROWS}, and with {GOOD_TEST} it can tell smaller differences apart.",
                "",
            )
        )
    elif verdict == "not proven":
        steps.append(
            (
                f"Add examples{into} and run again: with {units:,} {rows} a difference below "
                f"{100 * summary['comparison']['mde']:.0f} points is hard to see.",
                "",
            )
        )
    if wrong:
        steps.append(
            (
                f"Find out what is wrong with the {wrong:,} {'answer' if wrong == 1 else 'answers'} below "
                "without full marks, and which rows would help most:",
                f"finetooth errors {run}",
            )
        )
    return steps
