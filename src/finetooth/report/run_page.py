"""What report.html shows, gathered from a run directory. The sealed test's rows are never read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from finetooth.data.examples import from_json
from finetooth.errors import ConfigError
from finetooth.evaluation import ledger
from finetooth.evaluation.summary import TUNED, best_prompting
from finetooth.report.charts import difference_bar, smooth, training_curve
from finetooth.report.score_tables import score_table
from finetooth.rundir import read_json, read_jsonl
from finetooth.types import Example

ROWS_SHOWN = 20
PAIRS_SHOWN = 12
REJECTED_SHOWN = 8
LONGEST_TEXT = 600
HEADLINES = {
    "better": "Better than the best prompt",
    "worse": "Worse than the best prompt",
    "not proven": "Not proven better than the best prompt",
}


def page_context(run_path: Path) -> dict[str, Any]:
    """Everything the template needs; parts that the run does not have yet are None or empty."""
    config, reasons = _config(run_path / "config.yaml")
    summaries = {split: _summary(run_path, split) for split in ("test", "validation")}
    shown = [summary for summary in summaries.values() if summary]
    page: dict[str, Any] = {
        "name": config.get("name", run_path.name),
        "model": config.get("model", ""),
        "verdict": _verdict(shown[0]) if shown else None,
        "tables": [score_table(summary) for summary in shown],
        "loss": _loss(run_path / "train"),
        "rows": _rows(run_path, summaries["validation"]),
        "data": _data(run_path),
        "allowed": _allowed(run_path),
        "config": [
            (key, value, reasons.get(key, "").removeprefix(f"{value}: ")) for key, value in _flat(config)
        ],
        "environment": _environment(run_path / "environment.json"),
    }
    return {**page, "limits": _limits(page, shown, run_path)}


def _summary(run_path: Path, split: str) -> dict[str, Any] | None:
    path = run_path / "evaluate" / split / "summary.json"
    return read_json(path) if path.is_file() else None


def _verdict(summary: Mapping[str, Any]) -> dict[str, Any]:
    result = summary.get("comparison")
    where = "the sealed test" if summary["split"] == "test" else "the validation rows"
    words = summary.get("words", "").partition(": ")[2]  # before the colon stands what the headline says
    words = words[:1].upper() + words[1:]
    if not result:
        return {"kind": "none", "headline": "No verdict", "where": where, "words": words}
    return {
        **result,
        "kind": result["verdict"].replace(" ", "-"),
        "headline": HEADLINES[result["verdict"]],
        "where": where,
        "n": summary["n"],
        "groups": summary.get("groups"),
        "words": words,
        "chart": difference_bar(result["difference"], result["low"], result["high"], result["verdict"]),
    }


def _loss(folder: Path) -> dict[str, Any] | None:
    """The course of training: losses, or the rewards of a run that learns from them, whose loss says nothing
    and is not what the validation loss is.
    """
    path, done = folder / "metrics.jsonl", folder / "result.json"
    lines = list(read_jsonl(path)) if path.is_file() else []
    result = read_json(done) if done.is_file() else {}
    rewarded = any("reward" in line for line in lines)
    key, valid = ("reward", "valid_score") if rewarded else ("loss", "valid_loss")
    train_S = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    valid_S = [(line["step"], line[valid]) for line in lines if line.get(valid) is not None]
    pairs, method = any("accuracy" in line for line in lines), result.get("method")
    loss = "in nats per scored token" if not pairs else "of one answer" if method == "kto" else "of one pair"
    if not train_S and not valid_S:
        return None
    best = min(valid_S, key=lambda point: point[1]) if valid_S and not rewarded else None
    return {
        "chart": training_curve(train_S, valid_S, "reward" if rewarded else "loss"),
        "what": "Mean reward of the sampled answers, and the score of answers to validation rows,"
        if rewarded
        else f"Loss {loss},",
        "steps": max(step for step, _ in [*train_S, *valid_S]),
        "smoothing": smooth(train_S)[1],
        "best": best,
        "kept": result.get("best_step") if result.get("selected_by") else None,
        "by_score": result.get("selected_by") == "score",
        "seconds": sum(line.get("seconds") or 0.0 for line in lines),
    }


def _rows(run_path: Path, summary: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Validation rows that the tuned model has right and wrong, and the labels that it confuses.

    Rows on which it differs from the best prompt come first. None without the tuned model's records.
    """
    records = run_path / "evaluate" / "validation" / "records.jsonl"
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
    questions = {example.id: last_question(example) for example in _examples(run_path, "validation")}
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
    groups = [("wrong", wrong), ("right", right)]
    return {
        "baseline": base_name if base else None,
        "groups": [
            (name, len(group), sorted(group, key=_first_shown)[:ROWS_SHOWN]) for name, group in groups
        ],
        "confusions": _confusions(tuned.values()) if summary["grader"] == "label" else [],
        "partly": any(row["tuned"]["mark"] == "partly" for row in wrong),
    }


def _first_shown(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Rows on which tuned and base differ come first, then the lowest scores."""
    return not row["changed"], row["tuned"]["score"]


def _answer(record: Mapping[str, Any]) -> dict[str, Any]:
    score = record["score"]
    mark = "error" if score is None else "right" if score == 1 else "wrong" if score == 0 else "partly"
    return {
        "text": clip(record["text"]),
        "mark": mark,
        "cut": record["stop"] == "length",
        "score": score,
        "reason": clip(record["reason"]) if score != 1 else "",
    }


def _confusions(records: Any) -> list[tuple[str, str, int]]:
    pairs = Counter((record["want"], record["got"]) for record in records if record["score"] == 0)
    return [(clip(want), clip(got), count) for (want, got), count in pairs.most_common(PAIRS_SHOWN)]


def _data(run_path: Path) -> dict[str, Any]:
    folder = run_path / "data"
    counts = [
        (split, sum(1 for _ in read_jsonl(folder / f"{split}.jsonl")))
        for split in ("train", "validation")
        if (folder / f"{split}.jsonl").is_file()
    ]
    sealed = ledger.sealed_count(run_path)
    rejected = list(read_jsonl(folder / "rejected.jsonl")) if (folder / "rejected.jsonl").is_file() else []
    labels = Counter(example.tags.get("label") for example in _examples(run_path, "train"))
    labels.pop(None, None)
    return {
        "counts": counts + ([("sealed test", sealed)] if sealed is not None else []),
        "rejected": len(rejected),
        "reasons": [
            (row.get("file"), row.get("line"), clip(row["reason"])) for row in rejected[:REJECTED_SHOWN]
        ],
        "labels": len(labels),
        "frequent": [(clip(str(label)), count) for label, count in labels.most_common(5)],
        "fewest": min(labels.values(), default=0),
    }


def _allowed(run_path: Path) -> list[str]:
    """Rules of the data gate that the user overruled; what `check` writes when a run begins has them."""
    path = run_path / "data" / "check.json"
    return list(read_json(path).get("allowed", [])) if path.is_file() else []


def _limits(page: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], run_path: Path) -> list[str]:
    seed = next((value for key, value, _ in page["config"] if key == "seed"), "?")
    limits = [
        f"One seed ({seed}): another run of the same recipe gives another model, better or worse by chance."
    ]
    if shown:
        n, split = shown[0]["n"], shown[0]["split"]
        limits.insert(0, f"Measured on {n:,} rows; rows of another source or time may be harder.")
        if split == "validation":
            limits.append(
                "These are validation rows: whoever chooses by them sees a score that is too good. "
                "The sealed test has not been opened."
            )
        looks = ledger.look_count(run_path)
        if looks > 1:
            limits.append(
                f"The sealed test was opened {looks} times: every further look weakens what it proves."
            )
    limits[:0] = _untried(run_path / "train")
    apart = "Identical questions never stand on both sides of a split"
    if "leak" in page["allowed"]:
        apart = "Some questions stand on both sides of the split, as the rule leak was allowed"
    limits.append(f"{apart}; paraphrases of training rows in the test were not looked for.")
    return limits


def _untried(folder: Path) -> list[str]:
    """What the preflight check has left out."""
    trained, record = folder / "result.json", folder / "preflight.json"
    if trained.is_file() and read_json(trained).get("preflight") == "off":
        return ["The preflight check was off: nothing was tried before training."]
    notes = read_json(record).get("notes", []) if record.is_file() else []
    tried = "Before training the whole way was tried on a few rows, but not all of it"
    return [f"{tried}: {note}." for note in notes]


def _config(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration, and the reasons for automatic values from the comment lines at its end."""
    if not path.is_file():
        return {}, {}
    text = path.read_text(encoding="utf-8")
    reasons = dict(re.findall(r"^#\s+([a-z_.]+): (.+)$", text, re.MULTILINE))
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return (values if isinstance(values, dict) else {}), reasons


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "" if value in ("", {}, None) else clip(str(value))


def _environment(path: Path) -> str:
    """Versions and machine in one line, empty without environment.json."""
    facts = read_json(path) if path.is_file() else {}
    versions = [f"{name} {version}" for name, version in facts.get("versions", {}).items()]
    machine = facts.get("machine", {})
    model = facts.get("model", {})
    digest = [f"base model {model['digest'][:12]}"] if "digest" in model else []
    start = facts.get("start")
    digest += [f"went on from {start['run']} ({start['digest'][:12]})"] if start else []
    return " · ".join([*versions, *(str(machine[key]) for key in ("system",) if key in machine), *digest])


def _examples(run_path: Path, split: str) -> Iterator[Example]:
    path = run_path / "data" / f"{split}.jsonl"
    if path.is_file():
        yield from map(from_json, read_jsonl(path))


def last_question(example: Example) -> str:
    """The last message of a context; earlier turns are summed up by their number."""
    turns = [message for message in example.context if message.role != "system"]
    if not turns:
        return ""
    earlier = f"[{len(turns) - 1} earlier turns] " if len(turns) > 1 else ""
    return earlier + turns[-1].content


def clip(text: str) -> str:
    """At most 600 characters that can be written as UTF-8."""
    clean = str(text).encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= LONGEST_TEXT else clean[: LONGEST_TEXT - 1] + "…"
