"""How robust a run is: the tuned model and the best prompt on perturbed validation rows.

The result is evaluate/robustness.json. The sealed test is never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from finetooth.commands.evaluate import evaluate_rows, prompting_candidates, require_evaluable, sample_rows
from finetooth.config.load import load_task
from finetooth.errors import ConfigError
from finetooth.evaluation import graders
from finetooth.evaluation.candidates import Candidate, ModelCandidate
from finetooth.evaluation.perturbations import robustness as numbers
from finetooth.evaluation.perturbations.kept import Kept
from finetooth.evaluation.perturbations.kinds import KINDS, Perturbed, added_rows, perturbed
from finetooth.evaluation.perturbations.robustness import (
    ADDITION,
    ALL_KINDS,
    FILE,
    OUT_OF_SCOPE,
    Answer,
    Pair,
)
from finetooth.evaluation.prompts import FROM_FILE, ZERO_SHOT
from finetooth.evaluation.retention import read_panel
from finetooth.evaluation.runner import Evaluation, row_groups
from finetooth.evaluation.summary import TUNED
from finetooth.evaluation.verdict_words import percent, points
from finetooth.rundir import read_json, read_jsonl, sha256_file, write_json
from finetooth.runs import asking, best_prompt, confidence, inputs, workspace
from finetooth.runs.asking import listed_labels, primary_grader, task_prompt
from finetooth.runs.base_ranking import askable
from finetooth.runs.context import RunContext
from finetooth.types import Example, Message

AS_IS = "as it is"
UNGRADED = (graders.PERPLEXITY, graders.PREFERENCE)  # graders of likelihoods: there are no answers to change


@dataclass(frozen=True, slots=True)
class RobustnessReport:
    """What evaluate/robustness.json holds."""

    path: Path
    found: dict[str, Any]
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The run's path and the numbers."""
        return {"run": str(self.path), **self.found}

    def print(self, console: Console) -> None:
        """A table for each candidate, then rows out of scope."""
        for one in self.found["candidates"]:
            table = Table(title=one["name"], title_justify="left", box=None, padding=(0, 2, 0, 0))
            for name in ("perturbation", "rows", "score", "perturbed", "difference", "95% CI", "flipped"):
                table.add_column(name, justify="left" if name == "perturbation" else "right")
            for kind in one["kinds"]:
                if kind["difference"] is None:
                    continue
                scores = percent(kind["before"]), percent(kind["after"]), points(kind["difference"])
                bounds = f"{points(kind['low'])} to {points(kind['high'])}"
                flips = percent(kind["flipped"]["share"])
                table.add_row(kind["kind"], f"{kind['rows']:,}", *scores, bounds, flips)
            console.print(table)
        if scope := self.found.get("out_of_scope"):
            handed = scope["handed_over"]
            console.print(
                f"{OUT_OF_SCOPE}: {handed['rows']} of {scope['rows']} rows are below the confidence "
                f"{percent(scope['threshold'])}",
                highlight=False,
            )


def run(path: Path, kinds: Any, console: Console, trust_code: bool = False) -> RobustnessReport:
    """Measure a finished run. kinds: as the key evaluate.perturbations. Raises FinetoothError."""
    inputs.require_trusted(path, "evaluate", trust_code)
    context = RunContext.of_run(path, console)
    inputs.require_kinds_unchanged(context.task, path, "model")
    wanted = load_task(context.task, {"evaluate.perturbations": kinds}).evaluate.perturbations
    require_evaluable(context)
    if primary_grader(context) in UNGRADED:
        raise ConfigError(f"{path} is graded by {primary_grader(context)}, which has no answers to change.")
    if not context.prepared.validation:
        raise ConfigError(f"{path} has no validation rows, which are the ones that are perturbed.")
    with workspace.occupied(path):
        return RobustnessReport(path, _measured(context, _kinds(wanted)))


def ensure_measured(context: RunContext) -> None:
    """Measure the run where its task asks for it, and it has answers of validation rows to change."""
    kinds = _kinds(context.task.evaluate.perturbations)
    if kinds and context.prepared.validation and primary_grader(context) not in UNGRADED:
        RobustnessReport(context.path, _measured(context, kinds)).print(context.console)


def _kinds(wanted: Sequence[str] | bool) -> list[str]:
    if isinstance(wanted, bool):
        return [*ALL_KINDS] if wanted else []
    return [kind for kind in ALL_KINDS if kind in wanted]


def _measured(context: RunContext, kinds: Sequence[str]) -> dict[str, Any]:
    """The numbers; those on record where nothing that decides them is another."""
    tuned, file = context.tuned(), context.path / FILE
    summary = context.path / "evaluate" / "validation" / "summary.json"
    comparison = (read_json(summary) if summary.is_file() else {}).get("comparison") or {}
    rows = sample_rows(context.prepared.validation, context.task)
    asked: dict[str, Any] = {"tuned": tuned.digest(), "prompt": comparison.get("baseline")}
    if asked["prompt"] == FROM_FILE and (prompt_file := best_prompt.prompt_file(context)) is not None:
        asked["prompt_file"] = sha256_file(prompt_file)
    specs = graders.specs(context.task.evaluate.grader)
    code = [graders.grader_digest(spec, Path.cwd()) for spec in specs]
    asked |= {"asked": [*kinds], "rows": len(rows), "seed": context.task.seed, "graders": code}
    known = read_json(file) if file.is_file() else {}
    if asked.items() <= known.items():
        return known
    result = asked | _measure(context, rows, kinds, asked["prompt"])
    write_json(file, result)
    return result


def _measure(
    context: RunContext, rows: Sequence[Example], kinds: Sequence[str], prompt: str | None
) -> dict[str, Any]:
    grader, how = primary_grader(context), asking.of_run(context, context.tuned())
    of_labels = {ADDITION, OUT_OF_SCOPE} & {*kinds}
    if of_labels and not how.labels:
        context.console.print(
            f"robustness: {' and '.join(sorted(of_labels))}: only for runs that choose labels"
        )
    tuned = replace(how.candidate, distribution=bool(of_labels))
    labels, _ = listed_labels(context, grader)
    kept, seed = Kept.of([*context.prepared.train, *rows], labels), context.task.seed
    changed: dict[str, list[Perturbed]] = {
        kind: [one for row in rows if (one := perturbed(row, kind, seed, kept))]
        for kind in kinds
        if kind in KINDS
    }
    if ADDITION in kinds and how.labels:
        changed[ADDITION] = added_rows(rows, context.prepared.train, seed, kept)
    every = [replace(row, id=f"{AS_IS} {row.id}") for row in rows]
    every += [
        replace(how.cleaned(one.example), id=f"{kind} {one.example.id}")
        for kind, those in changed.items()
        for one in those
    ]
    every = _that_fit(context, tuned, every)
    candidates = _candidates(context, grader, prompt, tuned)
    result = evaluate_rows(context, every, "robustness", None, given_candidates=candidates)
    temperature = confidence.of_run(context.path).temperature
    found: dict[str, Any] = {"grader": result.summary["grader"], "candidates": []}
    for name in dict.fromkeys(line.candidate for line in result.records):
        given = _answers(result, name)
        pairs = {kind: _pairs(kind, rows, those, given) for kind, those in changed.items()}
        parts = [
            numbers.directed(those, temperature, len(pairs))
            if kind == ADDITION
            else numbers.compare_pairs(kind, those, len(pairs))
            for kind, those in pairs.items()
        ]
        found["candidates"].append({"name": name, "kinds": parts})
    given = _answers(result, TUNED)
    found["again"] = _again(context.path, rows, given)
    if OUT_OF_SCOPE in kinds and how.labels:
        foreign = _that_fit(context, tuned, [how.example(row) for row in _foreign_rows()])
        sides = (
            [given[id].logprobs for row in rows if (id := f"{AS_IS} {row.id}") in given],
            [one.logprobs for one in tuned.predict(foreign)],
        )
        own, others = (
            [share for one in side if (share := numbers.probability(one, None, temperature)) is not None]
            for side in sides
        )
        found["out_of_scope"] = numbers.out_of_scope(own, others, how.unsure_below)
    return found


def _that_fit(context: RunContext, tuned: ModelCandidate, rows: Sequence[Example]) -> list[Example]:
    """The rows that can be asked: a perturbed one may be too long for the model. Others are counted."""
    asked, notes = askable(tuned, rows)
    for note in notes:
        context.console.print(f"robustness: {note}", markup=False, highlight=False, soft_wrap=True)
    return [rows[row] for row in asked]


def _candidates(
    context: RunContext, grader: str, prompt: str | None, tuned: ModelCandidate
) -> Iterator[Candidate]:
    """The strongest prompt on the validation rows, then the tuned model."""
    if prompt == FROM_FILE:
        yield from prompting_candidates(context, grader, task_prompt(context), shots=())
    elif prompt is not None:
        shots = 0 if prompt == ZERO_SHOT else int(prompt.rpartition("-")[2])
        yield from prompting_candidates(context, grader, shots=(shots,))
    yield tuned


def _answers(result: Evaluation, name: str) -> dict[str, Answer]:
    """A candidate's answers by the id of the row."""
    lines = [line for line in result.records if line.candidate == name]
    logprobs: Sequence[Mapping[str, float] | None] = result.logprobs.get(name) or [None] * len(lines)
    return {
        line.id: Answer(line.got or line.text, line.score, logp)
        for line, logp in zip(lines, logprobs, strict=True)
    }


def _pairs(
    kind: str, rows: Sequence[Example], changed: Sequence[Perturbed], given: dict[str, Answer]
) -> list[Pair]:
    """The rows of which both forms were answered: one that cannot be rendered is left out."""
    groups = row_groups(rows) or [row.id for row in rows]
    group_of = dict(zip((row.id for row in rows), groups, strict=True))
    own = {row.id: row for row in rows}
    return [
        Pair(own[id], one, given[f"{AS_IS} {id}"], given[f"{kind} {id}"], group_of[id])
        for one in changed
        if f"{AS_IS} {(id := one.example.id)}" in given and f"{kind} {id}" in given
    ]


def _again(path: Path, rows: Sequence[Example], given: dict[str, Answer]) -> dict[str, int] | None:
    """How many answers of the tuned model differ from those on record, to the same rows: 0 is expected."""
    records = path / "evaluate" / "validation" / "records.jsonl"
    if not records.is_file():
        return None
    known = {line["id"]: line for line in read_jsonl(records) if line["candidate"] == TUNED}
    both = [
        (known[row.id]["got"] or known[row.id]["text"], given[f"{AS_IS} {row.id}"].text)
        for row in rows
        if row.id in known and f"{AS_IS} {row.id}" in given
    ]
    return {"rows": len(both), "flipped": sum(one != other for one, other in both)}


def _foreign_rows() -> list[Example]:
    """Questions and prose that are no business of most tasks: those of the panel of retention."""
    panel = read_panel()
    texts = [*(beginning for beginning, *_ in panel.requests), *panel.texts]
    return [Example(f"{OUT_OF_SCOPE} {at}", (Message("user", text),), ()) for at, text in enumerate(texts, 1)]
