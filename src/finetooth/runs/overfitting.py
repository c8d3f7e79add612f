"""Measures the overfitting of a run with its model: the score on rows that it was trained on, and its memory.

At most 200 training rows are asked, and as many validation rows. The sealed test is not opened.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.analysis import overfitting
from finetooth.analysis.overfitting import Continuation
from finetooth.data.examples import normalised_context
from finetooth.errors import ConfigError, DataError
from finetooth.evaluation import graders, ledger
from finetooth.evaluation.answer_text import answer_normaliser
from finetooth.evaluation.prompts import Prompt
from finetooth.evaluation.runner import evaluate, row_groups
from finetooth.evaluation.summary import TUNED
from finetooth.model.api import Model
from finetooth.report.console import answer_bars
from finetooth.rundir import read_jsonl, write_json
from finetooth.runs import inputs, workspace
from finetooth.runs.asking import candidate
from finetooth.runs.context import RunContext
from finetooth.tree import Row
from finetooth.types import Example, Sampling

RECORDS = "evaluate/validation/records.jsonl"


def measure(path: Path, console: Console, trust_code: bool = False) -> dict[str, Any]:
    """Measure a trained run's overfitting, and write RUN/errors/overfitting.json, whose content is returned.

    {"run", "words": [sentences], "gap": {train, validation, n_train, n_validation, difference, low, high,
    verdict, words} | None, "losses": {...} | None, "memory": {checked, memorised, control, rows, verdict,
    words ...} | None}. A part that does not apply is None, with the reason among the words.

    Raises ConfigError for a run that is not trained or was trained elsewhere.
    """
    context = RunContext.of_run(path, console)
    if context.task.tuned is not None:
        raise ConfigError(
            f"{path}: {context.task.tuned} was trained elsewhere, so the rows that it was trained on are not "
            "known and its overfitting cannot be measured."
        )
    if workspace.trained_path(path) is None:
        raise workspace.not_trained(path)
    inputs.require_trusted(path, "log --overfitting", trust_code)
    with workspace.occupied(path):
        drawn = random.Random(f"overfitting {context.task.seed}")
        train = _sample(context, context.prepared.train, drawn)
        validation = _sample(context, context.prepared.validation, drawn)
        gap, reason = _gap(context, train, validation)
        metrics = path / "train" / "metrics.jsonl"
        losses = overfitting.losses_of(read_jsonl(metrics)) if metrics.is_file() else None
        memory = _memory(context, train, validation)
        said = [gap.words() if gap is not None else reason, losses.words() if losses is not None else ""]
        said.append(memory.words())
        result = {
            "run": str(path),
            "words": [f"{words[0].upper()}{words[1:]}." for words in said if words],
            "gap": None if gap is None else {**asdict(gap), "verdict": gap.verdict, "words": gap.words()},
            "losses": None if losses is None else {**asdict(losses), "words": losses.words()},
            "memory": memory.to_json(),
        }
        write_json(path / overfitting.FILE, result)
    return result


def _sample(context: RunContext, rows: Sequence[Example], drawn: random.Random) -> list[Example]:
    """Rows that can be asked, at most as many as there are validation rows, and 200; in their order."""
    most = min(overfitting.MOST_ROWS, len(context.prepared.validation) or overfitting.MOST_ROWS)
    usable = []
    for index in drawn.sample(range(len(rows)), len(rows)):
        example = rows[index]
        with suppress(DataError):  # it was left out of the training too
            context.renderer.context_row(example.context, example.tools, context.renderer.thinks(example))
            usable.append(index)
        if len(usable) == most:
            break
    return [rows[index] for index in sorted(usable)]


def _gap(
    context: RunContext, train: Sequence[Example], validation: Sequence[Example]
) -> tuple[overfitting.Gap | None, str]:
    """The gap between the scores on both sides; None with the reason where there is none to measure."""
    task = context.task
    specs = graders.specs(task.evaluate.grader)
    if not specs:
        return None, "plain text has no expected answers, so there is no score to compare"
    if not (train and validation):
        return None, "there are no validation rows to compare the training rows with"
    settled = [graders.settled(specs[0], context.prepared.train)]
    name, grader = graders.resolve_all(
        settled, context.grading_format, Path.cwd(), task.evaluate.grader_seconds
    )[0]
    if name == graders.PREFERENCE:
        return None, "preferences have no score of an answer to compare"

    def scores(rows: Sequence[Example], side: str) -> dict[str, float | None]:
        with answer_bars(context.console, side) as progress:
            asked = candidate(context, name, context.tuned(), Prompt(TUNED))
            normalise = answer_normaliser(context.renderer)
            found = evaluate(rows, [asked], grader, name, side, progress=progress, normalise=normalise)
        return {record.id: record.score for record in found.records}

    known = _recorded(context.path)
    answered = [row for row in context.prepared.validation if row.id in known]
    theirs = known if answered else scores(validation, "validation rows")
    ours = scores(train, "training rows")
    sides = [
        [(row, value) for row in rows if (value := score[row.id]) is not None]
        for rows, score in ((train, ours), (answered or validation, theirs))
    ]
    if not all(sides):
        return None, "the grader failed on every row of a side"
    values = [[value for _, value in side] for side in sides]
    clusters = [row_groups([row for row, _ in side]) for side in sides]
    return overfitting.score_gap(values[0], values[1], clusters[0], clusters[1]), ""


def _recorded(path: Path) -> dict[str, float | None]:
    """The tuned model's scores on validation rows by their ids, {} where it was not evaluated."""
    if not (path / RECORDS).is_file():
        return {}
    ledger.require_unchanged(path, "validation")
    return {line["id"]: line["score"] for line in read_jsonl(path / RECORDS) if line["candidate"] == TUNED}


def _memory(
    context: RunContext, train: Sequence[Example], validation: Sequence[Example]
) -> overfitting.Memory:
    """Which answers the tuned model continues exactly and the base does not."""
    sides = [_split_answers(context, rows) for rows in (train, validation)]
    model = context.tuned()
    exact = [_exact(model, side) for side in sides]
    base = [[False] * len(side) for side in sides]
    repeated = [[at for at, found in enumerate(flags) if found] for flags in exact]
    if any(repeated):
        with context.base() as untuned:
            for side, chosen, flags in zip(sides, repeated, base, strict=True):
                for at, same in zip(chosen, _exact(untuned, [side[at] for at in chosen]), strict=True):
                    flags[at] = same
    answers = [
        (normalised_context(row), _answer_text(row))
        for row in (*context.prepared.train, *context.prepared.validation)
    ]
    found = [
        [
            Continuation(
                row.id,
                len(rest),
                by_tuned,
                by_base,
                by_tuned and _elsewhere(context, row, rest, answers),
                str(row.tags.get("file") or ""),
                row.tags.get("line"),
            )
            for (row, _, rest), by_tuned, by_base in zip(*columns, strict=True)
        ]
        for columns in zip(sides, exact, base, strict=True)
    ]
    return overfitting.memory_of(found[0], found[1])


Split = tuple[Example, list[int], list[int]]  # a row, the tokens up to half of its answer, those that follow


def _split_answers(context: RunContext, rows: Sequence[Example]) -> list[Split]:
    """The rows whose last answer is long enough, with its tokens in two halves."""
    found = []
    for example in rows:
        with suppress(DataError):
            pair = any(answer.role == "rejected" for answer in example.answers)
            row = context.renderer.pair(example)[0] if pair else context.renderer.rows(example)[-1]
            scored = [at for at, weight in enumerate(row.weight) if weight > 0]
            tokens = [int(token) for token in row.tokens]
            if scored and (parts := overfitting.halves(tokens[scored[0] : -1])) is not None:
                found.append((example, [*tokens[: scored[0]], *parts[0]], parts[1]))
    return found


def _exact(model: Model, side: Sequence[Split]) -> list[bool]:
    """Whether the model, decoding greedily, continues each answer exactly."""
    room = model.max_tokens - overfitting.MOST_TOKENS
    asked = [at for at, (_, given, _) in enumerate(side) if len(given) <= room]
    exact = [False] * len(side)
    if asked:
        contexts = [Row(given, [0.0] * len(given)) for _, given, _ in (side[at] for at in asked)]
        with model.eval_mode():
            for done in model.generate(contexts, Sampling(max_tokens=overfitting.MOST_TOKENS)):
                at = asked[done.row]
                exact[at] = overfitting.is_exact(side[at][2], done.tokens)
    return exact


def _elsewhere(
    context: RunContext, row: Example, rest: Sequence[int], answers: Sequence[tuple[str, str]]
) -> bool:
    """Whether a row with another prompt says the same, as boilerplate does.

    Tokens may end within a character: its bytes, which are decoded to U+FFFD, are left out at both ends.
    """
    text, own = context.tokenizer.decode(list(rest)).strip(" \t\r\n\ufffd"), normalised_context(row)
    return any(text in answer for asked, answer in answers if asked != own)


def _answer_text(row: Example) -> str:
    return "\n".join(answer.text for answer in row.answers if answer.role in ("target", "chosen"))
