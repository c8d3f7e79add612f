"""Names the damaged file of a run, after a command could not use what it read there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetooth.errors import DataError
from finetooth.rundir import read_json, read_jsonl
from finetooth.runs.workspace import CONFIG

ANY = object
# The keys of each file's object, or of each of its lines, with the type of their values.
_SUMMARY: dict[str, type] = {"n": int, "grader": str, "split": str, "candidates": list}
OBJECTS: dict[str, dict[str, type]] = {
    "environment.json": {"versions": dict, "model": dict},
    "data/split.json": {
        **dict.fromkeys(("train", "validation", "sealed"), int),
        **{"format": str, "labels": list, "notes": list},
    },
    "train/preflight.json": {"passed": bool},
    "train/result.json": {"steps": int, "best_step": int, "stopped_early": bool, "model": str},
    "train/reward_models.json": {},
    "evaluate/validation/summary.json": _SUMMARY,
    "evaluate/test/summary.json": _SUMMARY,
    "evaluate/summary.json": _SUMMARY,
    "evaluate/validation/timing.json": {},
    "evaluate/test/timing.json": {},
    "baseline/baseline.json": {"prompts": list, "winner": dict, "effort": dict, "rows": dict},
}
_ROW: dict[str, type] = {"id": str, "context": list, "answers": list, "tags": dict}
_RECORD: dict[str, type] = {"id": str, "candidate": str, "text": str, "score": ANY, "stop": str}
LINES: dict[str, dict[str, type]] = {
    "data/train.jsonl": _ROW,
    "data/validation.jsonl": _ROW,
    "data/rejected.jsonl": {"file": ANY, "line": ANY, "reason": str, "row": ANY},
    "data/findings.jsonl": {"rule": str, "severity": str, "rows": list},
    "ledger.jsonl": {"event": str},
    "train/metrics.jsonl": {"step": int},
    "train/row_losses.jsonl": {"step": int, "id": str, "loss": float},
    "train/samples.jsonl": {"step": int},
    "train/findings.jsonl": {"step": int},
    "train/rollouts.jsonl": {"step": int, "id": str, "text": str, "score": ANY, "stop": str},
    "evaluate/validation/records.jsonl": _RECORD,
    "evaluate/test/records.jsonl": _RECORD,
}
_CANDIDATE: dict[str, type] = {"name": str, "score": ANY, "low": ANY, "high": ANY}


def find_damage(run: Path) -> str | None:
    """What is wrong with the first damaged file of the run, and what to do; None for a whole run."""
    for problem in _problems(run) if (run / CONFIG).is_file() else ():
        return f"{problem} The file is damaged: restore it, or start a new run with another --out."
    return None


def _problems(run: Path) -> Iterator[str]:
    for name, keys in OBJECTS.items():
        if (run / name).is_file():
            try:
                value = read_json(run / name)
            except DataError as error:
                yield str(error)
                continue
            yield from _misses(str(run / name), value, keys)
            if keys is _SUMMARY:
                for candidate in value["candidates"]:
                    yield from _misses(f"{run / name}, candidates", candidate, _CANDIDATE)
    for name, keys in LINES.items():
        if (run / name).is_file():
            try:
                for number, line in enumerate(read_jsonl(run / name), 1):
                    yield from _misses(f"{run / name}, line {number}", line, keys)
            except DataError as error:
                yield str(error)


def _misses(where: str, value: Any, keys: dict[str, type]) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: expected an object, found {type(value).__name__}."
        return
    for key, kind in keys.items():
        if key not in value:
            yield f"{where}: {key} is missing."
        elif not isinstance(value[key], (int, float) if kind is float else kind):
            yield f"{where}: {key} is {type(value[key]).__name__}, expected {kind.__name__}."
