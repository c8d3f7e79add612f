"""The answers of the tuned model on a run's page: right and wrong rows, and what it takes for what.

Rows of the validation split alone; sealed test rows are never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from finetooth.analysis.confusions import Confusion, confusion
from finetooth.data.examples import read_examples
from finetooth.evaluation.graders import without_options
from finetooth.evaluation.summary import TUNED, best_prompting
from finetooth.report.confusion import CORRECT_EXAMPLES, EXAMPLES, cell_keys, grid, label_table
from finetooth.rundir import read_jsonl
from finetooth.types import Example

ROWS = "rows.jsonl"  # the rows of an evaluation on new ones
ROWS_SHOWN = 20
LONGEST_TEXT = 2_000


def answers(
    run_path: Path, summary: Mapping[str, Any] | None, evaluation: str = "validation"
) -> dict[str, Any] | None:
    """Rows that the tuned model gets right and wrong, and the labels that it confuses.

    evaluation: the folder of records in evaluate/; those of new rows have their own rows.jsonl beside them.
    Rows on which it differs from the best prompt come first. None without the tuned model's records.
    """
    records = run_path / "evaluate" / evaluation / "records.jsonl"
    if summary is None or not records.is_file():
        return None
    comparison = summary.get("comparison") or {}
    base_name = comparison.get("baseline") or best_prompting(summary)
    by_name: dict[str, dict[str, Any]] = {}
    for record in read_jsonl(records):
        by_name.setdefault(record["candidate"], {})[record["id"]] = record
    tuned, base = by_name.get(TUNED, {}), by_name.get(base_name or "", {})
    if not tuned:
        return None
    own = records.with_name(ROWS)
    examples = read_examples(own) if own.is_file() else examples_of(run_path, "validation")
    questions = {example.id: last_question(example) for example in examples}
    wrong: list[dict[str, Any]] = []
    right: list[dict[str, Any]] = []
    for id, record in tuned.items():
        if record["score"] is None:
            continue
        other = base.get(id)
        changed = other is not None and other["score"] is not None and other["score"] != record["score"]
        row = {
            "id": id,
            "question": clip(questions.get(id, "")),
            "want": clip(record["want"]),
            "base": _answer(other) if other else None,
            "tuned": _answer(record),
            "changed": changed,
        }
        (right if record["score"] == 1 else wrong).append(row)
    groups = []
    for name, rows in (("wrong", wrong), ("right", right)):
        first = sorted(rows, key=lambda row: (not row["changed"], row["tuned"]["score"]))
        groups.append((name, len(rows), first[:ROWS_SHOWN]))
    labels = None
    if without_options(summary["grader"]) == "label":
        known = {example.tags.get("label") for example in examples_of(run_path, "train")} - {None}
        labels = _labels(confusion(tuned.values(), sorted(map(str, known))), questions)
        labels["of"] = f"{'' if own.is_file() else 'validation '}rows"
    return {
        "baseline": base_name if base else None,
        "groups": groups,
        "wrong": len(wrong),
        "labels": labels,
        "partly": any(row["tuned"]["mark"] == "partly" for row in wrong),
    }


def _labels(matrix: Confusion, questions: Mapping[str, str]) -> dict[str, Any]:
    """The matrix, the examples behind its cells, and the table of labels. `n`: the rows in its cells."""
    cells: dict[str, list[dict[str, Any]]] = {"wrong": [], "right": []}
    for (want, got), key in cell_keys(matrix).items():
        ids = matrix.ids[want, got]
        kind, most = ("right", CORRECT_EXAMPLES) if want == got else ("wrong", EXAMPLES)
        rows = [(id, clip(questions.get(id, ""))) for id in ids[:most]]
        cells[kind].append(
            {"key": key, "want": clip(want), "got": clip(got), "count": len(ids), "rows": rows}
        )
    table = label_table(matrix)
    return {
        "grid": grid(matrix),
        "cells": cells,
        "more": len(matrix.wrong) - len(cells["wrong"]),
        "table": table,
        "macro_f1": fmean(line["f1"]["share"] for line in table if line["f1"]) if table else 0.0,
        "n": sum(map(len, matrix.ids.values())),
        "failed": matrix.failed,
    }


def _answer(record: Mapping[str, Any]) -> dict[str, Any]:
    score = record["score"]
    mark = "error" if score is None else "right" if score == 1 else "wrong" if score == 0 else "partly"
    return {
        "text": clip(record["text"]),
        "mark": mark,
        "truncated": record["stop"] == "length",
        "score": score,
        "reason": clip(record["reason"]) if score != 1 else "",
    }


def examples_of(run_path: Path, split: str) -> Iterator[Example]:
    """The rows of a split that is not sealed; none where the run has no such file."""
    path = run_path / "data" / f"{split}.jsonl"
    return read_examples(path) if path.is_file() else iter(())


def last_question(example: Example) -> str:
    """The last message of a context; earlier turns are only counted."""
    turns: Sequence[Any] = [message for message in example.context if message.role != "system"]
    if not turns:
        return ""
    earlier = f"[{len(turns) - 1} earlier turns] " if len(turns) > 1 else ""
    return f"{earlier}{turns[-1].content}"


def clip(text: str) -> str:
    """At most LONGEST_TEXT characters, all of which can be written as UTF-8."""
    clean = str(text).encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= LONGEST_TEXT else clean[: LONGEST_TEXT - 1] + "…"
