"""The part of a run's page on prompts beside fine-tuning: the ladder, what answers cost, both efforts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from finetooth.evaluation.graders import PERPLEXITY, PREFERENCE
from finetooth.evaluation.prompting.advice import break_even, recommend
from finetooth.evaluation.prompting.spec import made_for
from finetooth.evaluation.prompts import FROM_FILE
from finetooth.evaluation.summary import TUNED, is_prompting
from finetooth.evaluation.verdict_words import percent
from finetooth.report.settings import read_config
from finetooth.rundir import read_json, read_jsonl

LADDER = "baseline/baseline.json"  # in the run directory
TIMING = "timing.json"  # beside a summary: seconds of an answer by candidate
EQUAL = 1.1  # the most that one arm's count may exceed the other's


def prompting_part(
    run_path: Path, summary: Mapping[str, Any] | None, config: Mapping[str, Any], reasons: Mapping[str, str]
) -> dict[str, Any] | None:
    """What the page says of prompts; None where no answers of prompts are graded."""
    if summary is None or summary["grader"] in (PERPLEXITY, PREFERENCE) or not summary.get("comparison"):
        return None
    ladder = _ladder(run_path, summary, config)
    effort = efforts(run_path, ladder or {})
    return {
        "recommendation": recommend(summary, effort["training"]["computed_tokens"] or None).words,
        "skipped": "" if ladder is not None else _skipped(run_path, summary, config, reasons),
        "commands": [] if ladder is not None or config.get("start") else _commands(run_path, config),
        "ladder": ladder and _ladder_words(ladder),
        "timed": (run_path / "evaluate" / summary["split"] / TIMING).is_file(),
        "paid_back": _paid_back(run_path, summary, effort["training"]),
        "effort": effort_words(effort),
    }


def compared_efforts(run_path: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What each arm took before this comparison, see `efforts`."""
    config, _ = read_config(run_path / "config.yaml")
    return efforts(run_path, _ladder(run_path, summary, config) or {})


def efforts(run_path: Path, ladder: Mapping[str, Any]) -> dict[str, Any]:
    """What each arm took. answers: evaluations of held-out rows by which it chose, one row each time.

    Training chooses among its checkpoints by their loss on the validation rows, and by the answers to some
    of them; a row counts once for each checkpoint. ladder: baseline.json; {} where no prompt of a search is
    compared.
    """
    searched = ladder.get("effort", {})
    metrics, rows = run_path / "train" / "metrics.jsonl", run_path / "data" / "validation.jsonl"
    lines = [*read_jsonl(metrics)] if metrics.is_file() else []
    validations = sum("valid_loss" in line for line in lines)
    of_steps = [line for line in lines if "computed_tokens" in line]
    last = max((line["step"] for line in of_steps), default=0)
    scale = last / len(of_steps) if of_steps else 0.0  # train.log_every leaves steps out
    return {
        "prompts": {key: searched.get(key, 0) for key in ("answers", "computed_tokens", "seconds")},
        "training": {
            "answers": validations * (sum(1 for _ in read_jsonl(rows)) if rows.is_file() else 0),
            "computed_tokens": round(scale * sum(line["computed_tokens"] for line in of_steps)),
            "seconds": scale * sum(line.get("seconds") or 0.0 for line in of_steps),
        },
    }


def _ladder(
    run_path: Path, summary: Mapping[str, Any], config: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """baseline.json of the prompt that was compared; {} for a prompt whose search is not on record."""
    if not any(entry["name"] == FROM_FILE for entry in summary["candidates"]):
        return None
    given = (config.get("evaluate") or {}).get("prompt")
    file = Path(given).with_name("baseline.json") if given else run_path / LADDER
    found: Mapping[str, Any] = read_json(file) if file.is_file() else {}
    return found


def _ladder_words(ladder: Mapping[str, Any]) -> str:
    rows, effort, winner = ladder["rows"], ladder["effort"], ladder["winner"]
    words = (
        f"The prompt ladder compared {len(ladder['prompts'])} prompts of the base model by "
        f"{effort['answers']:,} answers to {rows['selection'] + rows['confirmation']} held-out rows. The "
        f"best is {winner['name']}"
    )
    if winner["confirmed"] is not None:
        words += f": {percent(winner['confirmed'])} on the {rows['confirmation']} rows of the finalists"
    scores = [*ladder["layouts"].values()]
    if len(scores) > 1:
        words += (
            f". The best of the pool in {len(scores)} equivalent layouts scores {percent(min(scores))} to "
            f"{percent(max(scores))}"
        )
    return f"{words}."


def _skipped(
    run_path: Path, summary: Mapping[str, Any], config: Mapping[str, Any], reasons: Mapping[str, str]
) -> str:
    """That no prompt of a search is compared, and why."""
    names = [entry["name"] for entry in summary["candidates"] if is_prompting(entry["name"])]
    if _has_search(run_path, config):
        return (
            "A prompt was searched for, but not before these rows were answered: “the best prompt” is the "
            f"best of {' and '.join(names)}. What was found can be compared on the validation rows."
        )
    why = reasons.get("evaluate.ladder", "").partition(": ")[2]
    if config.get("start"):
        why = "the run continues another one"
    elif not why:
        why = "the task leaves it out" if (config.get("evaluate") or {}).get("ladder") is False else ""
    return (
        f"The prompt ladder was skipped{f' ({why})' if why else ''}: “the best prompt” is the best of "
        f"{' and '.join(names)}, and a better one may exist."
    )


def _has_search(run_path: Path, config: Mapping[str, Any]) -> bool:
    """Whether a search for the run's own model, instruction and rows is beside it."""
    file, environment = run_path / LADDER, run_path / "environment.json"
    if not (file.is_file() and environment.is_file()):
        return False
    sides = (run_path / "data" / f"{side}.jsonl" for side in ("train", "validation"))
    ids = [str(row["id"]) for side in sides if side.is_file() for row in read_jsonl(side)]
    base = (read_json(environment).get("model") or {}).get("digest", "")
    found: object = read_json(file).get("made_for")
    return found == made_for(base, str(config.get("instruction", "")), ids)


def _commands(run_path: Path, config: Mapping[str, Any]) -> list[str]:
    run = quote(str(run_path))
    if _has_search(run_path, config):
        return [f"finetooth evaluate {run}"]
    search = f"finetooth baseline {quote(str(run_path / 'config.yaml'))} --out {run}"
    return [search, f"finetooth evaluate {run}"]


def _paid_back(run_path: Path, summary: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """After how many answers training is paid back by shorter answers; "" where training is not on record."""
    if not training["computed_tokens"]:
        return ""
    by_name = {entry["name"]: entry for entry in summary["candidates"]}
    base, tuned = by_name[summary["comparison"]["baseline"]], by_name[TUNED]
    used = [entry["prompt_tokens"] + entry["completion_tokens"] for entry in (base, tuned)]
    answers = break_even(training["computed_tokens"], *used)
    if answers is None:
        return (
            f"The tuned model's answers take no fewer tokens than those of the best prompt ({base['name']}), "
            "so training is never paid back by shorter prompts."
        )
    words = (
        f"Against the best prompt ({base['name']}) an answer saves {used[0] - used[1]:,.0f} tokens, so what "
        f"training computed is paid back after {answers:,} answers"
    )
    file = run_path / "evaluate" / summary["split"] / TIMING
    seconds = read_json(file) if file.is_file() else {}
    saved = seconds.get(base["name"], 0.0) - seconds.get(TUNED, 0.0)
    if saved > 0 and training["seconds"]:
        words += f", its seconds after {math.ceil(training['seconds'] / saved):,}"
    return f"{words}."


def effort_words(effort: Mapping[str, Any]) -> str:
    """What choosing took in either arm, and whether both chose by as many answers."""
    prompts, training = effort["prompts"], effort["training"]
    fewer, more = sorted((prompts["answers"], training["answers"]))
    equal = more == fewer or (fewer > 0 and more / fewer <= EQUAL)
    searched = (
        f"the prompt was chosen by {prompts['answers']:,} evaluations of held-out rows "
        f"({prompts['computed_tokens']:,} tokens computed)"
    )
    return (
        f"Effort: {searched if prompts['answers'] else 'no prompt was chosen on held-out rows'}, the "
        f"checkpoint by {training['answers']:,} evaluations ({training['computed_tokens']:,} tokens computed "
        f"in training): {'about equal' if equal else 'unequal'} effort in choosing."
    )
