"""The part of a run's page on robustness: how the answers change when rows are perturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetooth.evaluation.perturbations.kinds import KINDS
from finetooth.evaluation.perturbations.robustness import ADDITION, FILE, TOLERANCE
from finetooth.evaluation.statistics import MIN_ROWS
from finetooth.evaluation.summary import TUNED
from finetooth.evaluation.verdict_words import percent, points
from finetooth.report.answers import clip
from finetooth.report.evidence import Evidence, Line
from finetooth.rundir import read_json

ABOUT = {
    **{name: kind.words for name, kind in KINDS.items()},
    ADDITION: "with a training row of the same label behind it, so that more speaks for the label",
}

PLAIN = {  # the kinds in a sentence, where their names do not say it
    "case": "other case",
    "punctuation": "other punctuation",
    "whitespace": "other spaces",
    "names": "other names",
    "numbers": "other numbers",
    ADDITION: "a further row of the same label",
}


def robustness_part(run_path: Path) -> dict[str, Any] | None:
    """A line for each kind with both candidates, words on rows out of scope, and examples.

    None where it was not measured, or no row could be perturbed.
    """
    file = run_path / FILE
    if not file.is_file():
        return None
    found = read_json(file)
    by_name = {one["name"]: {part["kind"]: part for part in one["kinds"]} for one in found["candidates"]}
    tuned = {kind: part for kind, part in by_name.pop(TUNED, {}).items() if part["difference"] is not None}
    prompt = next(iter(by_name), None)
    lines = []
    for kind, part in tuned.items():
        base = by_name.get(prompt or "", {}).get(kind)
        base = base if base and base["difference"] is not None else None
        lines.append({"kind": kind, "about": ABOUT[kind], "tuned": part, "base": base})
    scope = found.get("out_of_scope")
    if not lines and scope is None:
        return None
    return {
        "rows": found["rows"],
        "prompt": prompt,
        "lines": lines,
        "lost": [line["kind"] for line in lines if line["tuned"]["loses"]],
        "tests": len(lines),
        "again": found["again"],
        "fell": fall_words(tuned.get(ADDITION, {})),
        "scope": scope_words(scope) if scope else "",
        "examples": [(line["kind"], examples) for line in lines if (examples := _examples(line["tuned"]))],
    }


def robustness_line(evidence: Evidence) -> Line | None:
    """The kind of change that costs most, and the losses that are proven; None where none was measured.

    A kind with few rows says little, so it is only counted.
    """
    found = robustness_part(evidence.path)
    if found is None or not found["lines"]:
        return None
    kinds = {PLAIN.get(line["kind"], line["kind"]): line["tuned"] for line in found["lines"]}
    tested = {kind: one for kind, one in kinds.items() if one["units"] >= MIN_ROWS}
    few = len(kinds) - len(tested)
    if not tested:
        return Line("Robustness", f"Nothing is proven: no kind of change has {MIN_ROWS} rows or more.")
    kind = min(tested, key=lambda name: tested[name]["difference"])
    worst, lost = tested[kind], [name for name, one in tested.items() if one["loses"]]
    words = (
        f"With {kind} the score changes by {points(worst['difference'])} points (95% CI "
        f"{points(worst['low'])} to {points(worst['high'])})"
    )
    words += f", the worst of {len(tested)} kinds of change" if len(tested) > 1 else ""
    words += f"; a loss is proven with {' and '.join(lost)}." if lost else "; no loss is proven."
    words += f" {few} more {'has' if few == 1 else 'have'} fewer than {MIN_ROWS} rows." if few else ""
    return Line("Robustness", words, "loss" if lost else "", "worse" if lost else "")


def fall_words(part: dict[str, Any]) -> str:
    """How often a label got less likely although more speaks for it; "" where that is not known."""
    fell = part.get("fell")
    if fell is None:
        return ""
    return (
        f"With a further row of the same label, the expected label became more than {100 * TOLERANCE:.0f} "
        f"points less likely in {fell['rows']:,} of {fell['of']:,} rows ({percent(fell['share'])}, 95% "
        f"confidence interval {percent(fell['low'])} to {percent(fell['high'])}); it should not."
    )


def scope_words(scope: dict[str, Any]) -> str:
    """What happens to rows that are no business of the task."""
    handed, own = scope["handed_over"], percent(scope["own_handed_over"])
    limit = percent(scope["threshold"])
    below = (
        f"{limit}, the threshold by your costs, and would be handed over, as would {own} of the task's rows"
    )
    if not scope["chosen"]:
        below = f"{limit}, which nine of ten of the task's own rows reach"
    return (
        f"Out of scope: of {scope['rows']} general questions and texts that are probably no business of the "
        f"task, {handed['rows']} ({percent(handed['share'])}, 95% confidence interval "
        f"{percent(handed['low'])} to {percent(handed['high'])}) get a confidence below {below}. Of one such "
        f"row and one of the task's own, the own has the higher confidence in {percent(scope['separation'])} "
        "of pairs."
    )


def _examples(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows whose answer flipped, with their texts clipped."""
    texts = ("before", "after", "want", "answer_before", "answer_after")
    return [{**one, **{key: clip(one[key]) for key in texts}} for one in part["examples"] if one["flipped"]]
