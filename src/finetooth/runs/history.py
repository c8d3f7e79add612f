"""The iterations of one task: what each was made from and with, what changed, and how it scores.

Everything is read from the files of the runs: no model is loaded, and sealed rows are not read.
A run that is damaged or unfinished is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from shlex import quote
from typing import Any

from finetooth.analysis.overfitting import FILE, losses_of
from finetooth.config.values import from_here
from finetooth.data.version import SHOWN, Versions
from finetooth.evaluation import ledger
from finetooth.evaluation.proof import shown_look
from finetooth.evaluation.retention import INTERPOLATION
from finetooth.evaluation.statistics import ALPHA, holm
from finetooth.evaluation.summary import TUNED
from finetooth.report.settings import read_config
from finetooth.rundir import read_json, read_jsonl
from finetooth.runs import next_steps, workspace
from finetooth.runs.lineage import UNREADABLE, Run, reason, time_words
from finetooth.runs.paired import RunScores, base_weights, differences, flat_settings, paired, read_scores
from finetooth.runs.replicates import replicates

# Settings that are shown as lineage and as changes of the data, or that decide nothing.
ELSEWHERE = {"name", "start", "data.split_from", "data.add"}
MEASURED, UNMEASURED, UNFINISHED, DAMAGED = "measured", "not evaluated", "unfinished", "damaged"
KEPT_SCORES = 8  # runs whose records are held in memory


class History:
    """The iterations of runs that belong to one task, in their order."""

    def __init__(self, runs: Sequence[Run], versions: Versions | None = None) -> None:
        self.runs = runs
        self._by_path = {run.path: run for run in runs}
        self._versions = versions or Versions()
        self._scores = lru_cache(KEPT_SCORES)(_scores)
        self._reasons = lru_cache(KEPT_SCORES)(_reasons)

    def iterations(self) -> list[dict[str, Any]]:
        """One object for each run, parents first:

        {run, name, number (from 1; null for a random arm and a damaged run), time, state, problem, next,
        parent, asked_parent, relation, arm_of, model, method, base, weights, data: {train, validation,
        sealed: {version, rows} | null}, rows: {added, removed, corrected} | null, change_sets: [files],
        settings: [{key, before, after, automatic}], score: {score, low, high, n, grader} | null, verdict:
        {verdict, baseline, prompt: its score, difference, low, high} | null, step: the paired difference to
        the run `base` | null, no_step: why there is none, sealed: {score, low, high, n, verdict, look} |
        null, looks, seeds: [scores], losses, overfitting, again}
        """
        listed = [self._iteration(run) for run in self.runs]
        number = 0
        for one in listed:
            if one["arm_of"] is None and one["state"] != DAMAGED:
                number += 1
                one["number"] = number
        _adjust([one["step"] for one in listed if one["step"]])
        return listed

    def _iteration(self, run: Run) -> dict[str, Any]:
        beside = run.arm_of if run.arm_of not in (None, run.path) else None
        base = beside or run.parent
        one: dict[str, Any] = {
            **{"run": _text(run.path), "name": run.path.name, "number": None, "time": time_words(run.time)},
            **{"state": DAMAGED, "problem": run.problem, "next": "", "relation": run.relation},
            **{"parent": _text(run.parent), "asked_parent": from_here(run.asked), "base": _text(base)},
            **{"arm_of": _text(run.arm_of), "model": "", "method": "", "weights": "", "data": {}},
            **{"rows": None, "change_sets": [], "settings": [], "score": None, "verdict": None},
            **{"step": None, "no_step": "", "sealed": None, "looks": 0, "seeds": []},
            **{"losses": None, "overfitting": None, "again": ""},
        }
        if run.problem or run.task is None:
            return one
        one["model"], one["method"] = run.task.model, run.task.train.method
        one["change_sets"] = [Path(file).name for file in getattr(run.task.data, "add", None) or []]
        one["again"] = next_steps.again(run.path)
        try:
            one["data"] = self._data(run.path)
            self._state(run, one)
            self._results(run.path, one)
            if (before := self._by_path.get(run.parent or base or run.path)) not in (None, run):
                self._changes(before, run, one)
            if base in self._by_path and base != run.path:
                self._step(self._by_path[base], run, one)
        except UNREADABLE as error:
            one |= {"state": DAMAGED, "problem": reason(error)}
        return one

    def _data(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for side in ("train", "validation"):
            file = path / "data" / f"{side}.jsonl"
            version = self._versions.of(file) if file.is_file() else None
            found[side] = version and {"version": version.short, "rows": version.rows}
        rows, sealed = ledger.sealed_count(path), ledger.sealed_set(path)
        digest = sealed.digest if sealed is not None else ledger.sealed_digest(path)
        found["sealed"] = {"version": digest[:SHOWN], "rows": rows} if digest and rows else None
        return found

    @staticmethod
    def _state(run: Run, one: dict[str, Any]) -> None:
        path = run.path
        interpolation = path / INTERPOLATION
        if interpolation.is_file():
            one["weights"] = f"base + {read_json(interpolation)['share']:g} × (tuned − base)"
        one["seeds"] = [seed.name for seed in replicates(path)[1:]]
        if any((path / "evaluate" / split / "summary.json").is_file() for split in ("validation", "test")):
            one["state"] = MEASURED
        elif workspace.trained_path(path) is None:
            problem, _, then = str(workspace.not_trained(path)).rpartition(": finetooth ")
            about = problem.rpartition(". ")[0].removeprefix(f"{path} ")
            about = f"{about[:1].upper()}{about[1:]}."
            one |= {"state": UNFINISHED, "problem": about, "next": f"finetooth {then}"}
        else:
            graded = run.task is not None and next_steps.gradable(run.task)
            one |= {"state": UNMEASURED, "next": f"finetooth evaluate {quote(str(path))}" if graded else ""}

    @staticmethod
    def _results(path: Path, one: dict[str, Any]) -> None:
        ledger.require_unchanged(path)
        one["looks"] = ledger.looks(path).count
        for split in ("validation", "test"):
            file = path / "evaluate" / split / "summary.json"
            if not file.is_file():
                continue
            summary = read_json(file)
            tuned = next((c for c in summary["candidates"] if c["name"] == TUNED), None)
            if tuned is None or tuned["score"] is None:
                continue
            score = {key: tuned[key] for key in ("score", "low", "high")}
            score |= {"n": summary["n"], "grader": summary["grader"]}
            result = summary.get("comparison")
            if split == "test":
                verdict = result["verdict"] if result else None
                one["sealed"] = {**score, "verdict": verdict, "look": shown_look(summary)}
                continue
            one["score"] = score
            keys = ("verdict", "baseline", "difference", "low", "high")
            if result:
                entry = next(c for c in summary["candidates"] if c["name"] == result["baseline"])
                one["verdict"] = {**{key: result[key] for key in keys}, "prompt": entry["score"]}
        metrics, measured = path / "train" / "metrics.jsonl", path / FILE
        losses = losses_of(read_jsonl(metrics)) if metrics.is_file() else None
        one["losses"] = losses and {**asdict(losses), "words": losses.words()}
        one["overfitting"] = read_json(measured) if measured.is_file() else None

    def _changes(self, before: Run, run: Run, one: dict[str, Any]) -> None:
        files = [side.path / "data" / "train.jsonl" for side in (before, run)]
        if all(file.is_file() for file in files):
            one["rows"] = asdict(self._versions.changes(files[0], files[1]))
        if before.task is None or run.task is None:
            return
        settings = [flat_settings(side.task) for side in (before, run) if side.task is not None]
        for side, flat in zip((before, run), settings, strict=True):
            flat["base weights (sha256)"] = base_weights(side.path)
        reasons = [self._reasons(side.path) for side in (before, run)]
        one["settings"] = [
            {"key": key, "before": old, "after": new, "automatic": all(key in found for found in reasons)}
            for key, (old, new) in differences(settings).items()
            if key not in ELSEWHERE
        ]

    def _step(self, before: Run, run: Run, one: dict[str, Any]) -> None:
        """The paired difference to the run before, on the validation rows that both answered."""
        if one["score"] is None:
            return
        try:
            result = paired(self._scores(before.path), self._scores(run.path))
        except UNREADABLE as error:
            one["no_step"] = reason(error)
            return
        keys = ("n", "difference", "low", "high", "p", "verdict", "gained", "lost", "mde", "level", "scores")
        one["step"] = {key: result[key] for key in keys}


def _scores(path: Path) -> RunScores:
    return read_scores(path, "validation")


def _reasons(path: Path) -> dict[str, str]:
    """The reasons of a run's automatic settings, by key."""
    return read_config(path / workspace.CONFIG)[1]


def _text(path: Path | None) -> str | None:
    return None if path is None else str(from_here(str(path)))


def _adjust(steps: Sequence[dict[str, Any]]) -> None:
    """Adjust the p values of all steps for their number (Holm 1979); a verdict that falls is `not proven`."""
    for step, adjusted in zip(steps, holm([float(one["p"]) for one in steps]), strict=True):
        step["p_adjusted"] = adjusted
        if adjusted >= ALPHA:
            step["verdict"] = "not proven"


def changes_in_words(one: Mapping[str, Any]) -> list[str]:
    """What changed in an iteration's weights, rows and settings against the run before it; [] without one."""
    if one["base"] is None:
        return []
    words = [f"weights: {one['weights']}"] if one["weights"] else []
    rows = one["rows"] or {}
    counts = [f"{count:,} {name}" for name, count in rows.items() if count]
    sets = f" ({', '.join(one['change_sets'])})" if one["change_sets"] else ""
    if counts:
        words.append(f"rows: {', '.join(counts)}{sets}")
    elif sets:
        words.append(f"rows: none{sets}")
    words += [
        f"{each['key']}: {_short(each['before'])} → {_short(each['after'])}"
        + (" (automatic)" if each["automatic"] else "")
        for each in one["settings"]
    ]
    return words or ["nothing"]


def _short(value: Any) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
