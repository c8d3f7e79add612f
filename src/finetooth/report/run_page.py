"""The contents of a run's report.html, gathered from the run directory. Sealed test rows are never read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from finetooth.data.read.locations import location
from finetooth.evaluation import form, ledger
from finetooth.evaluation.graders import PERPLEXITY, PREFERENCE, without_options
from finetooth.evaluation.preference import BY_LENGTH
from finetooth.evaluation.proof import looks_words, shown_look
from finetooth.evaluation.summary import (
    BAG_FILE,
    BAG_OF_WORDS,
    CORPUS_METRICS,
    FREE,
    START,
    TUNED,
    explained,
    is_prompting,
)
from finetooth.report.advice import next_steps
from finetooth.report.answers import answers, clip, examples_of
from finetooth.report.charts import difference_bar, flattened, score_bar, smooth, training_curve
from finetooth.report.confidence_part import confidence_part
from finetooth.report.general_part import general_part
from finetooth.report.prompting_part import prompting_part
from finetooth.report.retention_part import retention_part, retention_steps
from finetooth.report.robustness_part import robustness_part
from finetooth.report.settings import environment_in_words, prompts_in_words, read_config, settings
from finetooth.report.slices_part import slices_part
from finetooth.rundir import read_json, read_jsonl

REJECTED_SHOWN = 8
HEADLINES = {
    "better": "Better than",
    "worse": "Worse than",
    "not proven": "Not proven better than",
}
SIMPLE_NAMES = {BAG_OF_WORDS: "word counts", BY_LENGTH: "answer lengths"}
RIGHT_OR_WRONG = ("label", "exact", "number")  # graders that score 1 or 0, so that a score is a rate of rows


def page_context(run_path: Path, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Everything the template needs; parts that the run does not have yet are None or empty.

    notes: limitations that are not seen from the run directory.
    """
    config, reasons = read_config(run_path / "config.yaml")
    summaries = {}
    for split in ("test", "validation"):
        file = run_path / "evaluate" / split / "summary.json"
        summaries[split] = read_json(file) if file.is_file() else None
    shown = [summary for summary in summaries.values() if summary]
    first = shown[0] if shown else None
    check = run_path / "data" / "check.json"  # written by the data gate when the run began
    rows = answers(run_path, summaries["validation"])
    saved_bag = (run_path / BAG_FILE).is_file()
    kept = retention_part(run_path)
    method, source = (text_of(config, *keys) for keys in (("train", "method"), ("data", "train")))
    page: dict[str, Any] = {
        "name": config.get("name", run_path.name),
        "model": config.get("model", ""),
        "tuned": config.get("tuned"),
        "method": method or "sft",
        "date": day(ledger.result_time(run_path, first["split"])) if first else "",
        "verdict": verdict(first) if first else None,
        "next": [
            *(retention_steps(run_path, kept) if not config.get("tuned") else ()),
            *next_steps(
                run_path, first, method, rows["wrong"] if rows else 0, source, saved_bag, gradable(config)
            ),
        ],
        "tables": [score_table(summary) for summary in shown],
        "retention": kept,
        "prompting": prompting_part(run_path, first, config, reasons),
        "general": general_part(run_path),
        "prompts": prompts_in_words(run_path / "environment.json", config),
        "confidence": confidence_part(first),
        "robustness": robustness_part(run_path),
        "loss": _training(run_path / "train"),
        "rows": rows,
        "slices": slices_part(run_path),
        "data": _data(run_path),
        "data_page": "data/report.html" if (run_path / "data" / "report.html").is_file() else "",
        "allowed": list(read_json(check).get("allowed", [])) if check.is_file() else [],
        "config": settings(config, reasons),
        "environment": environment_in_words(run_path / "environment.json"),
    }
    return {**page, "limits": [*notes, *_limitations(page, shown, run_path)]}


def text_of(config: Mapping[str, Any], section: str, key: str) -> str:
    """A value of the configuration if it is a text, else ""."""
    values = config.get(section)
    value = values.get(key) if isinstance(values, Mapping) else None
    return value if isinstance(value, str) else ""


def gradable(config: Mapping[str, Any]) -> bool:
    """Whether the task has a grader; for plain text, auto was resolved to none."""
    evaluation = config.get("evaluate")
    return not isinstance(evaluation, Mapping) or evaluation.get("grader") != []


def day(time: str | None) -> str:
    """`2026-11-30T06:12:00+00:00` as `30 November 2026`; "" for None."""
    if not time:
        return ""
    then = datetime.fromisoformat(time)
    return f"{then.day} {then:%B %Y}"


def duration(seconds: float) -> str:
    """`8 s`, `3 min 12 s` or `2 h 05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def simple_badges(summary: Mapping[str, Any]) -> list[str]:
    """What a baseline without a language model is to the tuned model, where that does not beat it."""
    found = []
    for name, paired in (summary.get("simple_baselines") or {}).items():
        shown = SIMPLE_NAMES[name]
        if paired["verdict"] == "worse":
            found.append(f"{shown} do better")
        elif paired["verdict"] != "better":
            found.append(
                f"{shown} do as well" if paired["difference"] <= 0 else f"not proven better than {shown}"
            )
    return found


def rows_in_words(split: str) -> str:
    """The rows of an evaluation; a split that is no side of the run is the name of a file of new rows."""
    return {"test": "the sealed test", "validation": "the validation rows"}.get(split, f"the rows of {split}")


def verdict(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict for the head of a page: headline, badges, words, and the chart of the difference."""
    result = summary.get("comparison")
    where = rows_in_words(summary["split"])
    where += f" ({shown})" if (shown := shown_look(summary)) else ""
    words = summary.get("words", "").partition(": ")[2]  # the headline has what stands before the colon
    words = words[:1].upper() + words[1:]
    if not result:
        return {
            "kind": "none",
            "headline": "No verdict",
            "where": where,
            "words": words,
            "plainly": "",
            "badges": [],
        }
    badges = simple_badges(summary) + ["gain in form alone"] * form.by_form_alone(result)
    but = ", but " if result["verdict"] == "better" else "; "
    base = "best prompt" if summary["grader"] != PREFERENCE else "untuned model"
    return {
        **result,
        "kind": result["verdict"].replace(" ", "-"),
        "headline": f"{HEADLINES[result['verdict']]} the {base}" + "".join(but + badge for badge in badges),
        "badges": badges,
        "where": where,
        "n": summary["n"],
        "groups": summary.get("groups"),
        "words": words,
        "plainly": _plainly(summary, result),
        "again": summary.get("asked_again"),
        "chart": difference_bar(
            result["difference"],
            result["low"],
            result["high"],
            result["verdict"],
            (f"{base} better", "tuned model better"),
        ),
    }


def _plainly(summary: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """The scores as numbers of rows, for graders that call a row right or wrong; else ""."""
    by_name = {entry["name"]: entry for entry in summary["candidates"]}
    base, tuned = by_name[result["baseline"]], by_name[result["candidate"]]
    if without_options(summary["grader"]) not in RIGHT_OR_WRONG or None in (base["score"], tuned["score"]):
        return ""
    low, high = (round(100 * tuned[key]) for key in ("low", "high"))
    return (
        f"Of 100 rows like these, the tuned model answers about {100 * tuned['score']:.0f} correctly (95% "
        f"confidence: {low} to {high}), the best prompt about {100 * base['score']:.0f}."
    )


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
        return {
            **entry,
            "candidate": name,
            "name": shown.get(name, name),
            "about": explained(name, summary["grader"]),
            "kind": kind,
            "bar": bar,
            "corpus_score": corpus_score,
        }

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
        "lenient": any(entry.get("lenient") for entry in rows),
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
    best_step = result.get("best_step") if result.get("selected_by") else None
    scores = [] if rewarded else [(one["step"], one["valid_score"]) for one in lines if "valid_score" in one]
    return {
        "chart": training_curve(train_S, valid_S, "reward" if rewarded else "loss", best_step),
        "scores": training_curve([], scores, "score", best_step) if len(scores) > 1 else None,
        "log": not rewarded and flattened(train_S, valid_S),
        "names": [name for name, points_S in (("training", train_S), ("validation", valid_S)) if points_S],
        "caption": caption,
        "steps": max(step for step, _ in [*train_S, *valid_S]),
        "smoothing": smooth(train_S)[1],
        "best": min(valid_S, key=lambda point: point[1]) if valid_S and not rewarded else None,
        "kept": best_step,
        "retention": [(line["step"], line["valid_retention"]) for line in lines if "valid_retention" in line],
        "by_score": result.get("selected_by") == "score",
        "time": duration(sum(line.get("seconds") or 0.0 for line in lines)) if train_S else "",
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
    labels = Counter(example.tags.get("label") for example in examples_of(run_path, "train"))
    labels.pop(None, None)
    return {
        "counts": counts + ([("sealed test", sealed)] if sealed is not None else []),
        "rejected": len(rejected),
        "reasons": [
            (row.get("place") or location(str(row.get("file")), row.get("line")), clip(row["reason"]))
            for row in rejected[:REJECTED_SHOWN]
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
    if not (shown and "recipe" in shown[0]):
        limits.append(elsewhere if page["tuned"] else seeds)
    if shown and not (page["retention"] or page["general"]):
        limits.append("Whether the model kept its general ability was not measured.")
    if shown and not page["robustness"]:
        limits.append(
            "Whether answers hold for typos, other case or spaces is not known (evaluate --perturb)."
        )
    if shown and shown[0]["split"] == "validation":
        limits.append(
            "These are validation rows, on which the checkpoint was chosen, so the scores are optimistic. "
            + (
                "This run has not opened the sealed test, and other runs have."
                if "looks_of_others" in shown[0]
                else "The sealed test has not been opened."
            )
        )
    if shown and (repeated := looks_words(shown[0], ledger.look_count(run_path))):
        limits.append(repeated)
    apart = "No prompt is on both sides of the split"
    if "leak" in page["allowed"]:
        apart = "Some prompts are on both sides of the split, since the rule leak was overridden"
    limits.append(f"{apart}; leakage through paraphrases was not checked.")
    return limits
