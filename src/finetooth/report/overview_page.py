"""An overview of all runs in a folder: one row per run, in one table per set of rows that were answered.

Scores on different rows are not comparable, so no table holds two sets of rows. Sealed rows are never read:
runs are told apart by the digest of the sealed file and by the ids in their records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import quote as url_quote

from finetooth.errors import FinetoothError
from finetooth.evaluation import ledger
from finetooth.evaluation.summary import TUNED
from finetooth.report.advice import next_steps
from finetooth.report.charts import score_bar
from finetooth.report.evidence import day, text_of
from finetooth.report.run_page import gradable
from finetooth.report.settings import read_config
from finetooth.report.verdict_part import simple_badges
from finetooth.rundir import read_json, read_jsonl, sha256_file

CONFIG = "config.yaml"


def overview(folder: Path) -> dict[str, Any]:
    """`tables`: {split, n, grader, rows, runs, compare}, tests and the newest first; `others`: no result.

    Each run: name, path, link, model, method, date, and score, low, high, baseline and verdict or `problem`.
    """
    runs = [run_row(config.parent) for config in sorted(folder.glob(f"*/{CONFIG}"))]
    measured: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if run["rows"]:
            measured.setdefault(run["rows"], []).append(run)
    tables = [_table(rows, found) for rows, found in measured.items()]
    tables.sort(key=lambda table: max(run["time"] for run in table["runs"]), reverse=True)
    tables.sort(key=lambda table: table["split"])  # the sealed test first
    return {
        "folder": folder.name or str(folder),
        "count": len(runs),
        "tables": tables,
        "others": [run for run in runs if not run["rows"]],
    }


def _table(rows: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Runs that answered the same rows under the same grader, the highest score first."""
    best = sorted(runs, key=lambda run: -(run["score"] or 0))
    first = best[0]
    flag = " --sealed" if first["split"] == "test" else ""
    names = " ".join(quote(run["path"]) for run in best[:2])
    return {
        **{key: first[key] for key in ("split", "n", "grader")},
        "rows": rows,
        "runs": best,
        "compare": f"finetooth compare {names}{flag}" if len(best) > 1 else "",
    }


def run_row(path: Path) -> dict[str, Any]:
    """One run. rows: a digest of the rows, in their order, and of the grader; "" without a result."""
    page = path / "report.html"
    row: dict[str, Any] = {
        "path": str(path),
        "name": path.name,
        "link": f"{url_quote(path.name, safe='')}/report.html" if page.is_file() else "",
        "model": "",
        "method": "",
        "task": "",
        "rows": "",
        "problem": "",
        "next": "",
        "time": "",
        "date": "",
    }
    try:
        config, _ = read_config(path / CONFIG)
        row["model"], row["task"] = str(config.get("model", "")), str(config.get("name", ""))
        row["method"] = text_of(config, "train", "method") or "sft"
        ledger.require_unchanged(path)
        split = next(
            (s for s in ("test", "validation") if (path / "evaluate" / s / "summary.json").is_file()), ""
        )
        if not split:
            row["next"] = next_steps(path, None, gradable=gradable(config))[0][1]
            return row
        summary = read_json(path / "evaluate" / split / "summary.json")
        return {**row, **_result(path, split, summary)}
    except (FinetoothError, OSError, KeyError, TypeError, ValueError) as error:
        return {**row, "rows": "", "problem": str(error) or type(error).__name__}


def _result(path: Path, split: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    comparison = summary.get("comparison") or {}
    tuned = next((entry for entry in summary["candidates"] if entry["name"] == TUNED), None)
    entry = tuned or {"score": None, "low": None, "high": None}
    time = ledger.result_time(path, split)
    if time is None:  # of an older version
        changed = (path / "evaluate" / split / "summary.json").stat().st_mtime
        time = datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds")
    verdict = comparison.get("verdict", "no verdict")
    return {
        **{key: summary[key] for key in ("split", "n", "grader")},
        **{key: entry[key] for key in ("score", "low", "high")},
        "rows": _rows_digest(path, split, summary["grader"]),
        "bar": ""
        if entry["score"] is None
        else score_bar(entry["score"], entry["low"], entry["high"], "tuned"),
        "baseline": comparison.get("baseline", ""),
        "difference": comparison.get("difference"),
        "verdict": verdict,
        "kind": verdict.replace(" ", "-") if comparison else "none",
        "badges": simple_badges(summary),
        "looks": ledger.look_count(path) if split == "test" else 0,
        "time": time,
        "date": day(time),
    }


def _rows_digest(path: Path, split: str, grader: str) -> str:
    """A digest of the rows that were answered: of their file, and of the ids in one candidate's records."""
    if split == "test":
        content = ledger.sealed_digest(path) or ""
    else:
        content = sha256_file(path / "data" / "validation.jsonl")
    candidate, ids = None, []
    records = path / "evaluate" / split / "records.jsonl"
    for line in read_jsonl(records) if records.is_file() else ():  # none of a result that another run has
        candidate = candidate or line["candidate"]
        if line["candidate"] == candidate:
            ids.append(line["id"])
    return hashlib.sha256("\n".join([split, grader, content, *ids]).encode("utf-8", "replace")).hexdigest()[
        :12
    ]
