"""The analysis of a run's errors, RUN/errors/errors.json: from what is on record, without a training.

Validation rows alone; rows of the sealed test are never read here. The model is loaded only for tags that
are given by examples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from finetooth.analysis.annotations import FOLDER
from finetooth.analysis.answered import AnsweredRow, answered_rows
from finetooth.analysis.clusters import clusters
from finetooth.analysis.confusions import confused_pairs, confusion_tags
from finetooth.analysis.flips import flips
from finetooth.analysis.issues import FIXED, REGRESSED, Iteration, issues
from finetooth.analysis.tags import TAGS, Evidence, TagContext, tag_rows
from finetooth.analysis.tags.consistency import INCONSISTENT, inconsistent
from finetooth.analysis.tags.custom import CustomTags, similar_rows
from finetooth.data.examples import read_examples
from finetooth.errors import ConfigError
from finetooth.evaluation import graders, ledger
from finetooth.evaluation.runner import row_groups
from finetooth.evaluation.slices import Mask, conditions_by_kind, weak_slices
from finetooth.quality.findings import Embed, View, question
from finetooth.quality.label_audit import LabelAudit, audit_labels
from finetooth.rundir import read_json, read_jsonl
from finetooth.runs import lineage, user_tags, workspace
from finetooth.types import Example

CONSISTENCY = f"{FOLDER}/consistency.json"  # further answers to the same questions
VALIDATION = "evaluate/validation"
UNREAD = (graders.PERPLEXITY, graders.PREFERENCE)  # graders of likelihoods: there are no answers to look at
OF_FORM = ("repetition", "too-long", "cut-off", "no-stop-token", "broken-format", "misspelling")
WRONG = "wrong answer"  # the issue of all wrong rows, whatever their tags
MOST_BEFORE = 8  # earlier iterations that an issue is followed through

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunAnswers:
    """The tuned model's answers to a run's validation rows, and the rows that it was trained on.

    others: further answers to the same questions, by the row's id, where the model was asked again.
    """

    path: Path
    rows: list[AnsweredRow]
    train: list[Example]
    summary: Mapping[str, Any]
    labels: tuple[str, ...]
    grader: Any
    custom: CustomTags = field(default_factory=CustomTags)
    others: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def labelled(self) -> bool:
        """Whether its answers are graded as labels, one to a row."""
        return graders.without_options(str(self.summary["grader"])) == "label"


def read_answers(path: Path, tags: Path | None = None, custom: CustomTags | None = None) -> RunAnswers:
    """What is on record of a run. tags: a file of the user's own, by default the one that the run has.

    custom: tags that are read already; the run's own, which may be code, are then not opened. Raises
    ConfigError for a run that is not evaluated on validation rows, or has no answers to read.
    """
    task = workspace.load_config(path)
    file = path / VALIDATION / "summary.json"
    if not file.is_file():
        raise ConfigError(
            f"{path} has no answers to validation rows yet, and errors are looked for in these alone. "
            f"First: finetooth evaluate {path}"
        )
    ledger.require_unchanged(path, "validation")
    summary = read_json(file)
    if graders.without_options(str(summary["grader"])) in UNREAD:
        raise ConfigError(f"{path} is graded by {summary['grader']}: it has no answers that could be read.")
    examples = read_examples(path / "data" / "validation.jsonl")
    rows = list(answered_rows(examples, read_jsonl(path / VALIDATION / "records.jsonl")))
    if not rows:
        raise ConfigError(f"{path} has no answers of a tuned model. First: finetooth evaluate {path}")
    train = list(read_examples(path / "data" / "train.jsonl"))
    labels = tuple(read_json(path / "data" / "split.json")["labels"])
    custom = user_tags.of_run(path, tags) if custom is None else custom
    return RunAnswers(
        path,
        rows,
        train,
        summary,
        labels,
        task.evaluate.grader,
        custom,
        further_answers(path, rows),
    )


def further_answers(path: Path, rows: Sequence[AnsweredRow]) -> Mapping[str, list[str]]:
    """Row id -> answers to the same question asked again (runs/consistency.py); {} where it was not, or where
    the answers to which they were further ones are not those of `rows`.
    """
    file = path / CONSISTENCY
    known = read_json(file) if file.is_file() else {}
    return dict(known["answers"]) if known.get("beside") == answers_digest(rows) else {}


def answers_digest(rows: Sequence[AnsweredRow]) -> str:
    """The sha256 of all answers, by their rows' ids."""
    texts = json.dumps(sorted((row.id, row.text) for row in rows))
    return hashlib.sha256(texts.encode()).hexdigest()


def tagger(run: RunAnswers, embed: Embed | None = None) -> Callable[[RunAnswers], list[dict[str, Evidence]]]:
    """What gives each row of some answers its tags by name: finetooth's, the user's, and for labels which one
    was taken for which.

    All is judged by the training rows, the labels and the grader of `run`, so that the same answer has the
    same tags in every iteration that is compared with it. embed: hidden states of texts, for tags that are
    given by examples; without it these are left out.
    """
    context = TagContext.of(run.train, run.labels if run.labelled else (), run.grader)
    return lambda answers: _tags(answers, run, context, embed)


def _tags(
    answers: RunAnswers, run: RunAnswers, context: TagContext, embed: Embed | None
) -> list[dict[str, Evidence]]:
    custom = run.custom
    again = [inconsistent(answers.others)] if answers.others else []
    with user_tags.way_out(run.path):
        found = tag_rows(answers.rows, context, [*again, *custom.tags])
    if run.labelled:
        for tags, confused in zip(found, confusion_tags(answers.rows, run.labels), strict=True):
            tags |= {name: Evidence(words) for name, words in confused.items()}
    if custom.by_example and embed is not None:
        ids = [row.id for row in answers.rows]
        vectors_RD = embed([f"{question(row.example)}\n{row.text}" for row in answers.rows])
        for tag in custom.by_example:
            by_id = similar_rows(tag, ids, vectors_RD)
            for id, tags in zip(ids, found, strict=True):
                tags |= {tag.name: by_id[id]} if id in by_id else {}
    return found


def analyse(
    answers: RunAnswers,
    before: Sequence[RunAnswers] = (),
    embed: Embed | None = None,
    training: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The analysis, as errors.json has it. before: earlier iterations, the oldest first.

    embed: see `tagger`. training: training rows to check, by default those that the label audit doubts.
    """
    rows = answers.rows
    tags_of = tagger(answers, embed)
    tags_R = tags_of(answers)
    last = before[-1] if before else None
    history = [*(_iteration(one, tags_of(one)) for one in before), _iteration(answers, tags_R)]
    kinds = _kinds(answers.custom, tags_R)
    known = conditions_by_kind([row.example for row in rows])
    by_slice = {name: {rows[at].id for at in np.flatnonzero(mask)} for (_, name), mask in known.items()}
    again = answers.summary.get("asked_again")
    titles = {name: title for name, (title, _) in kinds.items()}
    found = issues(history, by_slice, OF_FORM, again, titles)
    found.sort(key=lambda one: one.state not in (FIXED, REGRESSED))  # what is proven comes first
    groups = clusters(rows)
    cluster_of = {id: number for number, one in enumerate(groups) for id in one.ids}
    flipped = None if last is None else flips(last.rows, rows)
    kind = {} if flipped is None else flipped.kind
    old = {} if last is None else {row.id: row for row in last.rows}
    audit = _audit(answers)
    return {
        "run": str(answers.path),
        "against": None if last is None else str(last.path),
        "n": len(rows),
        "wrong": sum(row.wrong for row in rows),
        "grader": str(answers.summary["grader"]),
        "rows": [
            _row(row, tags, cluster_of.get(row.id), old.get(row.id), kind.get(row.id))
            for row, tags in zip(rows, tags_R, strict=True)
        ],
        "tags": list(_counts(rows, tags_R, kinds)),
        "issues": [asdict(one) for one in found],
        "clusters": [asdict(one) | {"rows": one.rows} for one in groups],
        "confusions": [asdict(one) for one in _confused(answers, audit)],
        "slices": _slices(rows, known),
        "training": list(_doubted(answers, audit) if training is None else training),
        "flips": None if flipped is None else flipped.counts,
        "left_out": None if flipped is None else flipped.left_out,
        "asked_again": again,
    }


def _iteration(answers: RunAnswers, tags_R: Sequence[Mapping[str, Evidence]]) -> Iteration:
    """The rows with their tags; being wrong at all is an issue too, in all rows and in slices."""
    tags = [{*tags, *[WRONG] * row.wrong} for row, tags in zip(answers.rows, tags_R, strict=True)]
    return Iteration(answers.rows, tags, {INCONSISTENT: frozenset(answers.others)})


def earlier(path: Path, against: Path) -> list[Path]:
    """The iterations before a run: `against` last, before it the runs that it was made from, oldest first."""
    chain, seen = [against], {path.resolve(), against.resolve()}
    while len(chain) < MOST_BEFORE and (parent := lineage.parent_of(chain[0])) is not None:
        if parent.resolve() in seen:
            break
        seen.add(parent.resolve())
        chain.insert(0, parent)
    return chain


def _kinds(custom: CustomTags, tags_R: Sequence[Mapping[str, Evidence]]) -> dict[str, tuple[str, str]]:
    """(title, what it looks for) of each tag by its name; those that say what was taken for what are last."""
    known: list[Any] = [*TAGS, *custom.tags, *custom.by_example]
    known += [inconsistent({})] * any(INCONSISTENT in tags for tags in tags_R)
    kinds = {tag.name: (tag.title, tag.about) for tag in known}
    confused = dict.fromkeys(name for tags in tags_R for name in tags if name not in kinds)
    return kinds | {name: (name, "") for name in confused}


def _counts(
    rows: Sequence[AnsweredRow],
    tags_R: Sequence[Mapping[str, Evidence]],
    kinds: Mapping[str, tuple[str, str]],
) -> Iterator[dict[str, Any]]:
    for name, (title, about) in kinds.items():
        tagged = [row for row, tags in zip(rows, tags_R, strict=True) if name in tags]
        wrong = sum(row.wrong for row in tagged)
        yield {"tag": name, "title": title, "about": about, "rows": len(tagged), "wrong": wrong}


def _row(
    row: AnsweredRow,
    tags: Mapping[str, Evidence],
    cluster: int | None,
    old: AnsweredRow | None,
    flip: str | None,
) -> dict[str, Any]:
    place = row.example.tags
    return {
        "id": row.id,
        "question": question(row.example),
        "want": row.want or row.example.target,
        "text": row.text,
        "score": row.score,
        "wrong": row.wrong,
        "stop": row.stop,
        "confidence": row.confidence,
        "file": str(place.get("file", "")),
        "line": place.get("line"),
        "before": {"text": old.text, "score": old.score} if old is not None and flip is not None else None,
        "flip": flip,
        "tags": [{"tag": name, **asdict(one)} for name, one in tags.items()],
        "cluster": cluster,
    }


def _slices(rows: Sequence[AnsweredRow], known: Mapping[tuple[str, str], Mask]) -> dict[str, Any]:
    graded_R = np.array([row.score is not None for row in rows])
    graded = [row for row in rows if row.score is not None]
    examples = [row.example for row in graded]
    known = {condition: mask[graded_R] for condition, mask in known.items()}
    groups = row_groups(examples)
    found = weak_slices(examples, [row.score or 0.0 for row in graded], groups, known)
    mask_of = {words: mask for (_, words), mask in known.items()}
    listed = []
    for one in found.found:
        mask = np.logical_and.reduce([mask_of[words] for words in one.conditions])
        listed.append(asdict(one) | {"ids": [graded[at].id for at in np.flatnonzero(mask)]})
    units = len(graded) if groups is None else len(set(groups))
    return {"tested": found.tested, "found": listed, "units": units}


def _audit(answers: RunAnswers) -> LabelAudit | str:
    if not answers.labelled:
        return "answers are no labels"
    task = workspace.load_config(answers.path)
    return audit_labels(View({"train": answers.train}, "labels", task.data, task.seed))


def _confused(answers: RunAnswers, audit: LabelAudit | str) -> list[Any]:
    return confused_pairs(answers.rows, answers.labels, audit) if answers.labelled else []


def _doubted(answers: RunAnswers, audit: LabelAudit | str) -> Iterator[dict[str, Any]]:
    """Training rows whose label is probably wrong, by the audit of the data gate."""
    if not isinstance(audit, LabelAudit) or not audit.is_reliable:
        return
    for position in audit.suspects()[0].tolist():
        example = answers.train[int(audit.rows[position])]
        place = {"file": str(example.tags.get("file", "")), "line": example.tags.get("line")}
        yield {"id": example.id, "kind": "label", "words": audit.explain(position), **place}
