"""Two runs on the rows that they share: their scores, the paired comparison, and the settings that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finetooth.config.task import Task
from finetooth.config.values import from_here
from finetooth.data.examples import content, read_examples
from finetooth.errors import ConfigError, GradeError
from finetooth.evaluation import form, ledger
from finetooth.evaluation.recipes import compare_recipes
from finetooth.evaluation.runner import row_groups
from finetooth.evaluation.statistics import compare
from finetooth.evaluation.summary import TUNED
from finetooth.rundir import read_json, read_jsonl
from finetooth.runs import stored_results, workspace
from finetooth.runs.replicates import replicates, scores_of
from finetooth.types import Example


@dataclass(frozen=True, slots=True)
class RunScores:
    """A run's result on one split. score_I: row id -> score of the tuned model; example_I: row id -> row.

    lenient_I: row id -> score when form is forgiven, of answers that have one. seeds: score_I of each seed of
    the recipe, this one first; empty for one seed, and on the sealed test, which no other seed sees.
    """

    path: Path
    summary: dict[str, Any]
    score_I: dict[str, float | None]
    example_I: dict[str, Example]
    lenient_I: dict[str, float]
    settings: dict[str, Any]
    seeds: list[dict[str, float | None]] = field(default_factory=list)


def read_scores(path: Path, split: str) -> RunScores:
    """A run's result on validation rows, or on those of its sealed test, which it has opened.

    Raises ConfigError for a run without records of a tuned model, DataError for a result that was edited,
    GradeError for records of rows that are not the run's.
    """
    ledger.require_unchanged(path, split)
    folder = path / "evaluate" / split
    summary = read_json(folder / "summary.json")
    if split == "test" and not (folder / stored_results.RECORDS).is_file():
        raise stored_results.no_records_error(path, ledger.digest_of_result(path, summary))
    records = [line for line in read_jsonl(folder / "records.jsonl") if line["candidate"] == TUNED]
    if not records:
        raise ConfigError(f"{path}: no {split} records of a tuned model. First: finetooth evaluate {path}")
    file = path / "data" / "validation.jsonl"
    examples = ledger.rows_of_result(path, summary) if split == "test" else read_examples(file)
    if examples is None:
        raise ConfigError(
            f"{path}: its ledger has no look with the result in evaluate/test. "
            f"First: finetooth evaluate {path} --sealed"
        )
    rows = {example.id: example for example in examples}
    score = {line["id"]: line["score"] for line in records}
    if unknown := score.keys() - rows.keys():
        raise GradeError(
            f"{path}: there are records of rows that are not in its data, such as {min(unknown)}."
        )
    lenient = {line["id"]: line["lenient"] for line in records if line.get("lenient") is not None}
    runs = replicates(path) if split == "validation" else []
    seeds = [scores_of(run) for run in runs] if len(runs) > 1 else []
    return RunScores(path, summary, score, rows, lenient, settings_of(path), seeds)


def paired(base: RunScores, other: RunScores) -> dict[str, Any]:
    """The paired comparison of two runs, the other minus the base, over the rows that both share."""
    both = [id for id in base.score_I if id in other.score_I]
    same = [id for id in both if content(base.example_I[id]) == content(other.example_I[id])]
    graders = {base.summary["grader"], other.summary["grader"]}
    names = f"{base.path} and {other.path}"
    if len(graders) > 1:
        raise GradeError(
            f"{names} were graded by {' and '.join(sorted(graders))}, so they cannot be compared."
        )
    if not same:
        changed = f"; {len(both)} ids occur in both, with different content" if both else ""
        raise GradeError(
            f"{names} share no row of the {base.summary['split']} split{changed}. "
            "Runs share rows when their data files, data.validation, data.test and seed agree."
        )
    pairs = [(id, base.score_I[id], other.score_I[id]) for id in same]
    kept = [(id, one, two) for id, one, two in pairs if one is not None and two is not None]
    if not kept:
        raise GradeError(f"{names}: the grader failed on every row that they share.")
    graded = [(one, two) for _, one, two in kept]
    groups = row_groups([base.example_I[id] for id, _, _ in kept])
    result = asdict(compare([one for one, _ in graded], [two for _, two in graded], groups))
    if base.lenient_I or other.lenient_I:
        first = [base.lenient_I.get(id, score) for id, score, _ in kept]
        second = [other.lenient_I.get(id, score) for id, _, score in kept]
        result = form.settle(result, asdict(compare(first, second, groups)))
    scores = [sum(column) / len(graded) for column in zip(*graded, strict=True)]
    left_out = {
        "only_in_baseline": len(base.score_I.keys() - other.score_I.keys()),
        "only_in_candidate": len(other.score_I.keys() - base.score_I.keys()),
        "other_content": len(both) - len(same),
        "not_graded": len(same) - len(graded),
    }
    if left_out["not_graded"]:
        result["verdict"] = "not proven"
    again = [one.summary["asked_again"] for one in (base, other) if "asked_again" in one.summary]
    totals = again and {key: sum(one[key] for one in again) for key in ("rows", "changed")}
    about = {
        "baseline": str(base.path),
        "candidate": str(other.path),
        "scores": scores,
        "asked_again": totals,
    }
    return {**about, **result, "left_out": left_out, "recipe": _recipes(base, other, same)}


def _recipes(base: RunScores, other: RunScores, same: Sequence[str]) -> dict[str, Any] | None:
    """The comparison of the recipes over all seeds and these rows; None where one of them has one seed."""
    if not (base.seeds and other.seeds):
        return None
    every = [*base.seeds, *other.seeds]
    graded = [id for id in same if all(scores.get(id) is not None for scores in every)]
    if not graded:
        return None
    first, second = ([[of[id] or 0.0 for id in graded] for of in one.seeds] for one in (base, other))
    result = compare_recipes(first, second, row_groups([base.example_I[id] for id in graded])).to_json()
    if len(graded) < len(same):
        result["verdict"] = "not proven"
    return result


def settings_of(path: Path) -> dict[str, Any]:
    """Every setting of a run by its dotted key, and what decides it beside them: the base's weights."""
    settings = flat_settings(workspace.load_config(path))
    settings["training rows"] = read_json(path / "data" / "split.json")["train"]
    return settings | {"base weights (sha256)": base_weights(path)}


def flat_settings(task: Task) -> dict[str, Any]:
    """Every setting of a run's task by its dotted key."""

    def walk(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in values.items():
            nested = isinstance(value, dict) and key != "columns"
            flat |= walk(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
        return flat

    return walk(task.model_dump(mode="json", exclude={"train"} if task.tuned is not None else None), "")


def base_weights(path: Path) -> str | None:
    """The first digits of the digest of a run's base model; None where it is not on record."""
    environment = path / "environment.json"
    digest = (read_json(environment).get("model") or {}).get("digest") if environment.is_file() else None
    return digest and str(digest)[:12]


def differences(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The settings that differ, key -> the value of each run, without the run's name."""
    keys = dict.fromkeys(key for each in settings for key in each)
    values = {key: [each.get(key) for each in settings] for key in keys if key != "name"}
    differing = {key: found for key, found in values.items() if any(value != found[0] for value in found)}
    return {key: [from_here(value) for value in found] for key, found in differing.items()}
