"""What a run's report does not show, as sentences: what was not checked, and what weakens its figures."""

from __future__ import annotations

from pathlib import Path

from finetooth.evaluation import ledger
from finetooth.evaluation.general import FILE as GENERAL
from finetooth.evaluation.graders import PERPLEXITY, PREFERENCE, without_options
from finetooth.evaluation.proof import looks_words
from finetooth.evaluation.retention import FILE as RETENTION
from finetooth.evaluation.slices import SUPPORT
from finetooth.report.evidence import Evidence
from finetooth.report.robustness_part import robustness_line
from finetooth.report.slices_part import slices_line


def limits(evidence: Evidence) -> list[str]:
    """What was not measured or is not known, the most important first."""
    found, summary, config = [], evidence.summary, evidence.config
    trained, preflight = (evidence.json(f"train/{name}.json") for name in ("result", "preflight"))
    if trained.get("preflight") == "off":
        found.append("The preflight check was off: the training setup was not tested before training.")
    else:
        found += [f"The preflight check was incomplete: {note}." for note in preflight.get("notes", [])]
    if summary and summary["split"] == "validation":
        found.append(
            "These are validation rows, on which the checkpoint was chosen, so the scores are optimistic. "
            + (
                "This run has not opened the sealed test, and other runs have."
                if "looks_of_others" in summary
                else "The sealed test has not been opened."
            )
        )
    if summary and (repeated := looks_words(summary, ledger.look_count(evidence.path))):
        found.append(repeated)
    if summary:
        found.append(f"Measured on {summary['n']:,} rows; rows from another source or period may be harder.")
    seed = config.get("seed", "?")
    elsewhere = "The model was trained elsewhere: whether it was trained on some of these rows is not known."
    seeds = (
        f"One training seed ({seed}): another seed gives a somewhat better or worse model (train.seeds: 3 "
        "shows how much)."
    )
    if not (summary and "recipe" in summary):
        found.append(elsewhere if config.get("tuned") else seeds)
    found += _not_measured(evidence) if summary else []
    apart = "No prompt is on both sides of the split"
    if "leak" in evidence.json("data/check.json").get("allowed", []):
        apart = "Some prompts are on both sides of the split, since the rule leak was overridden"
    return [*found, f"{apart}; leakage through paraphrases was not checked."]


def _not_measured(evidence: Evidence) -> list[str]:
    """What `run` and `evaluate` can measure and have not, with the key or the command that does."""
    found = []
    panel, tasks = ((evidence.path / name).is_file() for name in (RETENTION, GENERAL))
    if not (panel or tasks):
        found.append(
            "Whether the model kept its general ability was not measured (evaluate.retention: true; on your "
            "own tasks, evaluate.general: [TASK])."
        )
    elif not panel:
        found.append("The panel of general questions was not asked (evaluate.retention: true).")
    elif not tasks:
        found.append("Whether it does other tasks as well as before is not known (evaluate.general: [TASK]).")
    missing = evidence.json(GENERAL).get("missing", ())
    found += [f"The neighbouring task {Path(one['file']).name} was not measured." for one in missing]
    answers = without_options((evidence.summary or {})["grader"]) not in (PERPLEXITY, PREFERENCE)
    if answers and robustness_line(evidence) is None:
        found.append(
            "Whether answers hold for typos, other case or spaces is not known (evaluate RUN --perturb true)."
        )
    if slices_line(evidence) is None:
        found.append(
            f"Weak groups of rows were not looked for: that takes {SUPPORT} validation rows in a group and "
            "outside of it (data.validation)."
        )
    return found
