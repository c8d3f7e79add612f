"""The contents of a run's report.html, gathered from the run directory. Sealed test rows are never read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from finetooth.data.examples import read_examples
from finetooth.errors import ConfigError
from finetooth.evaluation import ledger
from finetooth.evaluation.graders import PERPLEXITY, without_options
from finetooth.evaluation.summary import CORPUS_METRICS, FREE, START, TUNED, best_prompting, is_prompting
from finetooth.report.charts import difference_bar, score_bar, smooth, training_curve
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


def page_context(run_path: Path, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Everything the template needs; parts that the run does not have yet are None or empty.

    notes: limitations that are not seen from the run directory.
    """
    config, reasons = _config(run_path / "config.yaml")
    summaries = {}
    for split in ("test", "validation"):
        file = run_path / "evaluate" / split / "summary.json"
        summaries[split] = read_json(file) if file.is_file() else None
    shown = [summary for summary in summaries.values() if summary]
    check = run_path / "data" / "check.json"  # written by the data gate when the run began
    page: dict[str, Any] = {
        "name": config.get("name", run_path.name),
        "model": config.get("model", ""),
        "tuned": config.get("tuned"),
        "verdict": _verdict(shown[0]) if shown else None,
        "tables": [score_table(summary) for summary in shown],
        "prompts": _prompts(run_path / "environment.json", config),
        "loss": _training(run_path / "train"),
        "rows": _answers(run_path, summaries["validation"]),
        "data": _data(run_path),
        "allowed": list(read_json(check).get("allowed", [])) if check.is_file() else [],
        "config": [
            (key, value, reasons.get(key, "").removeprefix(f"{value}: "))
            for key, value in _dotted_keys(config)
        ],
        "environment": _environment(run_path / "environment.json"),
    }
    return {**page, "limits": [*notes, *_limitations(page, shown, run_path)]}


def _verdict(summary: Mapping[str, Any]) -> dict[str, Any]:
    result = summary.get("comparison")
    where = "the sealed test" if summary["split"] == "test" else "the validation rows"
    words = summary.get("words", "").partition(": ")[2]  # the headline has what stands before the colon
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


def score_table(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The candidates by the primary grader, and under `also` a table for each further grader."""
    comparison = summary.get("comparison") or {}

    free = any(entry["name"] == FREE for entry in summary["candidates"])
    shown = {TUNED: "tuned, constrained", FREE: "tuned, free"} if free else {}

    def row(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        kind = "tuned" if name == TUNED else "prompting" if is_prompting(name) else "baseline"
        scored = entry["score"] is not None
        bar = score_bar(entry["score"], entry["low"], entry["high"], kind) if scored else ""
        corpus_score = entry.get("corpus", {}).get("value")
        names = {"candidate": name, "name": shown.get(name, name)}
        return {**entry, **names, "kind": kind, "bar": bar, "corpus_score": corpus_score}

    def corpus(grader: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the corpus score is called, "" where there is none, and how it was counted."""
        found = [entry["corpus"] for entry in entries if entry.get("corpus")]
        return {
            "corpus": CORPUS_METRICS.get(grader, grader) if found else "",
            "signature": found[0]["signature"] if found and grader != PERPLEXITY else "",
        }

    rows = [row(entry["name"], entry) for entry in summary["candidates"]]
    also = []
    for grader in dict.fromkeys(name for entry in rows for name in entry.get("also", {})):
        entries = [
            row(one["candidate"], one["also"][grader]) for one in rows if grader in one.get("also", {})
        ]
        difference = comparison.get("also", {}).get(grader)
        also.append({"grader": grader, "rows": entries, "difference": difference, **corpus(grader, entries)})
    return {
        "split": summary["split"],
        "n": summary["n"],
        "groups": summary.get("groups"),
        "grader": summary["grader"],
        "rows": rows,
        "baseline": comparison.get("baseline"),
        "start": summary.get(START),
        "errors": any(entry["errors"] for entry in rows),
        "truncated": any(entry.get("truncated") for entry in rows),
        "notes": [(entry["name"], note) for entry in rows for note in entry.get("notes", [])],
        "also": also,
        **corpus(summary["grader"], rows),
    }


def _training(folder: Path) -> dict[str, Any] | None:
    """The training curve: losses, or the rewards of a reinforcement-learning run, whose policy loss says
    nothing and is not comparable with the validation loss.
    """
    path, done = folder / "metrics.jsonl", folder / "result.json"
    lines = list(read_jsonl(path)) if path.is_file() else []
    result = read_json(done) if done.is_file() else {}
    rewarded = any("reward" in line for line in lines)
    key, valid = ("reward", "valid_score") if rewarded else ("loss", "valid_loss")
    train_S = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    valid_S = [(line["step"], line[valid]) for line in lines if line.get(valid) is not None]
    if not train_S and not valid_S:
        return None
    caption = "Mean reward of the sampled completions and score on the validation rows"
    if not rewarded:
        pairs, method = any("accuracy" in line for line in lines), result.get("method")
        unit = "in nats per scored token" if not pairs else "per answer" if method == "kto" else "per pair"
        caption = f"Loss {unit}"
    return {
        "chart": training_curve(train_S, valid_S, "reward" if rewarded else "loss"),
        "caption": caption,
        "steps": max(step for step, _ in [*train_S, *valid_S]),
        "smoothing": smooth(train_S)[1],
        "best": min(valid_S, key=lambda point: point[1]) if valid_S and not rewarded else None,
        "kept": result.get("best_step") if result.get("selected_by") else None,
        "by_score": result.get("selected_by") == "score",
        "seconds": sum(line.get("seconds") or 0.0 for line in lines),
    }


def _answers(run_path: Path, summary: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Validation rows that the tuned model gets right and wrong, and the labels that it confuses.

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
    groups = []
    for name, rows in (("wrong", wrong), ("right", right)):
        first = sorted(rows, key=lambda row: (not row["changed"], row["tuned"]["score"]))
        groups.append((name, len(rows), first[:ROWS_SHOWN]))
    confused = Counter((line["want"], line["got"]) for line in tuned.values() if line["score"] == 0)
    pairs = [(clip(want), clip(got), count) for (want, got), count in confused.most_common(PAIRS_SHOWN)]
    return {
        "baseline": base_name if base else None,
        "groups": groups,
        "confusions": pairs if without_options(summary["grader"]) == "label" else [],
        "partly": any(row["tuned"]["mark"] == "partly" for row in wrong),
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


def _limitations(page: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], run_path: Path) -> list[str]:
    limits = []
    trained, record = run_path / "train" / "result.json", run_path / "train" / "preflight.json"
    if trained.is_file() and read_json(trained).get("preflight") == "off":
        limits.append("The preflight check was off: the training setup was not tested before training.")
    elif record.is_file():
        limits += [
            f"The preflight check was incomplete: {note}." for note in read_json(record).get("notes", [])
        ]
    if shown:
        limits.append(
            f"Measured on {shown[0]['n']:,} rows; rows from another source or period may be harder."
        )
    seed = next((value for key, value, _ in page["config"] if key == "seed"), "?")
    seeds = f"One training seed ({seed}): another seed gives a somewhat better or worse model."
    elsewhere = "The model was trained elsewhere: whether it was trained on some of these rows is not known."
    limits.append(elsewhere if page["tuned"] else seeds)
    if shown and shown[0]["split"] == "validation":
        limits.append(
            "These are validation rows, on which the baseline and the checkpoint were chosen, so the scores "
            "are optimistic. The sealed test has not been opened."
        )
    looks = ledger.look_count(run_path)
    if shown and looks > 1:
        limits.append(f"The sealed test was opened {looks} times; each further look weakens its evidence.")
    apart = "No prompt is on both sides of the split"
    if "leak" in page["allowed"]:
        apart = "Some prompts are on both sides of the split, since the rule leak was overridden"
    limits.append(f"{apart}; leakage through paraphrases was not checked.")
    return limits


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


def _dotted_keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _dotted_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "" if value in ("", {}, None) else clip(str(value))


def _prompts(path: Path, config: Mapping[str, Any]) -> str:
    """How all candidates are prompted, in a sentence; "" for a run that keeps no record of it."""
    facts = (read_json(path) if path.is_file() else {}).get("prompts")
    if facts is None:
        return ""
    name = facts["template"]
    names = {"chat": "the model's chat template", "file": "the template in template.jinja"}
    given, added = clip(config.get("instruction") or ""), clip(facts["added_system"])
    system = "without a system message, but for rows that bring their own"
    if given:
        system = f"with the system message “{given}”"
    elif added:
        system = f"with the system message that it adds where a row has none: “{added}”"
    asked = f"Prompts follow {names.get(name, f'the {name} template')}, {system}."
    if tuned := config.get("tuned"):
        base = clip(str(config.get("model", "")))
        asked += f" The tuned model, {clip(str(tuned))}, was trained elsewhere; prompts are asked of {base}."
    return asked


def _environment(path: Path) -> str:
    """Versions and machine in one line, empty without environment.json."""
    facts = read_json(path) if path.is_file() else {}
    parts = [f"{name} {version}" for name, version in facts.get("versions", {}).items()]
    machine, model, start = (facts.get(key) or {} for key in ("machine", "model", "start"))
    parts += [str(machine["system"])] if "system" in machine else []
    parts += [f"base model {model['digest'][:12]}"] if "digest" in model else []
    parts += [f"continues {start['run']} ({start['digest'][:12]})"] if start else []
    return " · ".join(parts)


def _examples(run_path: Path, split: str) -> Iterator[Example]:
    path = run_path / "data" / f"{split}.jsonl"
    return read_examples(path) if path.is_file() else iter(())


def last_question(example: Example) -> str:
    """The last message of a context; earlier turns are only counted."""
    turns = [message for message in example.context if message.role != "system"]
    if not turns:
        return ""
    earlier = f"[{len(turns) - 1} earlier turns] " if len(turns) > 1 else ""
    return earlier + turns[-1].content


def clip(text: str) -> str:
    """At most 600 characters, all of which can be written as UTF-8."""
    clean = str(text).encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= LONGEST_TEXT else clean[: LONGEST_TEXT - 1] + "…"
